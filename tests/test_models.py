"""The networks: every preset, residual, attention and position is built, runs, and keeps the promises of the interface."""

import contextlib
import functools

import numpy as np
import pytest
from checks import threads
from hypothesis import given, settings
from hypothesis import strategies as st

import minisnn as snn
from minisnn import Tensor, ledger, models, nn, no_grad, ops
from minisnn.catalogue import CATALOGUE
from minisnn.models import POSITIONS, RESIDUALS

SMALL = {"dvsgesture": 16, "cifar10dvs": 12}  # height and width; any will do


def network(preset="digits", timesteps=2, **options):
    options = dict(width=8, seed=0) | options
    return models.build(preset, timesteps=timesteps, **options)


def images(net, samples=2, size=None, seed=0):
    """An input that makes every layer of a small network fire."""
    config = net.config
    shape = config.timesteps, samples, CATALOGUE[config.preset].stem.channels, *[size or SMALL.get(config.preset, 8)] * 2
    return np.random.default_rng(seed).random(shape).astype(config.dtype) * 4


def lively(net, x):
    """Move the running statistics to those of x and lift the biases, so that no layer keeps silent in evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.bias.data += 1.0
    with no_grad():
        net(x)
    return net.eval()


def runs(net):
    """Forward and backward once; every parameter gets a finite gradient."""
    x = images(net)
    out = net(x)
    classes = CATALOGUE[net.config.preset].stem.classes
    assert out.shape == (2, classes) and out.dtype == net.config.dtype
    ops.mse_loss(out, ops.one_hot([0, 1], classes)).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.shape == p.shape and np.isfinite(p.grad).all(), name


@pytest.mark.parametrize("preset", [name for name, row in CATALOGUE.items() if row.maps])
def test_presets(preset):
    net = network(preset, attention="s")
    stem = CATALOGUE[preset].stem
    assert net.stem.conv.weight.shape == (8, stem.channels, stem.kernel, stem.kernel)
    assert net.features[0].attention.weight.shape == (1, 2, stem.space_kernel, stem.space_kernel)
    runs(net)


@pytest.mark.parametrize("attention", [None, "t", "c", "s"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_residuals_with_every_attention(residual, attention):
    runs(network(residual=residual, attention=attention))


@pytest.mark.parametrize("position", POSITIONS)
def test_positions(position):
    """Table V: behind the first convolution of each pair (a, c) or the second (b, d); c, d skip the pair behind the join."""
    net = network(attention="c", position=position)
    with_ma = [unit.attention is not None for unit in net.features]
    for stage in net.stages:
        with_ma += [unit.attention is not None for unit in (*stage.main, *stage.after)]
        assert stage.shortcut.attention.spiking
    pair, none = [position in "ac", position in "bd"], [False, False]
    assert with_ma == pair * 2 + (pair + (pair if position in "ab" else none)) * 3
    runs(net)


@pytest.mark.parametrize("ma, ia", [(True, False), (False, True), (False, False)])
def test_halves_of_the_attention(ma, ia):
    net = network(attention="t", ma=ma, ia=ia)
    kinds = [module.spiking for module in net.modules() if isinstance(module, nn.Attention)]
    assert kinds.count(False) == 8 * ma and kinds.count(True) == 3 * ia


def test_parts_in_the_order_of_definition():
    """stem, features, stages (main, shortcut, after), head: so that another build is filled by walking both lists."""
    names = [name for name, _ in network(attention="t", position="a").named_parameters()]

    def unit(prefix, ma):
        return [
            f"{prefix}.conv.weight",
            f"{prefix}.norm.weight",
            f"{prefix}.norm.bias",
            *([f"{prefix}.attention.squeeze", f"{prefix}.attention.excite"] if ma else []),
        ]

    expected = unit("stem", False)
    for k in range(4):
        expected += unit(f"features.{k}", k % 2 == 0)
    for k in range(3):
        expected += unit(f"stages.{k}.main.0", True) + unit(f"stages.{k}.main.1", False) + unit(f"stages.{k}.shortcut", True)
        expected += unit(f"stages.{k}.after.0", True) + unit(f"stages.{k}.after.1", False)
    assert names == expected + ["head.weight", "head.bias"]
    buffers = [name for name, _ in network().named_buffers()]
    norms = [name for name in expected if name.endswith("norm.weight")]
    assert buffers == [name.replace("weight", "running_" + kind) for name in norms for kind in ("mean", "var")]


@pytest.mark.parametrize("width, timesteps", [(8, 1), (16, 3), (24, 5), (64, 16)])
def test_shapes_of_parameters(width, timesteps):
    w, t = width, max(1, timesteps // 4)
    p = dict(network(attention="t", width=w, timesteps=timesteps).named_parameters())
    assert p["features.0.conv.weight"].shape == (w, w, 3, 3)
    assert p["stages.2.shortcut.conv.weight"].shape == (8 * w, 4 * w, 1, 1)
    assert p["features.0.attention.squeeze"].shape == (t, timesteps)
    assert p["features.0.attention.excite"].shape == (timesteps, t)
    assert p["head.weight"].shape == (10, 8 * w) and p["head.bias"].shape == (10,)
    p = dict(network(attention="c", width=w, timesteps=timesteps).named_parameters())
    assert p["stages.0.shortcut.attention.squeeze"].shape == (8, 2 * w)
    assert sum(q.size for q in network(residual="none", width=64).parameters()) == sum(
        q.size for q in network(width=64).parameters()
    ) - sum(2 * c * c + 4 * c for c in (64, 128, 256))


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 6), st.sampled_from([8, 16, 24]), st.integers(1, 3), st.integers(4, 13), st.integers(4, 13))
def test_any_number_of_steps_width_and_map(T, width, samples, height, breadth):
    net = network(timesteps=T, width=width)
    x = np.random.default_rng(0).random((T, samples, 1, height, breadth), np.float32)
    if T * samples == 1 and max(height, breadth) <= 8:  # the last maps have one pixel, over which no variance can be taken
        net.eval()
    assert net(x).shape == (samples, 10)
    assert net(np.concatenate([x, x])).shape == (samples, 10)  # without attention over time T is free


@pytest.mark.parametrize("residual", ["or", "add", "and", "iand", "vanilla", "ms"])
def test_each_branch_of_a_join_runs_once(residual, monkeypatch):
    net, calls = network(residual=residual), []
    names = {id(m): name for name, m in net.named_modules()}
    forward = models.Unit.forward
    monkeypatch.setattr(models.Unit, "forward", lambda self, x: calls.append(names[id(self)]) or forward(self, x))
    net(images(net))
    assert len(calls) == 20 and len(set(calls)) == 20


@pytest.mark.parametrize("residual", ["or", "and", "iand", "add"])
def test_what_a_join_gives_to_the_next_convolution(residual, monkeypatch):
    """OR, AND and IAND of binary inputs are binary, held as bytes; ADD reaches 2."""
    net, seen = network(residual=residual), []
    x = images(net)
    lively(net, x)
    forward = nn.Join.forward

    def overheard(self, *branches):
        seen.append((*branches, forward(self, *branches)))
        return seen[-1][-1]

    monkeypatch.setattr(nn.Join, "forward", overheard)
    net(x)
    assert len(seen) == 3
    for main, shortcut, out in seen:
        assert main.is_spikes and shortcut.is_spikes and out.is_spikes == (residual != "add")
        if residual == "or":
            assert np.array_equal(out.storage, main.storage | shortcut.storage)
    values = {v for _, _, out in seen for v in np.unique(out.data)}
    assert values == ({0, 1, 2} if residual == "add" else {0, 1})


@pytest.mark.parametrize("residual, attention", [*((r, None) for r in RESIDUALS), ("or", "t"), ("or", "c"), ("or", "s")])
def test_a_sample_does_not_depend_on_its_batch_in_evaluation_mode(residual, attention):
    net = network(residual=residual, attention=attention, timesteps=4)
    x = images(net, samples=5)
    lively(net, x)
    with no_grad():
        together = net(x).data
        assert np.ptp(together, 0).any()
        for chosen in ([0], [3], [4, 1]):
            assert np.array_equal(net(np.ascontiguousarray(x[:, chosen])).data, together[chosen])


def test_evaluation_changes_nothing_and_keeps_nothing():
    net = network(attention="t")
    x = images(net)
    lively(net, x)
    before = net.state_dict()
    with no_grad():
        out = net(x)
        assert np.array_equal(out.data, net(x).data) and out.is_leaf
    assert all(np.array_equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("attention", [None, "t", "c", "s"])
def test_results_do_not_depend_on_the_number_of_threads(attention):
    results = []
    for n in (1, 2):
        with threads(n):
            net = network(attention=attention, timesteps=4, width=16)
            out = net(images(net, samples=3, size=16))
            ops.mse_loss(out, ops.one_hot([0, 1, 2], 10)).backward()
            results.append([out.data] + [p.grad for p in net.parameters()] + net.buffers())
    for one, two in zip(*results):
        assert np.array_equal(one, two)


def test_only_the_first_convolution_multiplies_unless_a_join_adds():
    for residual in ("or", "and", "iand", "add"):
        net = network(residual=residual)
        x = images(net)
        lively(net, x)
        with no_grad(), ledger.ledger() as entries:
            net(x)
        multiplied = {e.layer for e in entries if e.kind == "conv" and e.mac}
        assert multiplied == {"stem"} | ({f"stages.{k}.after.0" for k in range(3)} if residual == "add" else set())


# ---- equations 4 and 5 ------------------------------------------------------------------------------------------------


def test_vanilla_is_equation_4():
    """SN(g(W2 SN(W1 in), Ws in)): no neurons on the branches' ends, neurons behind the join."""
    net = network(residual="vanilla", dtype="float64")
    stage, x = net.stages[0], Tensor(np.random.default_rng(0).random((2, 2, 8, 6, 6)) < 0.3, dtype=np.float64)
    first, second = stage.main
    inner = second.norm(second.conv(ops.lif(first.norm(first.conv(x)))))
    expected = ops.lif(inner + stage.shortcut.norm(stage.shortcut.conv(x)))
    assert np.array_equal(stage(x).data, stage.after(expected).data) and expected.data.any()


