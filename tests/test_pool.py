"""Pooling against plain NumPy, window by window."""

import numpy as np
import pytest
from checks import close, dtypes, examples, leaf, seeds, spread
from hypothesis import given
from hypothesis import strategies as st

from minisnn import Tensor, gradcheck, ops


@st.composite
def windows(draw):
    """Shape of x, kernel, stride and padding of a window that fits."""
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, kernel // 2))
    size = [draw(st.integers(max(1, kernel - 2 * padding), 7)) for _ in "hw"]
    return (*draw(st.sampled_from([(), (2,), (2, 3)])), draw(st.integers(1, 3)), *size), kernel, stride, padding


def pooled(x, kernel, stride, padding, reduce, fill):
    """``reduce`` of each window, [..., Ho, Wo]; what lies outside is ``fill``."""
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(padding, padding)] * 2, constant_values=fill)
    Ho, Wo = ((n - kernel) // stride + 1 for n in x.shape[-2:])
    out = np.empty(x.shape[:-2] + (Ho, Wo), x.dtype)
    for i in range(Ho):
        for j in range(Wo):
            out[..., i, j] = reduce(x[..., i * stride:i * stride + kernel, j * stride:j * stride + kernel], (-2, -1))
    return out


@examples
@given(windows(), dtypes, seeds)
def test_max_pool(window, dtype, seed):
    shape, *numbers = window
    x = spread(shape, seed).astype(dtype)
    out = ops.max_pool2d(Tensor(x), *numbers)
    assert out.dtype == dtype and np.array_equal(out.data, pooled(x, *numbers, np.max, -np.inf))
    gradcheck(lambda a: ops.max_pool2d(a, *numbers), leaf(x))


@examples
@given(windows(), st.sampled_from([0.0, 0.1, 0.5, 1.0]), seeds)
def test_max_pool_of_spikes_is_spikes(window, density, seed):
    shape, *numbers = window
    spikes = np.random.default_rng(seed).random(shape) < density
    out = ops.max_pool2d(Tensor(spikes), *numbers)
    assert out.is_spikes and np.array_equal(out.storage, pooled(spikes, *numbers, np.max, False))


def test_of_equal_values_the_first_gets_the_gradient():
    x = Tensor(np.array([[[0, 1, 1], [1, 0, 0], [0, 0, 0]]], bool), requires_grad=True)
    ops.max_pool2d(x, 2, 1).backward(np.array([[[1, 2], [4, 8]]]))
    assert x.grad.tolist() == [[[0, 3, 0], [4, 8, 0], [0, 0, 0]]]


@examples
@given(windows(), dtypes, seeds)
def test_avg_pool(window, dtype, seed):
    shape, *numbers = window
    x = spread(shape, seed).astype(dtype)
    close(ops.avg_pool2d(Tensor(x), *numbers).data, pooled(x, *numbers, np.mean, 0))
    gradcheck(lambda a: ops.avg_pool2d(a, *numbers), leaf(x))


@examples
@given(windows(), st.integers(1, 9), dtypes, seeds)
def test_adaptive_avg_pool(window, size, dtype, seed):
    shape = window[0]
    x = spread(shape, seed).astype(dtype)
    expected = np.empty(shape[:-2] + (size, size), dtype)
    for i in range(size):
        for j in range(size):
            rows, columns = (slice(k * n // size, -(-(k + 1) * n // size)) for k, n in zip((i, j), shape[-2:]))
            expected[..., i, j] = x[..., rows, columns].mean((-2, -1))
    close(ops.adaptive_avg_pool2d(Tensor(x), size).data, expected)
    gradcheck(lambda a: ops.adaptive_avg_pool2d(a, size), leaf(x))
    mean = x.mean((-2, -1))
    close(ops.global_avg_pool2d(Tensor(x)).data, np.asarray(mean))


def test_spikes_are_averaged_without_decoding_them():
    spikes = np.random.default_rng(0).random((2, 1, 3, 4, 4)) < 0.4
    x = Tensor(spikes, requires_grad=True)
    out = ops.avg_pool2d(x, 2)
    close(out.data, pooled(spikes.astype(np.float32), 2, 2, 0, np.mean, 0))
    out.backward(np.ones(out.shape))
    assert np.array_equal(x.grad, np.full(x.shape, 0.25, np.float32))


@pytest.mark.parametrize("pool", [ops.max_pool2d, ops.avg_pool2d])
@pytest.mark.parametrize("shape, numbers, complaint", [
    ((4, 4), (2,), "give"), ((1, 4, 4), (0,), "kernel 0"), ((1, 4, 4), (2.5,), "kernel 2.5"), ((1, 4, 4), (2, 0), "stride 0"),
    ((1, 4, 4), (2, 1, 2), "padding 2"),
    ((1, 4, 4), (2, 1, -1), "padding -1"), ((1, 2, 4), (3, 1, 0), "does not fit")])
def test_what_does_not_fit_is_refused(pool, shape, numbers, complaint):
    with pytest.raises(ValueError, match=f"{pool.__name__}.*{complaint}"):
        pool(Tensor(np.ones(shape)), *numbers)


def test_bins_out_of_range_are_refused():
    with pytest.raises(ValueError, match="adaptive_avg_pool2d"):
        ops.adaptive_avg_pool2d(Tensor(np.ones((1, 4, 4))), 0)
    with pytest.raises(ValueError, match="adaptive_avg_pool2d"):
        ops.adaptive_avg_pool2d(Tensor(np.ones((4, 4))), 2)
