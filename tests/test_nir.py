"""Graphs of NIR: networks come back with the same spikes, foreign graphs do what NIR's equations say, the rest is refused by
name.
"""

import contextlib
import io
import itertools

import numpy as np
import pytest
from small_runs import complaints, fire, small_run

from minisnn import UsageError, cli, data, energy, interop, models, nn, no_grad, train
from minisnn.data import images
from minisnn.engine import Tensor

nir = pytest.importorskip("nir")
T = 3


@pytest.fixture(scope="module")
def digits():
    """Real samples: [T, 6, 1, 16, 16]."""
    return data.load("digits", timesteps=T).test.batch(range(6))


def built(x, preset="digits", dtype="float64", **options):
    """A network of width 8 whose layers fire on x."""
    net = models.build(preset, width=8, timesteps=len(x), dtype=dtype, seed=0, **options)
    return fire(net, Tensor(x, dtype=dtype))


def spikes(net, x):
    """{name: spikes} of all layers of neurons, and the scores."""
    heard = {}
    with contextlib.ExitStack() as stack:
        for name, module in net.named_modules():
            if isinstance(module, nn.Neurons):
                stack.enter_context(nn.listen(module, lambda _, out, name=name: heard.__setitem__(name, out.data)))
        stack.enter_context(no_grad())
        scores = net(x)
    return heard, scores.data


def same_spikes(net, other, x):
    """Both networks give the same spikes in each layer of neurons, of which some fire, and the same scores."""
    (a, first), (b, second) = spikes(net.eval(), x), spikes(other, x)
    for name, heard in a.items():  # a fused layer is not heard
        np.testing.assert_array_equal(heard, b[name], name)
    one, two = energy.measure(net, x, fold_norm=True), energy.measure(other, x)
    assert one.rates == {name.removesuffix(".lif"): rate for name, rate in two.rates.items()}  # layer by layer
    assert one.spikes == pytest.approx(two.spikes) and one.spikes > 0 and one.ac == two.ac and one.mac == two.mac
    np.testing.assert_allclose(first, second, rtol=1e-12 if first.dtype == np.float64 else 1e-4, atol=1e-7)


KINDS = [
    *(dict(residual=name) for name in ("or", "add", "and", "iand", "none", "vanilla", "ms")),
    *(dict(neuron=name) for name in ("if", "plif", "synaptic")),
    dict(removed=(1, 3)),
    dict(dropout=0.5),
]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_the_round_trip_gives_the_same_spikes_on_real_samples(options, digits, tmp_path):
    net = built(digits, **options)
    interop.save_nir(net, tmp_path / "net.nir", (1, 16, 16))
    other = interop.load_nir(tmp_path / "net.nir")
    assert other.dtype == "float64" and [path.name for path in tmp_path.iterdir()] == ["net.nir"]
    same_spikes(net, other, digits)
    again = interop.from_nir(interop.to_nir(other, (1, 16, 16)))  # and what was read can be written
    np.testing.assert_array_equal(spikes(other, digits)[1], spikes(again, digits)[1])


def test_max_pools_of_spikes_and_gestures():
    x = data.load("gestures", timesteps=T).test.batch(range(2))  # [T, 2, 2, 32, 32], simulated events
    net = built(x, "dvsgesture")
    graph = interop.to_nir(net, x.shape[2:])
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds.count("SumPool2d") == 1 and kinds.count("Threshold") == 4
    same_spikes(net, interop.from_nir(graph), x)
    with_if = interop.from_nir(interop.to_nir(net, x.shape[2:], thresholds="if"))
    np.testing.assert_array_equal(spikes(net, x)[1], spikes(with_if, x)[1])


def test_float32_differs_in_next_to_nothing(digits):
    net = built(digits, dtype="float32")
    other = interop.from_nir(interop.to_nir(net, (1, 16, 16)))
    assert other.dtype == "float32"
    one, two = energy.measure(net, digits, fold_norm=True), energy.measure(other, digits)
    assert two.spikes == pytest.approx(one.spikes, rel=1e-3)


def test_the_imported_network_evaluates_and_streams(digits):
    net = built(digits)
    other = interop.from_nir(interop.to_nir(net, (1, 16, 16)))
    samples = data.load("digits", timesteps=T).test
    first, second = (train.evaluate(n, samples, limit=40) for n in (net, other))
    np.testing.assert_array_equal(first["confusion"], second["confusion"])
    if hasattr(nn, "Stream"):
        stream = nn.Stream(other)
        for t in range(T):
            scores = stream(digits[t : t + 1])
        np.testing.assert_array_equal(scores.data, nn.Stream(other)(digits).data)
        np.testing.assert_allclose(scores.data, spikes(other, digits)[1], rtol=1e-12)


