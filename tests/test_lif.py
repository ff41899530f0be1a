"""Neurons, by hand; test_operations.py holds their loops against Eq. 2 unrolled on the tape, and against finite differences."""

import numpy as np
import pytest
from checks import close, leaf

from minisnn import Tensor, ledger, ops


def currents(shape, seed, scale=2.0):
    return np.random.default_rng(seed).normal(0.5, scale, shape)


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


def test_a_spike_is_emitted_at_the_threshold():
    x = Tensor([[2.0, np.nextafter(2.0, 0), -5.0]], dtype=np.float64)
    assert ops.lif(x).data.tolist() == [[1, 0, 0]]
    assert ops.lif(Tensor([[1.0], [1.0]]), decay_input=False).data.tolist() == [[1], [1]]
    of_channels = ops.lif(Tensor(x.data.reshape(1, 1, 3)), tau=np.array([2.0, 2.0, 3.0]), v_threshold=np.ones(3))
    assert of_channels.data.tolist() == [[[1, 0, 0]]]


def test_by_hand():
    """tau 2, constant current 1.5: U is 0.75, 1.125 (fires, back to 0), 0.75, ..."""
    x = Tensor(np.full((4, 1), 1.5))
    assert ops.lif(x).data[:, 0].tolist() == [0, 1, 0, 1]
    # without a leak and with soft reset the charge is kept: 1.5, 0.5 + 1.5 = 2, 1 + 1.5 = 2.5, ...
    assert ops.lif(x, tau=1e30, v_reset=None, decay_input=False).data[:, 0].tolist() == [1, 1, 1, 1]


def test_spikes_are_bytes_and_are_counted():
    with ledger.ledger() as entries:
        s = ops.lif(Tensor(currents((4, 2, 3, 3, 3), 0), dtype=np.float32))
    assert s.is_spikes and s.storage.itemsize == 1 and s.dtype == np.float32 and set(np.unique(s.data)) == {0, 1}
    assert [(e.op, e.kind, e.spikes, e.neurons) for e in entries] == [("lif", "neurons", int(s.data.sum()), s.size)]
    assert not ops.lif(Tensor([1.0]), smooth=True).is_spikes


def test_each_channel_is_as_if_alone():
    """Of more neurons than a block holds, and a number of channels that does not divide it."""
    x, tau, v_threshold = currents((3, 400, 3), 3), np.array([1.5, 2.0, 4.0]), np.array([0.7, 1.0, 0.5])
    together = leaf(x)
    s = ops.lif(together, tau=tau, v_threshold=v_threshold)
    s.sum().backward()
    for c in range(3):
        alone = leaf(x[..., c])
        own = ops.lif(alone, tau=tau[c], v_threshold=v_threshold[c])
        own.sum().backward()
        assert own.data.any() and np.array_equal(s.data[..., c], own.data)
        close(together.grad[..., c], alone.grad, 1e-12)
