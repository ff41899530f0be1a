"""Pooling over space, forward and backward.

Axes: B = T * N images, C channels, H height, W width, Ho and Wo of the output; oy, ox an output pixel, iy, ix an input pixel.
Images are channels last in memory, so the innermost loop of every kernel runs over the channels of one pixel.
"""

from __future__ import annotations

import numpy as np

from ..engine import Function, Tensor
from ..jit import parallel_kernel, prange
from .layout import images, output_size, public

__all__ = ["max_pool2d", "avg_pool2d", "sum_pool2d", "adaptive_avg_pool2d", "global_avg_pool2d"]


@parallel_kernel
def max_pool_forward(y, winner, x, k, stride, pad):
    # y: [B, Ho, Wo, C]; winner: int32, the same shape, iy * W + ix of the maximum; x: [B, H, W, C]
    B, H, W, C = x.shape
    for b in prange(B):
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                winner[b, oy, ox] = -1
                for iy in range(max(0, oy * stride - pad), min(H, oy * stride - pad + k)):
                    for ix in range(max(0, ox * stride - pad), min(W, ox * stride - pad + k)):
                        for c in range(C):  # only a larger value replaces: the first of equal ones wins, and so does NaN
                            v = x[b, iy, ix, c]
                            if winner[b, oy, ox, c] < 0 or v > y[b, oy, ox, c] or v != v:
                                y[b, oy, ox, c] = x[b, iy, ix, c]
                                winner[b, oy, ox, c] = iy * W + ix


