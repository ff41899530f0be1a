"""Networks of one's own: small layers, arrays, neurons and operations that the package does not know, and clear errors."""

import numpy as np
import pytest
from checks import close

from minisnn import Function, Tensor, data, energy, ledger, nn, ops, optim, train
from minisnn.surrogate import ATan


def numbers(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(0, 2, shape).astype(dtype)


# ---- layers --------------------------------------------------------------------------------------------------------------


def test_flatten_and_batch_norm_of_features():
    x = numbers(3, 4, 2, 3, 5)
    flat = nn.Flatten()(Tensor(x))
    assert np.array_equal(flat.data, x.reshape(3, 4, 30)) and nn.Flatten()(flat) is flat
    assert nn.Flatten()(Tensor(x > 0)).is_spikes
    one, two = nn.BatchNorm1d(30), nn.BatchNorm2d(30)
    for _ in range(2):
        assert np.array_equal(one(flat).data, two(Tensor(flat.data[..., None, None])).data[..., 0, 0])
        assert np.array_equal(one.running_var, two.running_var)
        one.eval(), two.eval()
    close(nn.BatchNorm1d(30)(flat).data.mean((0, 1)) + 1, np.ones(30, np.float32), 1e-5)


def test_recalibration_knows_the_norms_of_features():
    net = nn.Sequential(nn.BatchNorm1d(3))
    train.recalibrate(net, [numbers(4, 50, 3) + 7])
    assert np.abs(net[0].running_mean - 7).max() < 1


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Flatten(), (4, 1, 8, 8)),
        (nn.Flatten(), (4, 8)),
        (nn.LIF(), (4, 8)),
        (nn.ALIF(), (4, 1, 8, 8)),
        (nn.BatchNorm1d(8), (4, 8)),
        (nn.BatchNorm1d(8), (2, 4, 8, 1, 1)),
    ],
)
def test_an_input_without_time_is_refused(layer, shape):
    with pytest.raises(ValueError, match=rf"nn\.{type(layer).__name__}: x has shape .*give \[T, N, F\].*axis 0"):
        layer(Tensor(np.ones(shape, np.float32)))


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: nn.Linear(6, 2), (2, 3, 6)),
        (lambda: nn.Conv2d(1, 2, 3, dtype="float64"), (2, 3, 1, 6, 6)),
        (lambda: nn.BatchNorm2d(2), (2, 3, 2, 4, 4)),
        (lambda: nn.PLIF(), (2, 3, 6)),
        (lambda: nn.Attention("t", 2, 3), (2, 1, 3, 4, 4)),
        (lambda: nn.MaxPool2d(2), (2, 3, 1, 4, 4)),
        (lambda: nn.Dropout(), (2, 3, 4)),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.LIF()), (2, 3, 1, 2, 2)),
    ],
)
def test_layers_take_arrays_as_networks_do(make, shape):
    layer, x = make().eval(), numbers(*shape, dtype=np.float64)
    dtype = next((p.dtype for p in layer.parameters()), x.dtype)
    assert np.array_equal(layer(x).data, layer(Tensor(x, dtype=dtype)).data) and layer(x).dtype == dtype
    assert nn.MaxPool2d(2)(np.ones((1, 1, 1, 2, 2), bool)).is_spikes


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_modules_in_a_plain_list_are_refused(kind):
    class Hiding(nn.Module):
        def __init__(self, hidden):
            self.hidden = hidden

    parts = [nn.Linear(2, 2), nn.LIF()]
    given = dict(enumerate(parts)) if kind is dict else kind(parts)
    for use in (nn.Module.parameters, nn.Module.eval, nn.Module.state_dict):
        with pytest.raises(TypeError, match=rf"Hiding\.hidden is a plain {kind.__name__}.*nn\.ModuleList"):
            use(Hiding(given))
    with pytest.raises(TypeError, match="plain"):
        Hiding([parts[0].weight]).parameters()
    for found in (nn.ModuleList(parts), nn.ModuleList(*parts)):
        assert len(Hiding(found).parameters()) == 2
        found.append(nn.Linear(2, 3))
        assert [name for name, _ in Hiding(found).named_parameters()][2:] == ["hidden.2.weight", "hidden.2.bias"]
    assert Hiding([1, "a", np.ones(2)]).parameters() == []


# ---- data ----------------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, features=6, classes=3):
        rng = np.random.default_rng(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(features, 16, rng), nn.LIF(), nn.Linear(16, classes, rng))

    def forward(self, x):
        return self.layers(x).mean(0)


