"""Neurons as layers: their state from call to call, constants that are refused at once, and networks of any of them."""

import numpy as np
import pytest
from checks import close

from minisnn import Tensor, gradcheck, models, nn, ops, surrogate
from minisnn.models.presets import NEURON_NAMES

LAYERS = nn.NEURONS | {
    "lif of channels": lambda **more: nn.LIF(tau=np.array([1.5, 4.0]), v_threshold=np.array([1.0, 0.4]), **more),
    "plif of channels": lambda **more: nn.PLIF(per_channel=True, channels=2, **more),
}


def currents(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2, shape)


def layer(name, dtype, **more):
    """One of LAYERS, of that dtype."""
    neurons = LAYERS[name](**more)
    for p in neurons.parameters():
        p.dtype, p.storage = np.dtype(dtype), p.storage.astype(dtype)
    return neurons


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("v_reset", [0.0, -0.3, None])
@pytest.mark.parametrize("name", LAYERS)
def test_all_steps_at_once_are_one_after_another(name, v_reset, dtype):
    """To the same bits, also in chunks; and the gradient through the state is that of the whole."""
    neurons = layer(name, dtype, v_reset=v_reset, detach_reset=False)
    for shape in [(7, 3, 2, 4, 3), (7, 3, 2), (7, 5, 2)]:
        x = currents(*shape).astype(dtype)
        grad = np.cos(np.arange(x.size)).reshape(shape).astype(dtype)
        found = []
        for parts in ([7], [1] * 7, [2, 4, 1]):
            for p in neurons.parameters():
                p.grad = None
            leaf, state, spikes, begin = Tensor(x, requires_grad=True), None, [], 0
            for steps in parts:
                s, state = neurons(leaf[begin : begin + steps], h0=state, return_state=True)
                spikes.append(s)
                begin += steps
            whole = ops.concatenate(spikes)
            ((whole * grad).sum() + (state * 0.7).sum()).backward()
            found.append([whole.data, state.data, leaf.grad, *(p.grad for p in neurons.parameters())])
        assert found[0][0].any() and not found[0][0].all()
        for other in found[1:]:
            assert np.array_equal(other[0], found[0][0]) and np.array_equal(other[1], found[0][1])
            for one, two in zip(other[2:], found[0][2:]):
                close(one, two, 1e-4 if dtype == np.float32 else 1e-12)
        assert np.array_equal(neurons(Tensor(x)).data, found[0][0])  # the state is asked for, or not


@pytest.mark.parametrize("v_reset", [-0.3, None])
@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_of_the_state_is_its_slope(name, v_reset):
    neurons = layer(name, np.float64, v_reset=v_reset, detach_reset=False, smooth=True)
    x = Tensor(currents(4, 3, 2), requires_grad=True)
    _, state = neurons(x, return_state=True)
    begin = Tensor(np.random.default_rng(1).normal(0, 1, state.shape), requires_grad=True)
    gradcheck(lambda x, h0: neurons(x, h0=h0, return_state=True)[1], [x, begin])
    assert np.array_equal(neurons(x, h0=begin.data).data, neurons(x, h0=begin).data)  # an ndarray will do


@pytest.mark.parametrize("name", nn.NEURONS)
def test_networks_of_any_neurons_learn(name):
    for residual in ("or", "vanilla", "ms"):
        net = models.build("digits", residual, attention="c", width=8, timesteps=2, neuron=name, seed=0, dtype="float64")
        net(currents(2, 2, 1, 8, 8)).sum().backward()
        assert all(p.grad is not None and p.dtype == np.float64 for p in net.parameters())
        assert {type(m) for m in net.modules() if isinstance(m, nn.Neurons)} == {nn.NEURONS[name]}


def test_the_command_line_has_the_names():
    assert tuple(nn.NEURONS) == NEURON_NAMES


def test_plif_begins_with_its_time_constant():
    assert nn.PLIF(init_tau=3.0).tau == pytest.approx(3.0)
    assert nn.PLIF(init_tau=1.5, per_channel=True, channels=4).tau == pytest.approx([1.5] * 4)
    x = Tensor(currents(5, 3, 2))
    for decay_input in (True, False):
        s = ops.plif(x, Tensor(np.array(-np.log(2.0))), decay_input=decay_input)
        assert np.array_equal(s.data, ops.lif(x, tau=3.0, decay_input=decay_input).data)


def test_adaptation_by_hand():
    """beta 1, and rho all but 1: after the first spike the threshold is 2, after the second 3."""
    x = Tensor(np.full((6, 1), 4.2))  # U is 2.1, from rest
    assert ops.alif(x, beta=1.0, tau_adapt=1e9).data[:, 0].tolist() == [1, 1, 0, 1, 0, 0]


def test_a_synapse_by_hand():
    """tau_syn 2 and one input of 3: the current is 3, 1.5, 0.75; U is 1.5 (fires), 0.75, 0.75."""
    x = Tensor(np.array([[3.0], [0.0], [0.0]]))
    s, (h, c) = ops.synaptic(x, tau_syn=2.0, return_state=True)
    assert s.data[:, 0].tolist() == [1, 0, 0] and (h.item(), c.item()) == (0.75, 0.75)


@pytest.mark.parametrize(
    "make, words, error",
    [
        (lambda: nn.LIF(tau=0.5), "tau is 0.5", ValueError),
        (lambda: nn.LIF(tau=Tensor(2.0)), "tau is a Tensor", TypeError),
        (lambda: nn.LIF(tau=np.array([2.0, 0.5])), "tau is", ValueError),
        (lambda: nn.LIF(tau=np.ones((2, 2))), r"ndarray \[C\]", TypeError),
        (lambda: nn.LIF(surrogate=surrogate.ATan), "surrogate", TypeError),
        (lambda: nn.IF(v_reset=1.0), "not below", ValueError),
        (lambda: nn.PLIF(init_tau=1.0), "init_tau", ValueError),
        (lambda: nn.PLIF(per_channel=True), "channels=64", ValueError),
        (lambda: nn.ALIF(beta=np.ones(3)), "beta is an array", TypeError),
        (lambda: nn.Synaptic(tau_syn=0.0), "tau_syn", ValueError),
        (lambda: nn.LIF(tau=np.full(3, 2.0))(Tensor(currents(2, 5, 4))), "have 4 channels", ValueError),
        (lambda: ops.plif(Tensor(currents(2, 5, 4)), Tensor(np.ones(3))), r"\(4,\)", ValueError),
        (lambda: ops.lif(currents(2, 5)), "takes Tensors, not ndarray", TypeError),
        (lambda: nn.LIF()(currents(2, 5)), r"nn\.LIF: x has shape \(2, 5\); give \[T, N, F\]", ValueError),
        (lambda: nn.PLIF()(Tensor(currents(2, 1, 8, 8))), r"nn\.PLIF: .* x\[None\]", ValueError),
    ],
)
def test_what_is_refused_at_once(make, words, error):
    with pytest.raises(error, match=words):
        make()
