"""The linear layer, forward and backward.

Axes: R rows (any leading axes), F input features, O outputs.
Plain loops, not a BLAS product: BLAS may round a row differently depending on the other rows, and a sample's
scores must not depend on its batch.
"""

from __future__ import annotations

import numpy as np

from .. import ledger
from ..engine import Function, Tensor
from ..jit import kernel, parallel_kernel, prange

__all__ = ["linear", "Linear"]


def linear_forward(out, x, weight_t, bias):
    # out: [R, O]; x: [R, F]; weight_t: [F, O]; bias: [O]
    for r in prange(out.shape[0]):
        out[r] = bias
        for f in range(x.shape[1]):
            for o in range(out.shape[1]):
                out[r, o] += x[r, f] * weight_t[f, o]


def linear_backward(dx, dweight, dbias, dout, x, weight):
    # all gradients start at 0; weight, dweight: [O, F]; the other shapes as in linear_forward
    for r in prange(x.shape[0]):
        for o in range(dout.shape[1]):
            for f in range(x.shape[1]):  # out[r, o] += x[r, f] * weight[o, f]
                dx[r, f] += dout[r, o] * weight[o, f]
    for o in prange(dout.shape[1]):
        for r in range(x.shape[0]):
            dbias[o] += dout[r, o]  # out[r, o] = bias[o]
            for f in range(x.shape[1]):  # out[r, o] += x[r, f] * weight[o, f]
                dweight[o, f] += dout[r, o] * x[r, f]


SMALL = 1 << 20  # products; below that, waking the threads costs more than the work
serial = kernel(linear_forward), kernel(linear_backward)
parallel = parallel_kernel(linear_forward), parallel_kernel(linear_backward)


class Linear(Function):
    """See ``linear``."""

    reuses = "others"

    def forward(self, x, weight, bias):
        self.x, self.weight = np.ascontiguousarray(x), np.ascontiguousarray(weight)
        out = np.empty(x.shape[:-1] + bias.shape, self.dtype)
        rows = self.x.reshape(-1, x.shape[-1])
        self.loops = serial if rows.size * len(bias) < SMALL else parallel
        self.loops[0](out.reshape(len(rows), -1), rows, np.ascontiguousarray(weight.T), np.ascontiguousarray(bias))
        if ledger.is_open():
            ledger.record("linear", "linear", mac=rows.size * len(bias))
        return out

    def backward(self, grad):
        dx, dweight, dbias = np.zeros_like(self.x), np.zeros_like(self.weight), np.zeros(grad.shape[-1], self.dtype)
        dout = np.ascontiguousarray(grad).reshape(-1, grad.shape[-1])
        features = self.x.shape[-1]
        self.loops[1](dx.reshape(-1, features), dweight, dbias, dout, self.x.reshape(-1, features), self.weight)
        return dx, dweight, dbias


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """out = x @ weight.T + bias.

    Args:
        x: [..., F].
        weight: [O, F].
        bias: [O].

    Returns:
        Tensor [..., O].

    Raises:
        ValueError: shapes that do not fit together.
    """
    if x.ndim < 1 or weight.ndim != 2 or x.shape[-1:] != weight.shape[1:] or bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: x {x.shape}, weight {weight.shape}, bias {bias.shape}; give [..., F], [O, F] and [O]")
    return Linear.apply(x, weight, bias)