def test_ms_is_equation_5():
    """g(W2 SN(W1 SN(in)), Ws SN(in)): neurons in front of each convolution."""
    net = network(residual="ms", dtype="float64")
    stage, x = net.stages[0], Tensor(np.random.default_rng(0).normal(0.5, 1, (2, 2, 8, 6, 6)))
    first, second = stage.main
    inner = second.norm(second.conv(ops.lif(first.norm(first.conv(ops.lif(x))))))
    expected = inner + stage.shortcut.norm(stage.shortcut.conv(ops.lif(x)))
    assert np.array_equal(stage(x).data, stage.after(expected).data)


def test_number_of_neuron_layers():
    """The OR net has 20. Vanilla has one behind each join in place of two in front; MS has one before each convolution."""
    for residual, count in (("or", 20), ("add", 20), ("none", 17), ("vanilla", 17), ("ms", 20)):
        layers = [m for m in network(residual=residual).modules() if isinstance(m, nn.LIF)]
        assert len(layers) == count, residual


# ---- removed shortcuts, state, seeds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", ["or", "add", "vanilla", "ms"])
def test_removed_shortcuts(residual):
    net = network(residual=residual, removed=(3, 1, 3))
    assert [stage.shortcut is None for stage in net.stages] == [True, False, True] and net.config.removed == (1, 3)
    runs(net)