@parallel_kernel
def max_pool_backward(dx, dy, winner):
    # dx: [B, H * W, C], zero; dy, winner: [B, Ho, Wo, C]
    for b in prange(dx.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for c in range(dy.shape[3]):  # y[b, oy, ox, c] = x[b, winner, c]
                    dx[b, winner[b, oy, ox, c], c] += dy[b, oy, ox, c]


@parallel_kernel
def average_pool_forward(y, x, rows, columns, divisor):
    # y: [B, Ho, Wo, C]; x: [B, H, W, C]; rows: [Ho, 2], columns: [Wo, 2], first and end of each bin; divisor: [Ho, Wo]
    for b in prange(x.shape[0]):
        y[b] = 0
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                for iy in range(rows[oy, 0], rows[oy, 1]):
                    for ix in range(columns[ox, 0], columns[ox, 1]):
                        for c in range(x.shape[3]):
                            y[b, oy, ox, c] += x[b, iy, ix, c]
                for c in range(x.shape[3]):
                    y[b, oy, ox, c] /= divisor[oy, ox]


@parallel_kernel
def average_pool_backward(dx, dy, rows, columns, divisor):
    # dx: [B, H, W, C]; dy: [B, Ho, Wo, C]; the others as in average_pool_forward
    for b in prange(dx.shape[0]):
        dx[b] = 0
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for iy in range(rows[oy, 0], rows[oy, 1]):
                    for ix in range(columns[ox, 0], columns[ox, 1]):
                        for c in range(dx.shape[3]):  # y[b, oy, ox, c] += x[b, iy, ix, c] / divisor[oy, ox]
                            dx[b, iy, ix, c] += dy[b, oy, ox, c] / divisor[oy, ox]


class MaxPool(Function):
    """See ``max_pool2d``."""

    makes_spikes = True
    reuses = "none"
    takes_spikes = True

    def forward(self, x, kernel, stride, padding):
        self.lead, binary, x = x.shape[:-3], x.dtype == np.bool_, images(x)
        self.shape = x.shape
        size = [output_size(n, kernel, stride, padding) for n in x.shape[1:3]]
        y = np.empty((x.shape[0], *size, x.shape[3]), x.dtype)
        self.winner = np.empty(y.shape, np.int32)
        max_pool_forward(y, self.winner, x, kernel, stride, padding)
        return public(y.view(np.bool_) if binary else y, self.lead)

    def backward(self, grad):
        B, H, W, C = self.shape
        dx = np.zeros((B, H * W, C), self.dtype)
        max_pool_backward(dx, images(grad), self.winner)
        return public(dx.reshape(self.shape), self.lead)


class AveragePool(Function):
    """See ``avg_pool2d`` and ``adaptive_avg_pool2d``."""

    reuses = "none"
    takes_spikes = True

    def forward(self, x, rows, columns, divisor):
        self.lead, x = x.shape[:-3], images(x)
        self.shape, self.bins = x.shape, (rows, columns, divisor.astype(self.dtype))
        y = np.empty((x.shape[0], len(rows), len(columns), x.shape[3]), self.dtype)
        average_pool_forward(y, x, *self.bins)
        return public(y, self.lead)

    def backward(self, grad):
        dx = np.empty(self.shape, self.dtype)
        average_pool_backward(dx, images(grad), *self.bins)
        return public(dx, self.lead)


def _check_window(name, x, kernel, stride, padding):
    if x.ndim < 3:
        raise ValueError(f"{name}: x has shape {x.shape}; give [..., C, H, W]")
    whole = all(isinstance(n, (int, np.integer)) for n in (kernel, stride, padding))
    if not whole or kernel < 1 or stride < 1 or not 0 <= padding <= kernel // 2:
        raise ValueError(
            f"{name}: kernel {kernel}, stride {stride}, padding {padding}; give whole numbers, kernel and stride "
            "of at least 1 and a padding from 0 to half the kernel"
        )
    if 0 in x.shape:
        raise ValueError(f"{name}: x of shape {x.shape} is empty")
    if min(x.shape[-2:]) + 2 * padding < kernel:
        raise ValueError(f"{name}: a window of {kernel} does not fit into maps of {x.shape[-2:]} with padding {padding}")


def max_pool2d(x: Tensor, kernel: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """The largest value in each window; the pool of spikes is spikes.

    y[oy, ox] = max of x[iy, ix] for iy in oy * stride - padding + [0, kernel), and ix likewise.
    Pixels outside do not count. The gradient goes to the first of equal values in row order, and NaN propagates, as in PyTorch.

    Args:
        x: [..., C, H, W].
        kernel, stride, padding: pixels, for both axes; the stride is the kernel's size by default.

    Returns:
        Tensor [..., C, Ho, Wo] with Ho = (H + 2 * padding - kernel) // stride + 1.

    Raises:
        ValueError: a window that does not fit, or a number out of range.
    """
    stride = kernel if stride is None else stride
    _check_window("max_pool2d", x, kernel, stride, padding)
    return MaxPool.apply(x, kernel=int(kernel), stride=int(stride), padding=int(padding))


def avg_pool2d(x: Tensor, kernel: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """The mean of each window; pixels outside count as 0, as in PyTorch.

    y[oy, ox] = sum of x[iy, ix] / kernel^2 for iy in oy * stride - padding + [0, kernel), and ix likewise.

    Args, Returns and Raises as for ``max_pool2d``.
    """
    return _add_windows("avg_pool2d", x, kernel, stride, padding, lambda side: side * side)


def sum_pool2d(x: Tensor, kernel: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """The sum of each window; of spikes, how many of its neurons fired.

    y[oy, ox] = sum of x[iy, ix] for iy in oy * stride - padding + [0, kernel), and ix likewise; pixels outside count as 0.

    Args, Returns and Raises as for ``max_pool2d``.
    """
    return _add_windows("sum_pool2d", x, kernel, stride, padding, lambda side: 1)


def _add_windows(name, x, kernel, stride, padding, divisor):
    stride = kernel if stride is None else stride
    _check_window(name, x, kernel, stride, padding)
    bins = []
    for n in x.shape[-2:]:
        first = np.arange(output_size(n, kernel, stride, padding)) * stride - padding
        bins.append(np.stack([np.maximum(first, 0), np.minimum(first + kernel, n)], 1))
    divisors = np.full((len(bins[0]), len(bins[1])), divisor(kernel))
    return AveragePool.apply(x, rows=bins[0], columns=bins[1], divisor=divisors)


def adaptive_avg_pool2d(x: Tensor, size: int) -> Tensor:
    """The mean of each of size x size bins that cover the map, whatever its size.

    Bin i covers the rows floor(i * H / size) up to ceil((i + 1) * H / size), as in PyTorch; bins may overlap by a row.

    Args:
        x: [..., C, H, W].
        size: number of bins along each axis.

    Returns:
        Tensor [..., C, size, size].

    Raises:
        ValueError: size below 1, or fewer than 3 axes.
    """
    if x.ndim < 3 or 0 in x.shape or not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(
            f"adaptive_avg_pool2d: shape {x.shape} to {size} bins; give [..., C, H, W], none of them 0, and at least 1 bin"
        )
    k = np.arange(size)
    rows, columns = (np.stack([k * n // size, -(-(k + 1) * n // size)], 1) for n in x.shape[-2:])
    divisor = np.outer(rows[:, 1] - rows[:, 0], columns[:, 1] - columns[:, 0])
    return AveragePool.apply(x, rows=rows, columns=columns, divisor=divisor)


def global_avg_pool2d(x: Tensor) -> Tensor:
    """The mean of each map.

    Args:
        x: [..., C, H, W].

    Returns:
        Tensor [..., C].

    Raises:
        ValueError: fewer than 3 axes.
    """
    return adaptive_avg_pool2d(x, 1).reshape(x.shape[:-2])
