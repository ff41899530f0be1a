"""Batch normalization over time, batch and space, forward and backward.

Axes: T time steps, N batch, C channels, H height, W width; R = T * N * H * W rows of C channels each.
Symbols: a = weight / std and b = bias - a * mean, so that the output is a * x + b; d<name> a gradient.

    out = weight * (x - mean) / sqrt(var + eps) + bias                                    (Ioffe and Szegedy 2015)

A spiking network shares its weights over time, so the statistics run over T as well.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ledger, parallel
from ..engine import Function, Tensor
from ..jit import parallel_kernel, prange
from .layout import channels_first_view, channels_last

__all__ = ["batch_norm", "BatchNorm", "mean_and_variance", "input_gradient_terms"]

ROW_PARTS = 64  # of the rows, each with its own sums: a fixed number, so that results do not depend on the number of threads


@parallel_kernel
def moments(sums, x, shift):
    # sums: [ROW_PARTS, 2, C] float64; x: [R, C]; shift: [C], near the mean so that the squares do not cancel
    R, C = x.shape
    for p in prange(ROW_PARTS):
        sums[p] = 0.0
        for r in range(R * p // ROW_PARTS, R * (p + 1) // ROW_PARTS):
            for c in range(C):
                d = x[r, c] - shift[c]
                sums[p, 0, c] += d
                sums[p, 1, c] += d * d


@parallel_kernel
def batch_norm_forward(out, x, a, b):
    # out, x: [R, C]; a, b: [C]
    R, C = x.shape
    for p in prange(ROW_PARTS):
        for r in range(R * p // ROW_PARTS, R * (p + 1) // ROW_PARTS):
            for c in range(C):
                out[r, c] = a[c] * x[r, c] + b[c]


@parallel_kernel
def batch_norm_sums(sums, dout, x, mean):
    # sums: [ROW_PARTS, 2, C] float64; dout, x: [R, C]; mean: [C]
    R, C = x.shape
    for p in prange(ROW_PARTS):
        sums[p] = 0.0
        for r in range(R * p // ROW_PARTS, R * (p + 1) // ROW_PARTS):
            for c in range(C):
                sums[p, 0, c] += dout[r, c]
                sums[p, 1, c] += dout[r, c] * (x[r, c] - mean[c])


@parallel_kernel
def batch_norm_backward(dx, dout, x, a, mean, by_mean, by_std):
    # dx, dout, x: [R, C]; the others: [C]
    # out = a * (x - mean) + bias, where the mean, and a through the variance, depend on every x of the channel
    R, C = x.shape
    for p in prange(ROW_PARTS):
        for r in range(R * p // ROW_PARTS, R * (p + 1) // ROW_PARTS):
            for c in range(C):
                dx[r, c] = a[c] * dout[r, c] - by_mean[c] - by_std[c] * (x[r, c] - mean[c])


def statistics(rows):
    """Mean and (biased) variance of each channel of [R, C], float64."""
    R, C = rows.shape
    sums = np.empty((ROW_PARTS, 2, C))
    shift = rows[0].copy()
    moments(sums, rows, shift)
    off, square = sums.sum(0) / R
    return shift + off, np.maximum(square - off * off, 0.0)


def input_gradient_terms(sums: np.ndarray, rows: int, a: np.ndarray, var: np.ndarray, eps: float) -> tuple[np.ndarray, ...]:
    """What the statistics' dependence on x subtracts from dx: ``by_mean`` and ``by_std`` of ``batch_norm_backward``, float64.

    Args:
        sums: over the rows of a channel, of dout and of dout * (x - mean), [2, C].
        rows: R.
        a, var: as in the module docstring, [C].
    """
    return a * sums[0] / rows, a * sums[1] / rows / (var + eps)


class BatchNorm(Function):
    """See ``batch_norm``."""

    def forward(self, x, weight, bias, running_mean, running_var, training, momentum, eps):
        last = channels_last(x)
        rows, real = last.reshape(-1, last.shape[-1]), x.dtype.type
        mean, var = mean_and_variance(rows, running_mean, running_var, training, momentum)
        a = weight / np.sqrt(var + eps)
        ledger.record("batch_norm", "norm", mac=x.size)
        out = np.empty_like(last)
        batch_norm_forward(out.reshape(rows.shape), rows, real_array(a, real), real_array(bias - a * mean, real))
        if self.recording:
            self.x, self.shape, self.training = rows, last.shape, training
            self.a, self.mean, self.var, self.eps = a, mean, var, eps
        return channels_first_view(out)

    def backward(self, grad):
        dout, real = channels_last(grad).reshape(self.x.shape), grad.dtype.type
        mean, parts = real_array(self.mean, real), np.empty((ROW_PARTS, 2, self.a.size))
        batch_norm_sums(parts, dout, self.x, mean)
        sums = parts.sum(0)
        by_mean, by_std = np.zeros_like(sums)
        if self.training:
            by_mean, by_std = input_gradient_terms(*parallel.sums(sums, len(dout)), self.a, self.var, self.eps)
        dx = np.empty_like(dout)
        batch_norm_backward(dx, dout, self.x, *(real_array(v, real) for v in (self.a, self.mean, by_mean, by_std)))
        dweight = real_array(sums[1] / np.sqrt(self.var + self.eps), real)
        return channels_first_view(dx.reshape(self.shape)), dweight, real_array(sums[0], real)


def real_array(values, real):
    """Per-channel constants, computed in float64, in the dtype of the loops."""
    return values.astype(real, copy=False)


def mean_and_variance(
    rows: np.ndarray, running_mean: np.ndarray, running_var: np.ndarray, training: bool, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """The mean and variance that normalize rows [R, C], [C] each, float64: in training the rows' own, towards which the running
    ones are moved; in evaluation the running ones.

    Raises:
        FloatingPointError: in training, if a channel holds NaN or infinity; the running statistics are left as they were.
    """
    if not training:
        return running_mean.astype(np.float64), running_var.astype(np.float64)
    mean, var = statistics(rows)
    mean, var, count = parallel.moments(mean, var, len(rows))
    broken = np.flatnonzero(~np.isfinite(mean + var))
    if len(broken):
        raise FloatingPointError(
            f"batch_norm: channel {broken[0]} of its input holds NaN, infinity, or numbers too large to "
            "square; look for them in the network's input and in the preceding weights"
        )
    update_running(running_mean, running_var, mean, var, count, momentum)
    return mean, var


def update_running(running_mean, running_var, mean, var, rows, momentum):
    """Move the running statistics towards this batch's, in place; the variance unbiased, as in PyTorch."""
    running_mean += (momentum * (mean - running_mean)).astype(running_mean.dtype)
    running_var += (momentum * (var * rows / (rows - 1) - running_var)).astype(running_var.dtype)


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel over (T, N, H, W), then scale and shift it: the equation in the module docstring.

    Training takes mean and variance from ``x`` and moves the running statistics towards them (the variance unbiased,
    R / (R - 1)); evaluation takes the running statistics, so that a sample's result does not depend on its batch.

    Args:
        x: [T, N, C, H, W] or [N, C, H, W].
        weight, bias: Tensors [C].
        running_mean, running_var: ndarrays [C], changed in place in training.
        training: which statistics to take.
        momentum: the weight of this batch in the running statistics.
        eps: added to the variance.

    Returns:
        Tensor of x's shape.

    Raises:
        ValueError: fewer than 3 axes, weights that do not match the channels, a momentum or eps out of range, or, in training,
            a single value per channel, which has no variance.
        FloatingPointError: in training, NaN or infinity in ``x``; the running statistics are left as they were.
    """
    check_batch_norm(x.shape, weight, bias, running_mean, running_var, training, momentum, eps)
    return BatchNorm.apply(
        x, weight, bias, running_mean=running_mean, running_var=running_var, training=training, momentum=momentum, eps=eps
    )


def check_batch_norm(shape, weight, bias, running_mean, running_var, training, momentum, eps):
    """Reject arguments of ``batch_norm`` that do not fit an input of ``shape``, [..., C, H, W], or are out of range."""
    C = shape[-3] if len(shape) >= 3 else None
    for name, array in (("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var)):
        if array.shape != (C,):
            raise ValueError(
                f"batch_norm: {name} has shape {array.shape}, but x of shape {shape} needs one number per "
                "channel of [..., C, H, W]"
            )
    if 0 in shape:
        raise ValueError(f"batch_norm: x of shape {shape} is empty")
    if training and math.prod(shape) == C and parallel.size() == 1:
        raise ValueError(
            f"batch_norm: x of shape {shape} has one value per channel, which has no variance to train with; give "
            "more time steps, samples or pixels, or use evaluation mode"
        )
    if not (0 <= momentum <= 1 and 0 < eps < math.inf):
        raise ValueError(f"batch_norm: momentum {momentum}, eps {eps}; give a momentum from 0 to 1 and an eps above 0")