def test_a_removed_shortcut_is_a_silent_one():
    whole, without = network(), network(removed=(2,))
    whole.stages[1].shortcut.norm.weight.data[:] = 0
    whole.stages[1].shortcut.norm.bias.data[:] = -1
    without.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("stages.1.shortcut")})
    assert np.array_equal(whole(images(whole)).data, without(images(whole)).data)


def test_state_round_trip():
    net, other = network(attention="t", seed=0), network(attention="t", seed=1)
    x = images(net)
    lively(net, x)
    state = net.state_dict()
    assert all(type(v) is np.ndarray and v.flags.c_contiguous for v in state.values())
    other.load_state_dict(state)
    other.eval()
    assert np.array_equal(net(x).data, other(x).data)
    state["head.bias"][:] = 7  # a copy
    assert not (net.head.bias.data == 7).any()


def test_a_state_that_does_not_fit_changes_nothing():
    net = network()
    before = net.state_dict()
    smaller = {k: v for k, v in before.items() if k != "head.bias"}
    wrong = before | {"head.bias": np.zeros(3)}
    for state, complaint in (
        (smaller, "1 missing .first: head.bias"),
        (before | {"tail": np.zeros(1)}, "1 unknown .first: tail"),
        (wrong, r"head.bias has shape \(3,\)"),
        (network(width=16).state_dict(), "has shape"),
        (network(attention="t").state_dict(), "unknown"),
    ):
        with pytest.raises(ValueError, match=f"another model.*{complaint}"):
            net.load_state_dict(state)
    with pytest.raises(ValueError, match="head.bias holds"):
        net.load_state_dict({k: v + 1 for k, v in before.items()} | {"head.bias": np.full(10, "x")})
    assert all(np.array_equal(before[k], v) for k, v in net.state_dict().items())