def test_arrays_are_batched_learned_and_evaluated():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    x = rng.normal(0, 0.3, (120, 6)) + 2 * np.eye(3, 6)[labels]
    samples, net = data.Arrays(x, labels, timesteps=4), Net()
    assert len(samples) == 120 and samples.size == (6,) and samples.timesteps == 4
    before = train.evaluate(net, samples, loss="ce")["accuracy"]
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    for epoch in range(4):
        for batch, y in data.Loader(samples, 30, epoch=epoch, shuffle=True):
            assert batch.shape == (4, 30, 6) and batch.dtype == np.float32
            optimizer.zero_grad()
            ops.cross_entropy(net(Tensor(batch)), y).backward()
            optimizer.step()
    found = train.evaluate(net, samples, batch_size=50, loss="ce")
    assert found["accuracy"] > max(0.9, before) and found["report"].samples == 120
    with pytest.raises(ValueError, match=r"scores \(4, 64, 3\); let it return their mean over T"):
        train.evaluate(net.layers, samples)


def test_arrays_with_time_steps_of_their_own():
    x = numbers(5, 7, 2, 3, 3) > 1
    samples = data.Arrays(x, np.arange(5))
    assert samples.timesteps == 7 and samples.size == (2, 3, 3)
    assert np.array_equal(samples.batch([4, 0]), x[[4, 0]].swapaxes(0, 1)) and samples.batch([1]).dtype == bool
    assert data.Arrays(np.array([[0, 3]]), [0], 2).batch([0]).dtype == np.float32


@pytest.mark.parametrize(
    "x, labels, timesteps, words",
    [
        (np.ones((3, 4)), [0, 1, 2], None, r"give numbers, \[M, T, F\].*timesteps"),
        (np.ones((3, 4, 5)), [0, 1, 2], 2, r"give numbers, \[M, F\]"),
        (np.full((3, 4), "a"), [0, 1, 2], 2, "give numbers"),
        (np.ones((0, 4)), [], 2, "give numbers"),
        (np.ones((3, 4)), [0, 1], 2, "3 whole numbers"),
        (np.ones((3, 4)), [0.0, 1, 2], 2, "3 whole numbers"),
        (np.ones((3, 4)), [0, -1, 2], 2, "3 whole numbers"),
        (np.ones((3, 4)), [0, 1, 2], 0, "timesteps is 0"),
        (np.ones((3, 4)), [0, 1, 2], True, "timesteps is True"),
    ],
)
def test_arrays_that_do_not_fit(x, labels, timesteps, words):
    with pytest.raises(ValueError, match=words):
        data.Arrays(x, labels, timesteps)


# ---- neurons and operations of one's own ---------------------------------------------------------------------------------


class Threshold(Function):
    def forward(self, x):
        return x > 0

    def backward(self, grad):
        return grad


class Mixed(Function):
    """An operation that does not say what it does."""

    def forward(self, x):
        return x @ np.ones((x.shape[-1], 3), x.dtype)

    def backward(self, grad):
        return grad.sum(-1, keepdims=True) * np.ones(8, grad.dtype)


class Said(Mixed):
    def forward(self, x):
        ledger.record("said", "linear", mac=3 * x.size)
        return super().forward(x)


