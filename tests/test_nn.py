"""Modules: what they register, how they are listed, saved and called, and layers that are nothing but a call into ops."""

import numpy as np
import pytest
from checks import values_and_gradients

import minisnn as snn
from minisnn import Function, Tensor, energy, ledger, models, nn, ops, optim


class Pair(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 2, rng=np.random.default_rng(0))
        self.steps = np.zeros(1)
        self.scale = nn.Parameter(np.ones(2, np.float32))
        self.last = nn.Sequential(nn.Linear(2, 2, rng=np.random.default_rng(1)), nn.Linear(2, 1, rng=np.random.default_rng(2)))
        self.label = "kept out"

    def forward(self, x):
        return self.last(self.first(x) * self.scale)


NAMES = ["scale", "first.weight", "first.bias", "last.0.weight", "last.0.bias", "last.1.weight", "last.1.bias"]


def test_parts_are_found_by_name():
    pair = Pair()
    assert [name for name, _ in pair.named_parameters()] == NAMES and len(pair.parameters()) == len(NAMES)
    assert [name for name, _ in pair.named_buffers()] == ["steps"] and pair.buffers()[0] is pair.steps
    assert [name for name, _ in pair.named_modules()] == ["", "first", "last", "last.0", "last.1"]
    assert list(pair.state_dict()) == NAMES + ["steps"]
    assert len(pair.last) == 2 and pair.last[1] is list(pair.last)[1]


def test_modes_reach_every_part():
    pair = Pair()
    assert pair.eval() is pair and not any(m.training for m in pair.modules())
    assert all(m.training for m in pair.train().modules())


def test_gradients_are_forgotten_everywhere():
    pair = Pair()
    pair(Tensor(np.ones((4, 3), np.float32))).sum().backward()
    assert all(p.grad is not None for p in pair.parameters())
    pair.zero_grad()
    assert all(p.grad is None for p in pair.parameters())


def test_names_reach_the_ledger():
    pair = Pair().name_parts()
    with ledger.ledger() as entries:
        pair(Tensor(np.ones((4, 3), np.float32)))
    assert [e.layer for e in entries] == ["first", "last.0", "last.1"]


class Unit(nn.Module):
    """A layer to a reader, of two modules."""

    one_layer = ("first", "last")

    def __init__(self, *parts):
        self.first, self.gate, self.last = parts

    def forward(self, x):
        return self.last(self.gate(self.first(x)))


class Threshold(Function):
    """A neuron of a user's own: without a memory."""

    def forward(self, x):
        return x >= 1

    def backward(self, grad):
        return grad


class Thresholds(nn.Neurons):
    def forward(self, x):
        return Threshold.apply(x)


def test_parts_of_one_layer_go_by_its_name():
    net = nn.Sequential(Unit(nn.Linear(3, 3), nn.Linear(3, 3), nn.LIF()), nn.Linear(3, 3)).name_parts()
    assert [name for name, _ in net.named_layers()] == ["", "0", "0", "0.gate", "0", "1"]
    with ledger.ledger() as entries:
        net(Tensor(np.ones((2, 4, 3), np.float32)))
    assert [(e.layer, e.kind) for e in entries] == [("0", "linear"), ("0.gate", "linear"), ("0", "neurons"), ("1", "linear")]


def test_neurons_of_a_users_own_run_where_ours_do_and_are_counted():
    x = Tensor(np.random.default_rng(0).normal(0, 2, (2, 3, 4, 5, 5)).astype(np.float32))
    norm, neurons, attention = nn.BatchNorm2d(4), Thresholds(), nn.Attention("c", 2, 4)
    with ledger.ledger() as entries:
        s = neurons.after(norm, attention, x)
        nn.MaxPool2d(2)(s)  # which only passes spikes on
    assert np.array_equal(s.data, attention(norm(x)).data >= 1) and s.data.any()
    assert [(e.op, e.spikes, e.neurons) for e in entries if e.kind == "neurons"] == [("Threshold", s.data.sum(), s.size)]
    assert ledger.firing_rate(entries) == s.data.mean() and ledger.firing_rate([]) == 0


