"""The event-driven convolution equals its definition, exactly: sums of small integers have no rounding."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn.ops import event_conv
from minisnn.ops.event_conv import event_forward, event_weight_gradient, find_events


@st.composite
def convolutions(draw):
    """Arrays and geometry of one convolution of spikes; weights and gradients are small integers."""
    kh, kw = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pad = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    H = draw(st.integers(max(1, kh - 2 * pad[0]), 9))
    W = draw(st.integers(max(1, kw - 2 * pad[1]), 9))
    B = draw(st.integers(1, 5))
    Cin = draw(st.sampled_from([1, 2, 3, 8, 16, 20, 64]))
    Cout = draw(st.sampled_from([1, 10, 16, 32, 48, 70]))
    density = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    Ho = (H + 2 * pad[0] - kh) // stride[0] + 1
    Wo = (W + 2 * pad[1] - kw) // stride[1] + 1
    X = (rng.random((B, H, W, Cin)) < density).astype(np.uint8)
    Wt = rng.integers(-9, 10, (kh, kw, Cin, Cout)).astype(dtype)
    dY = rng.integers(-9, 10, (B, Ho, Wo, Cout)).astype(dtype)
    initial = rng.integers(-9, 10, Cout).astype(dtype)
    return X, Wt, dY, initial, (*stride, *pad)


def windows(X, Wt, geometry):
    """The input under every kernel position, [B, Ho, Wo, Cin, kh, kw]: the dense view of the same convolution."""
    stride_h, stride_w, pad_h, pad_w = geometry
    padded = np.pad(X, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0))).astype(Wt.dtype)
    return np.lib.stride_tricks.sliding_window_view(padded, Wt.shape[:2], (1, 2))[:, ::stride_h, ::stride_w]


def random_spikes(shape, density, seed=0):
    return (np.random.default_rng(seed).random(shape) < density).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(convolutions())
def test_events_equal_the_dense_convolution_and_its_weight_gradient(convolution):
    X, Wt, dY, initial, geometry = convolution
    under = windows(X, Wt, geometry)
    events = find_events(X)
    Y = np.full_like(dY, np.nan)
    additions = event_forward(Y, events, Wt, initial, *geometry)
    dWt = np.full_like(Wt, np.nan)
    event_weight_gradient(dWt, dY, events, *geometry)
    assert events.spikes == X.sum()
    assert additions == under.sum() * Wt.shape[3]
    assert np.array_equal(Y, np.tensordot(under, Wt, ((4, 5, 3), (0, 1, 2))) + initial)
    assert np.array_equal(dWt, np.tensordot(under, dY, ((0, 1, 2), (0, 1, 2))).transpose(1, 2, 0, 3))


@pytest.mark.parametrize("stride, pad", [(1, 1), (2, 0)])
def test_the_loops_that_define_the_operation_agree(stride, pad):
    X = random_spikes((2, 7, 6, 3), 0.3)
    rng = np.random.default_rng(1)
    Wt = rng.integers(-9, 10, (3, 2, 3, 5)).astype(np.float64)
    initial = rng.integers(-9, 10, 5).astype(np.float64)
    geometry = (stride, stride, pad, pad)
    Y = np.empty((2, (7 + 2 * pad - 3) // stride + 1, (6 + 2 * pad - 2) // stride + 1, 5))
    Y_loops = np.empty_like(Y)
    dY = rng.integers(-9, 10, Y.shape).astype(np.float64)
    dWt, dWt_loops = np.empty_like(Wt), np.empty_like(Wt)
    events = find_events(X)
    additions = event_forward(Y, events, Wt, initial, *geometry)
    event_weight_gradient(dWt, dY, events, *geometry)
    assert event_conv.event_forward_loops(Y_loops, X, Wt, initial, *geometry) == additions
    event_conv.event_weight_gradient_loops(dWt_loops, dY, X, *geometry)
    assert np.array_equal(Y, Y_loops)
    assert np.array_equal(dWt, dWt_loops)


@pytest.mark.parametrize("channels", [3, 8, 40])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_events_list_every_spike_once_and_in_order(channels, density):
    X = random_spikes((3, 4, 5, channels), density)
    events = find_events(X.view(np.bool_))
    for b, ih, iw in np.ndindex(3, 4, 5):
        begin, end = events.offsets[b, ih, iw : iw + 2]
        assert events.positions[begin:end].tolist() == (iw * channels + np.flatnonzero(X[b, ih, iw])).tolist()


def real_valued(B, seed=0):
    rng = np.random.default_rng(seed)
    X = random_spikes((B, 8, 8, 24), 0.1)
    return X, rng.standard_normal((3, 3, 24, 40), np.float32), rng.standard_normal((B, 8, 8, 40), np.float32)


def test_results_do_not_depend_on_the_number_of_threads():
    X, Wt, dY = real_valued(100)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, min(2, before), before):
            numba.set_num_threads(threads)
            Y, dWt = np.empty_like(dY), np.empty_like(Wt)
            events = find_events(X)
            event_forward(Y, events, Wt, np.zeros(40, np.float32), 1, 1, 1, 1)
            event_weight_gradient(dWt, dY, events, 1, 1, 1, 1)
            results.append((Y, dWt))
    finally:
        numba.set_num_threads(before)
    for Y, dWt in results[1:]:
        assert np.array_equal(Y, results[0][0])
        assert np.array_equal(dWt, results[0][1])


def test_wrong_arrays_are_refused():
    X, Wt, dY = real_valued(2)
    events = find_events(X)
    with pytest.raises(ValueError, match="uint8"):
        find_events(X.astype(np.float32))
    with pytest.raises(ValueError, match="output"):
        event_forward(dY[:, 1:], events, Wt, np.zeros(40), 1, 1, 1, 1)
    with pytest.raises(ValueError, match="dtype"):
        event_forward(dY.astype(np.float64), events, Wt, np.zeros(40), 1, 1, 1, 1)
    with pytest.raises(ValueError, match="channels"):
        event_forward(dY, events, Wt[:, :, :8], np.zeros(40), 1, 1, 1, 1)