class Own(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


def test_own_neurons_fire_events_in_the_next_layer():
    net = nn.Sequential(Own(Threshold), nn.Conv2d(2, 3, 3, padding=1), nn.LIF())
    report = energy.measure(net, numbers(2, 3, 2, 5, 5))
    neurons, conv, _ = report.layers
    assert (neurons.name, neurons.kind) == ("0", "Threshold") and 0 < neurons.firing_rate < 1 and neurons.spikes > 0
    assert conv.ac > 0 and conv.mac == 0 and report.unknown == []


def test_what_is_unknown_is_said_to_be():
    net, x = nn.Sequential(Own(Mixed), nn.LIF()), numbers(2, 3, 8)
    report = energy.measure(net, x)
    assert report.unknown == ["0"] and report.as_dict()["unknown"] == ["0"]
    rows = {row["name"]: row for row in report.as_dict()["layers"]}
    assert rows["0"]["mac"] is rows["0"]["ac"] is rows["0"]["energy_mj"] is None and rows["1"]["mac"] == 0
    lines = str(report).splitlines()
    assert lines[2].split().count("unknown") == 4 and lines[-1].count("+ ?") == 3 and "unknown" not in lines[3]
    both = energy.measure(nn.Sequential(Own(Mixed), nn.Linear(3, 2)), x)
    assert both.mac == 2 * 3 * 2 and both.unknown == ["0"] and "+ ?" in str(both)
    said = energy.measure(Own(Said), x)
    assert said.unknown == [] and said.mac == 3 * 2 * 8 and "?" not in str(said)


class Both(nn.Module):
    def forward(self, x):
        return Mixed.apply(Said.apply(x).data @ Tensor(np.ones((3, 8), np.float32)))


def test_a_row_that_is_known_in_part_says_so():
    (row,) = energy.measure(nn.Sequential(Both()), numbers(2, 3, 8)).layers
    assert row.unknown and row.mac == 2 * (8 * 3 + 3 * 8)


def test_a_product_on_the_tape_is_counted():
    x, w = numbers(2, 3, 8), Tensor(numbers(8, 4))
    for given, ac, mac in ((x, 0, x.size * 4), (x > 0, 4 * int((x > 0).sum()), 0)):
        with ledger.ledger() as entries:
            Tensor(given) @ w
        assert [(e.kind, e.ac, e.mac) for e in entries] == [("linear", ac, mac)]


def test_the_example_of_the_docstring_runs():
    import textwrap

    text = nn.Neurons.__doc__.split("their spikes:\n\n")[1].split("    Neurons that carry")[0]
    names = dict(Function=Function, nn=nn, ATan=ATan)
    exec(textwrap.dedent(text), names)
    net, x = nn.Sequential(names["Thresholds"](), nn.Linear(8, 3)), Tensor(numbers(2, 3, 8), requires_grad=True)
    net(x).sum().backward()
    report = energy.measure(net, x)
    assert x.grad.any() and [row.kind for row in report.layers] == ["Threshold", "linear"] and report.mac == 0


# ---- recurrence ----------------------------------------------------------------------------------------------------------


class OwnLIF(nn.LIF):
    """The same neurons, which the package is told nothing about."""

    operation = None


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_recurrence_written_out_is_that_of_the_tape(v_reset):
    """Also its state and the gradients through it."""
    rng = np.random.default_rng(0)
    layer, x = nn.Linear(5, 5, rng, "float64"), Tensor(numbers(6, 3, 5, dtype=np.float64), requires_grad=True)
    found = []
    for kind in (nn.LIF, OwnLIF):
        again = nn.Recurrent(layer, kind(v_reset=v_reset, detach_reset=False))
        first, state = again(x[:4], return_state=True)
        second = again(x[4:], h0=state)
        again.zero_grad(), x.zero_grad()
        (ops.concatenate([first, second]) * Tensor(numbers(6, 3, 5, seed=1, dtype=np.float64))).sum().backward()
        found.append([first.data, second.data, again(x).data, x.grad, layer.weight.grad, layer.bias.grad])
    assert found[0][0].any() and np.array_equal(np.concatenate(found[0][:2]), found[0][2])
    for one, two in zip(*found):
        close(one, two, 1e-12)


def test_recurrence_adds_the_spikes_of_the_step_before():
    layer = nn.Linear(2, 2)
    layer.weight.data[...], layer.bias.data[...] = [[0, 0], [9, 0]], 0  # the first neuron excites the second
    x = np.zeros((4, 1, 2), np.float32)
    x[1, 0, 0] = 9
    with ledger.ledger() as entries:
        s = nn.Recurrent(layer, nn.LIF())(Tensor(x))
    assert s.data[:, 0].tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
    assert [(e.kind, e.ac, e.mac, e.spikes) for e in entries] == [("linear", 4, 0, 0), ("neurons", 0, 0, 2)]


def test_a_recurrent_network_learns_and_is_measured():
    rng = np.random.default_rng(0)
    again = nn.Recurrent(nn.Linear(12, 12, rng), nn.PLIF())
    net, x = nn.Sequential(nn.Linear(6, 12, rng), again, nn.Linear(12, 3, rng)), 3 * numbers(5, 20, 6)
    target, optimizer, losses = rng.integers(0, 3, 20), optim.Adam(net.parameters(), lr=0.02), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = ops.cross_entropy(net(x).mean(0), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0] and again.neurons.tau != 2
    report = energy.measure(net, x)
    assert report.rates.keys() == {"1"} and [row.mac > 0 for row in report.layers] == [True, False, False]
    assert all(row.ac > 0 for row in report.layers[1:])


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: nn.Recurrent(nn.Linear(3, 4), nn.LIF()), r"Linear\(3, 4\); give nn.Linear\(F, F\)"),
        (lambda: nn.Recurrent(nn.LIF(), nn.LIF()), "the layer is LIF"),
        (lambda: nn.Recurrent(nn.Linear(3, 3), Own(Threshold)), "Own cannot continue from a state"),
        (lambda: nn.Recurrent(nn.Linear(3, 3), nn.LIF())(numbers(2, 4, 5)), r"recurrent: x \(2, 4, 5\)"),
        (lambda: nn.Recurrent(nn.Linear(3, 3), nn.LIF())(numbers(2, 4)), r"give \[T, N, F\]"),
    ],
)
def test_what_cannot_be_recurrent(make, words):
    with pytest.raises(ValueError, match=words):
        make()