def test_a_network_is_built_of_any_neurons(monkeypatch):
    monkeypatch.setitem(nn.NEURONS, "threshold", Thresholds)
    for residual in models.RESIDUALS:
        net = models.build("digits", residual, width=8, timesteps=2, neuron="threshold", seed=0)
        net(np.ones((2, 2, 1, 8, 8), np.float32)).sum().backward()
        kinds = {type(m) for m in net.modules() if isinstance(m, nn.Neurons)}
        report = energy.measure(net, np.ones((2, 2, 1, 8, 8), np.float32) * 9)
        assert kinds == {Thresholds} and len(report.rates) == len([m for m in net.modules() if isinstance(m, nn.Neurons)])
    with pytest.raises(ValueError, match="neuron is 'x'; give one of lif"):
        models.build(neuron="x")


def test_what_cannot_be_called():
    with pytest.raises(NotImplementedError, match="ModuleList is not called"):
        nn.ModuleList(Pair())(1)
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        nn.Module()(1)


LAYERS = {
    "conv": (lambda: nn.Conv2d(3, 4, 3, 2, 1, bias=True), lambda m, x: ops.conv2d(x, m.weight, 2, 1, bias=m.bias)),
    "norm": (
        lambda: nn.BatchNorm2d(3),
        lambda m, x: ops.batch_norm(x, m.weight, m.bias, np.zeros(3, np.float32), np.ones(3, np.float32)),
    ),
    "lif": (lambda: nn.LIF(tau=3.0, v_reset=None), lambda m, x: ops.lif(x, tau=3.0, v_reset=None)),
    "attention": (lambda: nn.Attention("c", 2, 3), lambda m, x: ops.attention(x, "c", m.squeeze, m.excite)),
    "inhibition": (
        lambda: nn.Attention("s", 2, 3, spiking=True, kernel=5),
        lambda m, x: ops.attention(x, "s", m.weight, spiking=True),
    ),
    "max pool": (lambda: nn.MaxPool2d(3, 2, 1), lambda m, x: ops.max_pool2d(x, 3, 2, 1)),
    "avg pool": (lambda: nn.AvgPool2d(2), lambda m, x: ops.avg_pool2d(x, 2)),
    "bins": (lambda: nn.AdaptiveAvgPool2d(3), lambda m, x: ops.adaptive_avg_pool2d(x, 3)),
    "linear": (lambda: nn.Linear(6, 4), lambda m, x: ops.linear(x, m.weight, m.bias)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_a_call_into_ops(kind):
    make, call = LAYERS[kind]
    snn.manual_seed(1)
    module, x = make(), Tensor(np.random.default_rng(0).normal(0, 2, (2, 2, 3, 5, 6)).astype(np.float32), requires_grad=True)
    for got, expected in zip(values_and_gradients(module, [x]), values_and_gradients(lambda x: call(module, x), [x])):
        assert np.array_equal(got, expected) and got.dtype == np.float32


def test_join():
    x, y = (Tensor(np.random.default_rng(k).random((2, 3)) < 0.5) for k in range(2))
    assert np.array_equal(nn.Join("iand")(x, y).data, ops.join(x, y, "iand").data)


def test_initial_weights():
    """Within 1 / sqrt(fan in) and filling that range; anew from manual_seed."""
    snn.manual_seed(0)
    conv, linear = nn.Conv2d(16, 32, 3), nn.Linear(64, 32, dtype="float64")
    for w, fan_in in ((conv.weight.data, 144), (linear.weight.data, 64)):
        assert 0.95 < np.abs(w).max() * np.sqrt(fan_in) <= 1 and abs(w.mean()) * np.sqrt(fan_in) < 0.05
    assert conv.bias is None and conv.weight.dtype == np.float32 and linear.weight.dtype == np.float64
    snn.manual_seed(0)
    assert np.array_equal(conv.weight.data, nn.Conv2d(16, 32, 3).weight.data)
    norm = nn.BatchNorm2d(4)
    assert norm.weight.data.tolist() == [1] * 4 and norm.bias.data.tolist() == [0] * 4 and norm.running_var.tolist() == [1] * 4


@pytest.mark.parametrize("dim", ["t", "c", "s"])
def test_attention_starts_open(dim):
    """MA's first scores let most through, and IA's neurons fire: the network starts as the one without attention."""
    x = Tensor(np.random.default_rng(0).normal(0, 1, (4, 2, 16, 8, 8)), dtype=np.float32)
    for spiking in (False, True):
        out = nn.Attention(dim, 4, 16, spiking, rng=np.random.default_rng(0))(x).data
        passed = out.sum() / np.maximum(x.data, 0).sum()
        assert passed > (0.5 if spiking else 0.7)


# ---- a parameter in two places -----------------------------------------------------------------------------------------


class Tied(nn.Module):
    """One weight in two modules, one module in two places, and one buffer under two names."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.first, self.second = nn.Linear(3, 3, rng=rng), nn.Linear(3, 3, rng=rng)
        self.second.weight = self.first.weight
        self.again = self.first
        self.mean = self.other_mean = np.zeros(3)

    def forward(self, x):
        return self.again(self.second(self.first(x)))


def test_what_stands_in_two_places_is_listed_counted_and_saved_once():
    net = Tied()
    names = ["first.weight", "first.bias", "second.bias"]
    assert [name for name, _ in net.named_parameters()] == names and [p.name for p in net.parameters()] == names
    assert [name for name, _ in net.named_buffers()] == ["mean"]
    assert [name for name, _ in net.named_children()] == ["first", "second"] and len(net.modules()) == 3
    assert list(net.state_dict()) == names + ["mean"]
    other = Tied()
    for p in other.parameters():
        p.data += 1
    other.load_state_dict(net.state_dict())
    assert all(np.array_equal(p.data, q.data) for p, q in zip(net.parameters(), other.parameters()))


def test_what_stands_in_two_places_is_moved_once_and_runs_twice():
    layer = nn.Linear(2, 2, rng=np.random.default_rng(0))
    net = nn.Sequential(layer, layer)
    assert len(net) == 2 and list(net) == [layer, layer] and net[1] is layer
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(net(Tensor(x)).data, layer(layer(Tensor(x))).data)
    net(Tensor(x)).sum().backward()
    before = layer.weight.data.copy()
    optim.SGD(net.parameters(), lr=0.1, momentum=0.0).step()
    np.testing.assert_allclose(before - layer.weight.data, 0.1 * layer.weight.grad, rtol=1e-4)


def test_modules_that_hold_each_other_are_listed_without_end_of_the_stack():
    a, b = nn.Module(), nn.Module()
    a.b, b.a = b, a
    assert a.modules() == [a, b]


def test_dropout_has_one_mask_for_all_steps_and_keeps_the_mean():
    snn.manual_seed(0)
    layer, x = nn.Dropout(0.25), Tensor(np.ones((3, 40, 50), np.float32), requires_grad=True)
    out = layer(x)
    assert (out.data == out.data[:1]).all() and set(np.unique(out.data)) == {np.float32(0), np.float32(1 / 0.75)}
    assert out.data.mean() == pytest.approx(1, abs=0.05) and abs((out.data[0] == 0).mean() - 0.25) < 0.04
    out.backward(np.ones(out.shape, np.float32))
    assert np.array_equal(x.grad, out.data)
    assert not np.array_equal(layer(x).data, out.data)
    snn.manual_seed(0)
    assert np.array_equal(layer(x).data, out.data)
    assert layer.eval()(x) is x and nn.Dropout(0)(x) is x
    for share in (1, -0.1, "half", True):
        with pytest.raises(ValueError, match="dropout of"):
            nn.Dropout(share)