def test_a_removed_shortcut_is_left_out(digits):
    graph = interop.to_nir(built(digits, removed=(2,)), (1, 16, 16))
    assert "stages.0.join" in graph.nodes and not any(name.startswith("stages.1.shortcut") for name in graph.nodes)
    assert all(
        node.v_threshold.shape == node.r.shape and node.r.ndim == 3 for name, node in graph.nodes.items() if "lif" in name
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dt", [1e-3, 1e-4, 0.25])
def test_constants_survive_to_the_bit(dt, dtype):
    made = np.array([1.1, 2.0, 3.0]).astype(dtype)
    layers = [
        nn.LIF(tau=3.0, v_threshold=0.7),
        nn.LIF(tau=made, v_threshold=made, v_reset=-0.25, decay_input=False),
        nn.IF(v_threshold=made),
        nn.PLIF(init_tau=2.0, dtype=dtype),
        nn.Synaptic(tau_syn=5.0, tau=2.0, decay_input=False),
        nn.Synaptic(tau_syn=7.0, tau=3.0, v_reset=-0.5),
    ]
    net = nn.Sequential(nn.Linear(3, 3, dtype=dtype), *layers)
    back = interop.from_nir(interop.to_nir(net, (3,), dt=dt))
    assert back.dt == dt
    for layer, part in zip(layers, [*back.parts.values()][1:]):
        for name, value in layer.options.items():
            if name in ("tau", "tau_syn", "v_reset", "decay_input"):
                np.testing.assert_array_equal(part.options[name], value, name)
            if name == "v_threshold":
                np.testing.assert_array_equal(np.asarray(part.options[name], dtype), np.asarray(value, dtype))
    assert back.parts["4"].options["tau"] == pytest.approx(layers[3].tau, rel=1e-6)


def test_what_reaches_the_threshold_fires_here_and_not_in_nir():
    neurons = nn.Sequential(nn.LIF(tau=2.0, v_threshold=1.0))
    x = np.full((1, 1, 1), 2.0, np.float32)  # charges to 1 exactly
    assert neurons(Tensor(x)).data.item() == 1
    graph = interop.to_nir(neurons, (1,))
    assert graph.nodes["0"].v_threshold.item() == np.nextafter(np.float32(1), np.float32(0))
    assert interop.from_nir(graph)(x).data.item() == 1
    graph.nodes["0"].v_threshold[:] = 1
    assert interop.from_nir(graph)(x).data.item() == 0
    assert interop.from_nir(graph)(np.nextafter(x, np.float32(9))).data.item() == 1


def euler(node, x, dt):
    """NIR's equations in steps of dt: x [T, F] -> spikes. The definition."""
    v, i, out = node.v_reset.copy(), np.zeros(x.shape[1]), []
    for current in x:
        if isinstance(node, nir.CubaLIF):
            i = i + dt / node.tau_syn * (-i + node.w_in * current)
            v = v + dt / node.tau_mem * (node.v_leak - v + node.r * i)
        elif isinstance(node, nir.LIF):
            v = v + dt / node.tau * (node.v_leak - v + node.r * current)
        else:
            v = v + dt * node.r * current
        out.append(v > node.v_threshold)
        v = np.where(out[-1], node.v_reset, v)
    return np.array(out)


def full(*values):
    return np.array(values, np.float64)


FOREIGN = {
    "LIF": nir.LIF(
        tau=full(2e-4, 5e-4), r=full(3, 0.5), v_leak=full(0.1, -0.3), v_threshold=full(1, 0.4), v_reset=full(-0.2, -0.2)
    ),
    "LIF of r = tau": nir.LIF(tau=full(3e-4), r=full(3), v_leak=full(0), v_threshold=full(1)),
    "IF": nir.IF(r=full(1e4, 7e3), v_threshold=full(1, 2)),
    "CubaLIF": nir.CubaLIF(
        tau_syn=full(4e-4), tau_mem=full(2e-4), r=full(1.7), v_leak=full(0), v_threshold=full(1), w_in=full(2.2)
    ),
    "CubaLIF of the peers": nir.CubaLIF(
        tau_syn=full(4e-4), tau_mem=full(2e-4), r=full(2), v_leak=full(0), v_threshold=full(1), w_in=full(4)
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_neurons_do_what_the_equations_say(name):
    node = FOREIGN[name]
    size = node.v_threshold.size
    graph = nir.NIRGraph.from_list(nir.Input({"input": np.array([size])}), node, nir.Output({"output": np.array([size])}))
    x = np.random.default_rng(0).normal(0.7, 1.0, (40, size))
    net = interop.from_nir(graph, dt=1e-4, dtype="float64")
    wanted = euler(node, x, 1e-4)
    np.testing.assert_array_equal(net.steps(x[:, None]).data[:, 0], wanted)
    assert 0.05 < wanted.mean() < 0.9


def test_pools_scales_and_convolutions_of_foreign_graphs():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(2, 1, 3, 3)), rng.normal(size=2)
    graph = nir.NIRGraph.from_list(
        nir.Input({"input": np.array([1, 8, 12])}),
        nir.Conv2d((8, 12), weight, 1, "same", 1, 1, bias),
        nir.Scale(np.full((2, 8, 12), -1.5)),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.AvgPool2d(np.array([4, 6]), np.array([4, 6]), np.array([0, 0])),
        nir.Flatten({"input": np.array([2, 1, 1])}, 0, -1),
        nir.Linear(rng.normal(size=(3, 2))),
        nir.Output({"output": np.array([3])}),
    )
    net, x = interop.from_nir(graph), rng.normal(size=(2, 3, 1, 8, 12))
    padded = np.pad(x[..., 0, :, :], [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    maps = np.einsum("tnhwij,cij->tnchw", windows, weight[:, 0]) + bias[:, None, None]
    wanted = -1.5 * 4 * maps.mean((-2, -1)) @ graph.nodes["linear"].weight.T
    np.testing.assert_allclose(net.steps(x).data, wanted, rtol=1e-9)


class Odd(nn.Module):
    pass


Odd.__module__ = "elsewhere"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: models.build("digits", attention="t", width=8, timesteps=T), "attention .* features.0.attention and .* more"),
        (lambda: models.build("digits", attention="c", ma=False, width=8), "attention .* stages.0.shortcut.attention"),
        (lambda: models.build("digits", neuron="alif", width=8), "no node for stem.lif, an ALIF"),
        (lambda: models.build("dvsgesture", residual="ms", width=8), "max pool of spikes only: max_pool"),
        (lambda: models.build("cifar10dvs", width=8), r"give the size \(2, 48, 48\)"),
        (lambda: nn.Sequential(nn.LIF(v_reset=None)), "soft reset, which the neurons 0 have"),
        (lambda: nn.Sequential(nn.LIF(smooth=True)), "smooth"),
        (lambda: nn.Sequential(nn.BatchNorm2d(1)), "0 does not follow a convolution"),
        (lambda: nn.Sequential(Odd()), "no node for 0, an Odd"),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 3)), "0 reads 3 channels"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 99)), "does not fit"),
        (lambda: nn.Sequential(nn.MaxPool2d(2)), "max pool of spikes only: 0"),
    ],
)
def test_what_nir_cannot_hold_is_refused_by_name(make, words):
    net = make()
    size = {"dvsgesture": (2, 32, 32), "cifar10dvs": (2, 128, 128)}.get(
        getattr(getattr(net, "config", None), "preset", ""), (1, 16, 16)
    )
    with pytest.raises(ValueError, match=words):
        interop.to_nir(net, size)


