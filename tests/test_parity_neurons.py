"""Parity of neurons with SpikingJelly 2.0 and snnTorch, whose results lie in tests/parity/neurons.npz (see make_neurons.py)."""

import numpy as np
import pytest
from parity import make_neurons

from minisnn import Tensor, nn

RTOL = 1e-10  # of the largest entry


@pytest.fixture(scope="module")
def stored():
    with np.load(make_neurons.FILE) as file:
        return dict(file)


def check(neurons, case, stored, rtol=RTOL, most=np.inf):
    """Assert equal spikes, and gradients to ``rtol``."""
    currents, grad = make_neurons.inputs()
    x = Tensor(currents.clip(max=most), requires_grad=True)
    s = neurons(x.reshape(*x.shape[:2], -1))
    s.backward(grad.reshape(s.shape))
    assert np.array_equal(s.data.reshape(x.shape) > 0, stored[f"{case}.s"]) and 0.1 < s.data.mean() < 0.9
    found = {"dx": x.grad} | {f"d{name}": p.grad for name, p in neurons.named_parameters()}
    assert {f"{case}.{name}" for name in found} == {name for name in stored if name.startswith(f"{case}.d")}
    for name, got in found.items():
        expected = stored[f"{case}.{name}"]
        assert got.shape == expected.shape and np.abs(got - expected).max() <= rtol * np.abs(expected).max(), name


@pytest.mark.parametrize("case", make_neurons.cases())
def test_neurons_are_those_of_spikingjelly(case, stored):
    kind, options = make_neurons.cases()[case]
    tau = {"if": {}, "lif": dict(tau=3.0), "plif": dict(init_tau=3.0, dtype="float64")}[kind]
    neurons = nn.NEURONS[kind](**tau, **options)
    for p in neurons.parameters():
        p.data = stored[f"{case}.w"]
    check(neurons, case, stored)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_lif_is_leaky_of_snntorch(reset, stored):
    """With the whole input, and its reset at once, through which the gradient flows. Its spikes are float32, and so are their
    gradients, whatever the dtype of the currents.
    """
    tau = 1 / (1 - float(stored[f"snntorch-{reset}.beta"]))  # beta is rounded to float32
    v_reset = 0.0 if reset == "zero" else None
    neurons = nn.LIF(tau, v_reset=v_reset, detach_reset=False, decay_input=False)
    check(neurons, f"snntorch-{reset}", stored, 1e-6, make_neurons.MOST)
