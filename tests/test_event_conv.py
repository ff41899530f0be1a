"""The event-driven convolution equals its definition, exactly: sums of small integers have no rounding."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn.ops import event_conv, spikes
from minisnn.ops.event_conv import event_forward, event_weight_gradient
from minisnn.ops.layout import Window
from minisnn.ops.spikes import find_events

SAME = Window(kh=3, kw=3, stride_h=1, stride_w=1, pad_h=1, pad_w=1)


@st.composite
def convolutions(draw):
    """Arrays and window of one convolution of spikes; weights and gradients are small integers."""
    window = Window(*(draw(st.integers(low, high)) for low, high in [(1, 5)] * 2 + [(1, 3)] * 2 + [(0, 3)] * 2))
    H = draw(st.integers(max(1, window.kh - 2 * window.pad_h), 9))
    W = draw(st.integers(max(1, window.kw - 2 * window.pad_w), 9))
    B = draw(st.integers(1, 5))
    Cin = draw(st.sampled_from([1, 2, 3, 8, 16, 20, 64]))
    # lanes are 16 or 32
    Cout = draw(st.sampled_from([1, 10, 15, 16, 17, 31, 32, 33, 70]))
    density = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = (rng.random((B, H, W, Cin)) < density).astype(np.uint8)
    wt = rng.integers(-9, 10, (window.kh, window.kw, Cin, Cout)).astype(dtype)
    dy = rng.integers(-9, 10, (B, *window.output_shape(H, W), Cout)).astype(dtype)
    bias = rng.integers(-9, 10, Cout).astype(dtype)
    return x, wt, dy, bias, window


def windows(x, wt, window):
    """The input under every kernel position, [B, Ho, Wo, Cin, kh, kw]: the dense view of the same convolution."""
    padded = np.pad(x, ((0, 0), (window.pad_h,) * 2, (window.pad_w,) * 2, (0, 0))).astype(wt.dtype)
    return np.lib.stride_tricks.sliding_window_view(padded, wt.shape[:2], (1, 2))[:, :: window.stride_h, :: window.stride_w]


def random_spikes(shape, density, seed=0):
    return (np.random.default_rng(seed).random(shape) < density).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(convolutions())
def test_events_equal_the_dense_convolution_and_its_weight_gradient(convolution):
    x, wt, dy, bias, window = convolution
    under = windows(x, wt, window)
    events = find_events(x)
    y = np.full_like(dy, np.nan)
    additions = event_forward(y, events, wt, bias, window)
    dwt = np.full_like(wt, np.nan)
    event_weight_gradient(dwt, dy, events, window)
    assert events.spikes == x.sum()
    assert additions == under.sum() * wt.shape[3] == spikes.accumulations(x, wt.shape[3], window)
    assert spikes.taps_inside(*x.shape[1:3], window) == windows(np.ones((1, *x.shape[1:3], 1)), wt, window).sum()
    assert np.array_equal(y, np.tensordot(under, wt, ((4, 5, 3), (0, 1, 2))) + bias)
    assert np.array_equal(dwt, np.tensordot(under, dy, ((0, 1, 2), (0, 1, 2))).transpose(1, 2, 0, 3))


@pytest.mark.parametrize("stride, pad", [(1, 1), (2, 0)])
def test_the_loops_that_define_the_operation_agree(stride, pad):
    x = random_spikes((2, 7, 6, 3), 0.3)
    rng = np.random.default_rng(1)
    wt = rng.integers(-9, 10, (3, 2, 3, 5)).astype(np.float64)
    bias = rng.integers(-9, 10, 5).astype(np.float64)
    window = Window(3, 2, stride, stride, pad, pad)
    y = np.empty((2, *window.output_shape(7, 6), 5))
    y_loops = np.empty_like(y)
    dy = rng.integers(-9, 10, y.shape).astype(np.float64)
    dwt, dwt_loops = np.empty_like(wt), np.empty_like(wt)
    events = find_events(x)
    additions = event_forward(y, events, wt, bias, window)
    event_weight_gradient(dwt, dy, events, window)
    assert event_conv.event_forward_loops(y_loops, x, wt, bias, window) == additions
    event_conv.event_weight_gradient_loops(dwt_loops, dy, x, window)
    assert np.array_equal(y, y_loops)
    assert np.array_equal(dwt, dwt_loops)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 40),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 9),
    st.sampled_from([16, 32]),
)
def test_add_rows_equals_its_loops_to_the_bit(runs, height, most, dtype, seed, lanes):
    rng = np.random.default_rng(seed)
    table, base = (rng.standard_normal((n, lanes)).astype(dtype).reshape(-1) for n in (height + 3, runs))
    ends = np.cumsum(rng.integers(0, most + 1, runs)).astype(np.uint64)
    rows = (rng.integers(0, height, int(ends[-1])) * lanes).astype(np.uint32)
    begin, shift = np.append(np.zeros(1, np.uint64), ends), (rng.integers(0, 4, runs) * lanes).astype(np.uint32)
    results = [np.full(5 + runs * (lanes + 2), np.nan, dtype) for _ in range(2)]
    for y, add in zip(results, (event_conv.add_rows, event_conv.add_rows_loops)):
        add(y, 5, lanes + 2, base, 0, lanes, table, rows, begin, begin[1:], shift, runs, lanes)
    np.testing.assert_array_equal(*results)
    gaps = results[0][5:].reshape(runs, -1)[:, lanes:]
    assert np.isnan(results[0][:5]).all() and np.isnan(gaps).all()  # the gap between runs is nobody's


@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_gathering_rows_equals_its_loops(convolution):
    x, wt, dy, _, window = convolution
    Wo, Cin, events = dy.shape[2], x.shape[3], find_events(x)
    for b, oy in np.ndindex(dy.shape[:2]):
        rows, begin = np.zeros((2, Wo * wt[..., 0].size + 8), np.uint32), np.zeros((2, Wo + 1), np.uint64)
        n, n_loops = (
            gather(rows[k], begin[k], events.offsets[b], events.positions, oy, Cin, window, 32)
            for k, gather in enumerate((event_conv.gather_rows, event_conv.gather_rows_loops))
        )
        assert n == n_loops and np.array_equal(*begin) and np.array_equal(*rows[:, :n])


@pytest.mark.parametrize("channels", [3, 8, 40])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_events_list_every_spike_once_and_in_order(channels, density):
    x = random_spikes((3, 4, 5, channels), density)
    events = find_events(x.view(np.bool_))
    for b, iy, ix in np.ndindex(3, 4, 5):
        begin, end = events.offsets[b, iy, ix : ix + 2]
        assert events.positions[begin:end].tolist() == (ix * channels + np.flatnonzero(x[b, iy, ix])).tolist()


@pytest.mark.parametrize("channels", [8, 24])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_listing_eight_spikes_at_a_time_equals_its_loops(channels, density):
    x, first = random_spikes((4, 5, channels), density).reshape(-1), 5
    offsets, positions = np.full((2, 4, 6), -1), np.full((2, first + x.size + 8), -1, np.int32)
    spikes.list_spikes_loops(offsets[0], positions[0], x, np.uint64(first))
    spikes.list_spikes_by_words(offsets[1], positions[1], x.view(np.uint64), np.uint64(first), spikes._BITS, spikes._COUNT)
    assert np.array_equal(*offsets) and offsets[0, -1, -1] == first + x.sum()
    assert np.array_equal(*positions[:, : first + x.sum()])


def real_valued(B, seed=0):
    rng = np.random.default_rng(seed)
    x = random_spikes((B, 8, 8, 24), 0.1)
    return x, rng.standard_normal((3, 3, 24, 40), np.float32), rng.standard_normal((B, 8, 8, 40), np.float32)


def test_results_do_not_depend_on_the_number_of_threads():
    x, wt, dy = real_valued(100)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, min(2, before), before):
            numba.set_num_threads(threads)
            y, dwt = np.empty_like(dy), np.empty_like(wt)
            events = find_events(x)
            event_forward(y, events, wt, np.zeros(40, np.float32), SAME)
            event_weight_gradient(dwt, dy, events, SAME)
            results.append((y, dwt))
    finally:
        numba.set_num_threads(before)
    for y, dwt in results[1:]:
        assert np.array_equal(y, results[0][0])
        assert np.array_equal(dwt, results[0][1])


def test_wrong_arrays_are_refused():
    x, wt, dy = real_valued(2)
    events = find_events(x)
    with pytest.raises(ValueError, match="uint8"):
        find_events(x.astype(np.float32))
    with pytest.raises(ValueError, match="output"):
        event_forward(dy[:, 1:], events, wt, np.zeros(40), SAME)
    with pytest.raises(ValueError, match="dtype"):
        event_forward(dy.astype(np.float64), events, wt, np.zeros(40), SAME)
    with pytest.raises(ValueError, match="channels"):
        event_forward(dy, events, wt[:, :, :8], np.zeros(40), SAME)
    with pytest.raises(ValueError, match="kernel"):
        event_forward(dy, events, wt, np.zeros(40), SAME._replace(kw=2))
