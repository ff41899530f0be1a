"""Neurons: the loops of lif.py against Eq. 2 unrolled from elementary operations on the tape, and finite differences."""

import numpy as np
import pytest
from checks import close, examples, leaf, same, seeds, threads
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn import Function, Tensor, gradcheck, ledger, no_grad, ops
from minisnn.surrogate import ATan, FastSigmoid, Sigmoid, Triangle

neurons = st.fixed_dictionaries(dict(
    tau=st.sampled_from([1.0, 1.5, 2.0, 7.0]), v_threshold=st.sampled_from([1.0, 0.4]),
    v_reset=st.sampled_from([0.0, -0.3, None]),
    detach_reset=st.booleans(), decay_input=st.booleans(),
    surrogate=st.sampled_from([ATan(), ATan(5.0), Sigmoid(), FastSigmoid(), Triangle()])))
shapes = st.sampled_from([(1,), (5,), (3, 4), (4, 2, 3, 2, 2), (1, 2, 3, 2, 2), (6, 1, 2, 1, 3), (4, 3, 1, 5)])


class Step(Function):
    """The hard step, with the surrogate's derivative for its gradient (Eq. 3)."""

    def forward(self, x, surrogate):
        self.x, self.surrogate = x, surrogate
        return (x >= 0).astype(x.dtype)

    def backward(self, grad):
        return grad * self.surrogate.derivative(self.x)


class Smooth(Step):
    def forward(self, x, surrogate):
        self.x, self.surrogate = x, surrogate
        return surrogate.primitive(x)


def unrolled(x, tau, v_threshold, v_reset, detach_reset, decay_input, surrogate, smooth=False):
    """Eq. 2, one elementary operation after another."""
    rest, h, spikes = v_reset or 0.0, v_reset or 0.0, []
    for t in range(len(x)):
        u = h + ((x[t] / tau if decay_input else x[t]) - (h - rest) / tau)
        s = (Smooth if smooth else Step).apply(u - v_threshold, surrogate=surrogate)
        through = s.detach() if detach_reset else s
        h = u - v_threshold * through if v_reset is None else u * (1 - through) + v_reset * through
        spikes.append(s)
    return ops.stack(spikes)


def currents(shape, seed, scale=2.0):
    return np.random.default_rng(seed).normal(0.5, scale, shape)


@settings(deadline=None, max_examples=60)
@given(shapes, neurons, seeds)
def test_spikes_and_their_gradient_equal_the_equations_unrolled(shape, neuron, seed):
    same(lambda x: ops.lif(x, **neuron), lambda x: unrolled(x, **neuron), [leaf(currents(shape, seed))])


@settings(deadline=None, max_examples=40)
@given(shapes, neurons, seeds)
def test_smooth_neurons_equal_the_equations_unrolled(shape, neuron, seed):
    x = leaf(currents(shape, seed))
    same(lambda x: ops.lif(x, **neuron, smooth=True), lambda x: unrolled(x, **neuron, smooth=True), [x])


@settings(deadline=None, max_examples=40)
@given(shapes, neurons.filter(lambda n: not isinstance(n["surrogate"], (FastSigmoid, Triangle))), seeds)
def test_backpropagation_through_time_is_the_exact_derivative_of_smooth_neurons(shape, neuron, seed):
    gradcheck(lambda x: ops.lif(x, **neuron | dict(detach_reset=False), smooth=True), leaf(currents(shape, seed)))


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("smooth", [False, True])
def test_float32_and_many_neurons(v_reset, detach_reset, smooth):
    """More neurons than a block holds; in float32 as in float64 but for rounding."""
    x = currents((4, 3, 5, 9, 11), 0).astype(np.float32)
    options = dict(v_reset=v_reset, detach_reset=detach_reset, smooth=smooth)
    results = []
    for dtype in (np.float32, np.float64):
        t = leaf(x, dtype)
        out = ops.lif(t, **options)
        out.backward(np.cos(np.arange(x.size)).reshape(x.shape))
        assert out.dtype == t.grad.dtype == dtype
        results.append((out.data.astype(np.float64), t.grad.astype(np.float64)))
    for one, two in zip(*results):
        close(one, two, 1e-5)


def test_results_do_not_depend_on_the_number_of_threads():
    x, results = currents((3, 2, 4, 20, 20), 0).astype(np.float32), []
    for n in (1, 2):
        with threads(n):
            t = leaf(x, np.float32)
            out = ops.lif(t)
            out.backward(np.cos(np.arange(x.size, dtype=np.float32)).reshape(x.shape))
            results.append((out.data, t.grad))
    for one, two in zip(*results):
        assert np.array_equal(one, two)


def test_a_spike_is_emitted_at_the_threshold():
    x = Tensor([[2.0, np.nextafter(2.0, 0), -5.0]], dtype=np.float64)
    assert ops.lif(x).data.tolist() == [[1, 0, 0]]
    assert ops.lif(Tensor([[1.0], [1.0]]), decay_input=False).data.tolist() == [[1], [1]]


def test_by_hand():
    """tau 2, constant current 1.5: U is 0.75, 1.125 (fires, back to 0), 0.75, ..."""
    x = Tensor(np.full((4, 1), 1.5))
    assert ops.lif(x).data[:, 0].tolist() == [0, 1, 0, 1]
    # without a leak and with soft reset the charge is kept: 1.5, 0.5 + 1.5 = 2, 1 + 1.5 = 2.5, ...
    assert ops.lif(x, tau=1e30, v_reset=None, decay_input=False).data[:, 0].tolist() == [1, 1, 1, 1]


@examples
@given(seeds)
def test_every_call_starts_from_rest_and_a_sample_does_not_see_its_neighbours(seed):
    x = currents((5, 4, 3, 2, 2), seed)
    together = ops.lif(Tensor(x)).data
    for n in range(4):
        assert np.array_equal(ops.lif(Tensor(x[:, n:n + 1])).data, together[:, n:n + 1])


def test_spikes_are_bytes_and_are_counted():
    with ledger.ledger() as entries:
        s = ops.lif(Tensor(currents((4, 2, 3, 3, 3), 0), dtype=np.float32))
    assert s.is_spikes and s.storage.itemsize == 1 and s.dtype == np.float32 and set(np.unique(s.data)) == {0, 1}
    assert [(e.op, e.kind, e.spikes, e.neurons) for e in entries] == [("lif", "neurons", int(s.data.sum()), s.size)]
    assert not ops.lif(Tensor([1.0]), smooth=True).is_spikes


def test_under_no_grad_nothing_is_kept():
    with no_grad():
        assert ops.lif(leaf(currents((3, 2), 0))).is_leaf


@pytest.mark.parametrize("options, complaint", [
    (dict(tau=0.5), "tau"), (dict(tau=np.nan), "tau"), (dict(tau=np.inf), "tau"), (dict(v_threshold=np.inf), "v_threshold"),
    (dict(v_reset=np.nan), "v_reset"), (dict(v_reset=1.0), "not below"), (dict(v_reset=None, v_threshold=0.0), "not below"),
])
def test_constants_out_of_range_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        ops.lif(Tensor([1.0]), **options)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="surrogate"):
        ops.lif(Tensor([1.0]), surrogate="atan")
    for shape in ((), (0, 3)):
        with pytest.raises(ValueError, match="time step"):
            ops.lif(Tensor(np.zeros(shape)))