def test_what_only_some_joins_can_say(digits):
    with pytest.raises(ValueError, match="stages.0.join, an AND or IAND"):
        interop.to_nir(models.build("digits", residual="and", width=8), (1, 16, 16), thresholds="if")
    for options in (dict(dt=0.0), dict(dt=np.nan), dict(thresholds="x"), dict(size=(1, 0, 3))):
        with pytest.raises(ValueError, match=next(iter(options))):
            interop.to_nir(models.build("digits", width=8), **{"size": (1, 16, 16)} | options)
    net = interop.from_nir(interop.to_nir(built(digits), (1, 16, 16)))
    with pytest.raises(ValueError, match=r"give \[T, N, 1, 16, 16\]"):
        net(digits[..., :8])
    with pytest.raises(ValueError, match="give that size"):
        interop.to_nir(net, (1, 8, 8))


def graph_of(*nodes, edges=None):
    names = ["input", *(f"n{k}" for k in range(len(nodes))), "output"]
    ends = (nir.Input({"input": np.array([1, 4, 4])}), nir.Output({"output": np.array([1, 4, 4])}))
    edges = [*itertools.pairwise(names)] if edges is None else edges
    return nir.NIRGraph(dict(zip(names, (ends[0], *nodes, ends[1]))), edges, type_check=False)


def conv(**changes):
    return nir.Conv2d(
        **dict(input_shape=(4, 4), weight=np.ones((1, 1, 1, 1)), stride=1, padding=0, dilation=1, groups=1, bias=full(0))
        | changes
    )


def lif(tau=2e-3, **changes):
    shape = (1, 4, 4)
    return nir.LIF(
        **{name: np.full(shape, value) for name, value in dict(tau=tau, r=1.0, v_leak=0.0, v_threshold=1.0).items()} | changes
    )


