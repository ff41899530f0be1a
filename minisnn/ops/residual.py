"""The joins of two branches, forward and backward (Table II).

Symbols: x the main branch, y the shortcut, of the same shape, M elements in memory order; d<name> a gradient.

    ADD   x + y             AND   x * y
    IAND  (1 - x) * y       OR    (x + y) - x * y

On spikes OR, AND and IAND stay within {0, 1}, so the convolution after them has nothing to multiply; ADD reaches 2.
"""

from __future__ import annotations

import numpy as np

from ..engine import Function, Tensor
from ..jit import parallel_kernel, prange
from .layout import from_memory, to_memory

__all__ = ["join", "Join", "JOINS"]

JOINS = ADD, AND, IAND, OR = "add", "and", "iand", "or"
CODES = {name: code for code, name in enumerate(JOINS)}  # compiled loops take numbers
ADD_CODE, AND_CODE, IAND_CODE, OR_CODE = range(4)


@parallel_kernel
def join_forward(out, x, y, code):
    # out, x, y: [M]; spikes as bytes (x + y - x * y never exceeds 2 on the way) or numbers
    for i in prange(x.size):
        if code == ADD_CODE:
            out[i] = x[i] + y[i]
        elif code == AND_CODE:
            out[i] = x[i] * y[i]
        elif code == IAND_CODE:
            out[i] = (1 - x[i]) * y[i]
        else:
            out[i] = (x[i] + y[i]) - x[i] * y[i]


@parallel_kernel
def join_backward(dx, dy, dout, x, y, code):
    # dx, dy, dout: [M] numbers; x, y: [M] spikes or numbers
    real = dout.dtype.type
    for i in prange(x.size):
        if code == ADD_CODE:  # x + y
            dx[i] = dout[i]
            dy[i] = dout[i]
        elif code == AND_CODE:  # x * y
            dx[i] = dout[i] * real(y[i])
            dy[i] = dout[i] * real(x[i])
        elif code == IAND_CODE:  # (1 - x) * y
            dx[i] = -dout[i] * real(y[i])
            dy[i] = dout[i] * real(1 - x[i])
        else:  # (x + y) - x * y
            dx[i] = dout[i] * real(1 - y[i])
            dy[i] = dout[i] * real(1 - x[i])


class Join(Function):
    """See ``join``."""

    takes_spikes = makes_spikes = True

    def forward(self, x, y, how):
        self.code = CODES[how]
        binary = x.dtype == y.dtype == np.bool_
        x, y = (to_memory(a if binary else a.astype(self.dtype, copy=False)) for a in (x, y))
        self.x, self.y = (a.view(np.uint8) if binary else a for a in (x, y))
        stays_binary = binary and how != ADD
        out = np.empty(x.shape, np.uint8 if stays_binary else self.dtype)
        join_forward(out.reshape(-1), self.x.reshape(-1), self.y.reshape(-1), self.code)
        return from_memory(out.view(np.bool_) if stays_binary else out)

    def backward(self, grad):
        dout = to_memory(grad)
        dx, dy = np.empty_like(dout), np.empty_like(dout)
        join_backward(*(a.reshape(-1) for a in (dx, dy, dout, self.x, self.y)), self.code)
        return from_memory(dx), from_memory(dy)


def join(x: Tensor, y: Tensor, how: str = "or") -> Tensor:
    """Join the main branch and the shortcut element by element: Table II, in the module docstring.

    Joining spikes by OR, AND or IAND gives spikes again; by ADD, numbers from 0 to 2.

    Args:
        x, y: [T, N, C, H, W], main branch and shortcut; any two equal shapes.
        how: "or", "add", "and" or "iand".

    Returns:
        Tensor of that shape. Gradients: those of the formulas, e.g. d(OR)/dx = 1 - y.

    Raises:
        ValueError: an unknown join, or branches of different shapes.

    Differs from the authors' code: it calls both branches twice, which moves their neurons' potentials and their
    batch-norm statistics twice, so that the "OR" can leave {0, 1}. Here each branch is computed once, by the caller.
    """
    if how not in CODES:
        raise ValueError(f"join is {how!r}; give one of {', '.join(JOINS)}")
    if x.shape != y.shape:
        raise ValueError(f"join of the shapes {x.shape} (main) and {y.shape} (shortcut); they must be equal")
    return Join.apply(x, y, how=how)
