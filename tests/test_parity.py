"""Parity with PyTorch and SpikingJelly: the same weights and input in, the same numbers out, to 1e-9 in float64.

The other side's results lie in tests/parity, made there by make_dumps.py; recipe.py makes weights and inputs anew for both.
"""

import pathlib

import numpy as np
import pytest
from parity import recipe

from minisnn import Tensor, ledger, models, no_grad, ops

RTOL = 1e-9  # of the largest entry of each array


def network(case, facts):
    """Our build of a case, filled with the weights that the recipe makes from the case's seed; its input and targets."""
    options, shapes = recipe.options(case), [tuple(s[s > 0]) for s in facts["shapes"]]
    net = models.build(**options, width=recipe.WIDTH, timesteps=recipe.TIMESTEPS, dtype="float64", seed=0)
    assert [p.shape for p in net.parameters()] == shapes
    stream = np.random.RandomState(int(facts["seed"]))
    for p, values in zip(net.parameters(), recipe.parameters(shapes, stream), strict=True):
        p.data[...] = values
    return net, *recipe.inputs(options["preset"], stream)


def results(net, x, y):
    """{key: array} as make_dumps.py works them out."""
    x = Tensor(x, requires_grad=True)
    out = net(x)
    loss = ops.mse_loss(out, y)
    loss.backward()
    found = dict(out=out.data, loss=loss.data, gx=x.grad)
    found |= {f"g{k:04d}": p.grad for k, p in enumerate(net.parameters())}
    found |= {f"running{k:04d}": b.copy() for k, b in enumerate(net.buffers())}
    with no_grad():
        for _ in range(recipe.SETTLE):
            net(x)
        found["out_eval"] = net.eval()(x).data
    return found | {f"settled{k:04d}": b for k, b in enumerate(net.buffers())}


@pytest.mark.parametrize("case", recipe.CASES)
def test_parity(case):
    stored, facts = recipe.load(pathlib.Path(recipe.__file__).parent / f"{case}.npz")
    found = recipe.summary(results(*network(case, facts)))
    assert found.keys() == stored.keys()
    worst = {}
    for key, expected in stored.items():
        assert expected.size == np.size(found[key]) and np.abs(expected).max() > 0
        worst[key] = np.abs(np.ravel(found[key]) - expected).max() / np.abs(expected).max()
    key = max(worst, key=worst.get)
    assert worst[key] <= RTOL, f"{key} differs by {worst[key]:.1e}"


@pytest.mark.parametrize("case", recipe.CASES)
def test_stored_cases_are_lively_and_far_from_every_decision(case):
    """So that parity means something (all layers and gradients live) and rounding cannot turn a spike over."""
    stored, facts = recipe.load(pathlib.Path(recipe.__file__).parent / f"{case}.npz")
    assert facts["rates"].min() > 0 and facts["margins"].min() > 1e-8
    assert min(np.abs(a).max() for key, a in stored.items() if key.startswith("g")) > 1e-7
    assert len(facts["ia_rates"]) == 3 * (case.split("-")[2] != "none")
    assert all(rate > 0 for rate in facts["ia_rates"]) and not (len(facts["ia_rates"]) and min(facts["ia_rates"]) == 1)
    assert np.ptp(stored["out_eval"].reshape(recipe.BATCH, -1), 0).max() > 1e-6  # spikes reach the head in evaluation mode too


def test_firing_rates_are_the_peers():
    case = "mnist-or-t-a"
    _, facts = recipe.load(pathlib.Path(recipe.__file__).parent / f"{case}.npz")
    net, x, _ = network(case, facts)
    with no_grad(), ledger.ledger() as entries:
        net(x)
    rates = [e.spikes / e.neurons for e in entries if e.kind == "neurons"]
    np.testing.assert_allclose(rates, facts["rates"], rtol=1e-12)


def test_a_wrong_entry_shows():
    """The sketches of large gradients notice one entry that differs."""
    a = np.random.default_rng(0).standard_normal((64, 64))
    b = a.copy()
    b[3, 5] += 1e-6
    assert np.abs(recipe.sketch(a) - recipe.sketch(b)).max() > 1e-7
    assert recipe.summary({"g0000": a}).keys() == {"g0000.sketch"}