@pytest.mark.parametrize(
    "graph, words",
    [
        (lambda: graph_of(conv(groups=2)), "n0: a convolution of 2 groups"),
        (lambda: graph_of(conv(dilation=2)), "n0: a convolution of 1 groups and dilation"),
        (lambda: graph_of(conv(weight=np.full((1, 1, 1, 1), np.nan))), "n0: weight holds NaN"),
        (lambda: graph_of(conv(bias=full(0, 0))), "n0: weight .* and bias"),
        (lambda: graph_of(nir.Delay(np.ones((1, 4, 4)))), "n0 is a Delay, which cannot be read"),
        (lambda: graph_of(nir.I(np.ones((1, 4, 4)))), "n0 is an I, which"),
        (lambda: graph_of(lif(tau=2e-4)), "n0: tau is 0.0002 s, 0.2 steps of dt = 0.001 s"),
        (
            lambda: graph_of(lif(v_threshold=np.arange(1.0, 17).reshape(1, 4, 4))),
            "n0: v_threshold differs from neuron to neuron",
        ),
        (lambda: graph_of(nir.SumPool2d(np.array([2, 1]), np.array([1, 1]), np.array([0, 0]))), "n0: a pool of"),
        (
            lambda: graph_of(conv(), lif(), edges=[("input", "n0"), ("n0", "n1"), ("n1", "n0"), ("n1", "output")]),
            "goes in circles",
        ),
        (lambda: graph_of(conv(), lif(), edges=[("input", "n0"), ("n0", "output")]), "nothing leads to n1"),
        (lambda: graph_of(nir.Input({"input": np.array([1])})), "2 nodes Input"),
    ],
)
def test_graphs_that_cannot_be_read_are_refused_by_name(graph, words):
    made = graph()
    for node in made.nodes.values():
        if type(node).__name__ == "SumPool2d":
            node.input_type = {"input": np.array([1, 4, 4])}
    with pytest.raises(ValueError, match=words):
        interop.from_nir(made)


def test_files_that_are_damaged_or_foreign_are_one_line(tmp_path):
    path, h5py = tmp_path / "net.nir", pytest.importorskip("h5py")
    interop.save_nir(nn.Sequential(nn.Linear(3, 2), nn.LIF()), path, (3,), dt=1e-4)
    good, empty = path.read_bytes(), io.BytesIO()
    assert interop.load_nir(path).dt == 1e-4 and interop.load_nir(path, dt=2e-4).dt == 2e-4
    with h5py.File(empty, "w"):
        pass
    rng = np.random.default_rng(0)
    damaged = [np.frombuffer(good, np.uint8).copy() for _ in range(12)]
    for array in damaged:
        array[rng.integers(0, len(good), 40)] = rng.integers(0, 256, 40)
    for content in (b"", b"x", good[:-400], good[:600], empty.getvalue(), *(array.tobytes() for array in damaged)):
        path.write_bytes(content)
        try:
            interop.load_nir(path)
        except UsageError as error:
            assert "net.nir" in str(error) and "\n" not in str(error)
    heap = good.index(b"GCOL")  # an object of no size, from which HDF5 would never get to the next
    rest = next(k for k in range(heap + 16, len(good), 8) if good[k : k + 8] == bytes(8) and any(good[k + 8 : k + 16]))
    path.write_bytes(good[: rest + 8] + bytes(8) + good[rest + 16 :])
    with pytest.raises(UsageError, match=f"heap at byte {heap} has an object of 0 bytes"):
        interop.load_nir(path)
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match="which is HDF5"):
        interop.load_nir(path)
    with pytest.raises(UsageError, match="cannot be read"):
        interop.load_nir(tmp_path / "none.nir")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "TEST_SHARE", 0.02)
    small_run(tmp_path / "or")
    small_run(tmp_path / "t", "syna-t")
    assert cli.main(["export", "or", "--to", "nir", "--dt", "1e-4", "--out", "or.nir", "--json"]) == 0
    assert '"size": [1, 16, 16]' in capsys.readouterr().out
    assert interop.load_nir("or.nir").dt == 1e-4
    for words, said in (
        (["export", "t", "--to", "nir", "--out", "t.nir"], "cannot hold attention"),
        (["import", "or.nir", "--dataset", "digits", "--model", "or", "--out", "x"], "load_nir"),
        (["export", "or", "--to", "nir", "--dt", "0", "--out", "t.nir"], "--dt"),
    ):
        assert cli.main(words) == 2
        (line,) = complaints(capsys.readouterr().err)
        assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["or", "or.nir", "t"]