def test_seeds():
    one, two = (network(seed=3).state_dict() for _ in range(2))
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert not np.array_equal(one["head.weight"], network(seed=4).state_dict()["head.weight"])
    weights = []
    for _ in range(2):
        snn.manual_seed(5)
        weights.append(network(seed=None).state_dict()["head.weight"])
    assert np.array_equal(*weights)


def test_dtypes_agree():
    """The same weights in float32 and float64: scores differ by rounding alone (no spike of this case turns over)."""
    single, double = network(attention="t"), network(attention="t", dtype="float64")
    double.load_state_dict(single.state_dict())
    x = images(single)
    np.testing.assert_allclose(single(x).data, double(x).data, atol=1e-5)
    assert double(x).dtype == np.float64


# ---- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, complaint",
    [
        (dict(preset="imagenet"), "preset is 'imagenet'; give one of digits, mnist"),
        (dict(residual="xor"), "residual is 'xor'"),
        (dict(attention="x"), "attention is 'x'"),
        (dict(position="e"), "position is 'e'"),
        (dict(width=12), "width is 12"),
        (dict(width=True), "width is True"),
        (dict(width=0), "width is 0"),
        (dict(width=8.0), "width is 8.0"),
        (dict(timesteps=0), "timesteps is 0"),
        (dict(timesteps=2.5), "timesteps is 2.5"),
        (dict(dtype="float16"), "dtype is 'float16'"),
        (dict(removed=(4,)), r"removed is \(4,\)"),
        (dict(removed=(1,), residual="and"), "cannot do without"),
    ],
)
def test_options_out_of_range_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        models.build(**options)


@pytest.mark.parametrize("shape", [(2, 2, 3, 8, 8), (2, 1, 8, 8), (2, 0, 1, 8, 8), (0, 2, 1, 8, 8)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"network got an input of shape .*; give \[T, N, 1, H, W\]"):
        network()(np.zeros(shape, np.float32))


def test_another_number_of_steps_is_refused_by_attention_over_time():
    with pytest.raises(ValueError, match="3 time steps.*built for 2"):
        network(attention="t")(np.zeros((3, 1, 1, 8, 8), np.float32))


@pytest.mark.parametrize("preset", ["digits", "dvsgesture", "cifar10dvs"])
@pytest.mark.parametrize("residual", ["or", "vanilla", "ms", "none"])
def test_the_plan_is_what_the_network_does(preset, residual):
    """Each row's output is the shape that leaves that part, every parameter is in one row, and print shows all of them."""
    size = {"digits": 16, "dvsgesture": 32, "cifar10dvs": 40}[preset]
    net = models.build(preset, residual=residual, width=8, timesteps=1, seed=0).eval()
    seen = {}
    with contextlib.ExitStack() as stack:
        for name, module in net.named_modules():
            callback = functools.partial(lambda name, _, out: seen.__setitem__(name, out.shape[2:]), name)
            stack.enter_context(snn.nn.listen(module, callback))
        net(np.zeros((1, 1, net.stem.conv.weight.shape[1], size, size), np.float32))
    plan = net.plan(size)
    for row in plan:
        assert row.output == seen[{"max pool": "max_pool"}.get(row.name, row.name)], row
    assert sum(row.parameters for row in plan) == sum(p.size for p in net.parameters())
    assert len(repr(net).splitlines()) == len(plan) + 4
    assert ("shortcut" in repr(net)) == (residual != "none")


def test_a_module_prints_its_parts():
    net = snn.nn.Sequential(snn.nn.Conv2d(2, 4, 3, padding=1), snn.nn.Sequential(snn.nn.BatchNorm2d(4), snn.nn.LIF(tau=3.0)))
    lines = repr(net).splitlines()
    assert lines[0] == "Sequential()" and lines[1].startswith("  0: Conv2d(weight [4, 2, 3, 3], stride=1, padding=1")
    assert lines[2] == "  1: Sequential()" and lines[3].startswith("    0: BatchNorm2d(weight [4], bias [4]")
    assert lines[4].startswith("    1: LIF(tau=3.0, v_threshold=1.0")
