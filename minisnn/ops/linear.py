"""The linear layer, forward and backward: of numbers by multiplying, of spikes by additions only.

Axes: R rows (any leading axes), F input features, O outputs. In memory the weights are [F, O], so that what one spike adds is
one contiguous row.

    out[r, o] = sum over f of x[r, f] weight[o, f] + bias[o]

The loops at the top are the definitions. What runs, where there is enough to do, is faster and adds the same numbers in the
same order: the matrix product of rows.py, and for spikes the events of event_conv.py, of which a linear layer is the case of
one pixel and one tap. No BLAS: it may round a row differently depending on the other rows, and a sample's scores must not
depend on its batch.
"""

from __future__ import annotations

import numpy as np

from .. import ledger
from ..engine import Function, Tensor
from ..jit import kernel, parallel_kernel, prange
from . import event_conv, rows
from .layout import Window
from .spikes import find_events

__all__ = ["linear", "Linear", "forward_rows", "input_gradient", "weight_gradient", "count_rows"]

ONE = Window(1, 1, 1, 1, 0, 0)  # one pixel, one tap
SMALL = 1 << 20  # products; below that, waking the threads costs more than the work
PARTS = 16  # pieces of a product that threads share


# ---- the definitions -------------------------------------------------------------------------------------------------


@kernel
def linear_forward(out, x, wt, bias):
    # out: [R, O]; x: [R, F]; wt: [F, O]; bias: [O]
    for r in range(out.shape[0]):
        out[r] = 0
        for f in range(x.shape[1]):
            for o in range(out.shape[1]):
                out[r, o] += x[r, f] * wt[f, o]
        out[r] += bias


@kernel
def linear_backward(dx, dwt, dout, x, wt):
    # dx: [R, F] and dwt: [F, O] start at 0; the other shapes as in linear_forward
    for r in range(x.shape[0]):
        for f in range(x.shape[1]):
            for o in range(dout.shape[1]):  # out[r, o] += x[r, f] * wt[f, o]
                dx[r, f] += dout[r, o] * wt[f, o]
                dwt[f, o] += dout[r, o] * x[r, f]


@kernel
def event_linear_forward(out, x, wt, bias):
    # as linear_forward, of spikes x: bytes 0 or 1
    for r in range(out.shape[0]):
        sums = out[r]
        sums[:] = 0
        for f in range(x.shape[1]):
            if x[r, f]:
                row = wt[f]
                for o in range(sums.size):
                    sums[o] += row[o]
        for o in range(sums.size):
            sums[o] += bias[o]


@kernel
def event_linear_weight_gradient(dwt, dout, x):
    # dwt: [F, O] <- dout: [R, O], x: [R, F], bytes 0 or 1
    dwt[:] = 0
    for r in range(dout.shape[0]):
        grad = dout[r]
        for f in range(x.shape[1]):
            if x[r, f]:  # out[r, o] += wt[f, o]
                row = dwt[f]
                for o in range(grad.size):
                    row[o] += grad[o]


# ---- what runs -------------------------------------------------------------------------------------------------------


@kernel
def multiply_serially(out, x, step_m, step_k, w):
    # out: [m, n] <- x: [m, k], flat, entry (i, l) at i * step_m + l * step_k; w: [k, n]
    m, n = out.shape
    rows.product(out.reshape(-1), 0, n, x, 0, step_m, step_k, w.reshape(-1), 0, n, m, w.shape[0], n)


@parallel_kernel
def multiply_in_parts(out, x, step_m, step_k, w):
    m, n = out.shape
    flat, weights = out.reshape(-1), w.reshape(-1)
    for p in prange(PARTS):
        lo, hi = m * p // PARTS, m * (p + 1) // PARTS
        if hi > lo:
            rows.product(flat, lo * n, n, x, lo * step_m, step_m, step_k, weights, 0, n, hi - lo, w.shape[0], n)


def multiply(out, x, step_m, step_k, w):
    """out [m, n] <- x [m, k] w [k, n]; see ``multiply_serially``."""
    run = multiply_serially if out.size * len(w) < SMALL else multiply_in_parts
    run(out, x.reshape(-1), step_m, step_k, w)


def forward_rows(out: np.ndarray, x: np.ndarray, wt: np.ndarray, bias: np.ndarray) -> None:
    """out [R, O] <- x [R, F], numbers or spikes as bytes; wt [F, O], bias [O]; all contiguous."""
    R, F = x.shape
    if x.dtype == np.uint8 and x.size * out.shape[1] < SMALL:
        event_linear_forward(out, x, wt, bias)
        return
    if x.dtype == np.uint8:
        nothing, events = np.zeros(len(bias), out.dtype), find_events(x.reshape(R, 1, 1, F))
        event_conv.event_forward(out.reshape(R, 1, 1, -1), events, wt[None, None], nothing, ONE)
    else:
        multiply(out, x, F, 1, wt)
    out += bias


def input_gradient(dx: np.ndarray, dout: np.ndarray, wt: np.ndarray) -> None:
    """dx [R, F] <- dout [R, O], wt [F, O]; all contiguous."""
    multiply(dx, dout, dout.shape[1], 1, np.ascontiguousarray(wt.T))


def weight_gradient(dwt: np.ndarray, dout: np.ndarray, x: np.ndarray) -> None:
    """dwt [F, O] <- dout [R, O], x [R, F], numbers or spikes as bytes; all contiguous."""
    R, F = x.shape
    if x.dtype != np.uint8:
        multiply(dwt, x, 1, F, dout)
    elif x.size * dout.shape[1] < SMALL:
        event_linear_weight_gradient(dwt, dout, x)
    else:
        events = find_events(x.reshape(R, 1, 1, F))
        event_conv.event_weight_gradient(dwt[None, None], dout.reshape(R, 1, 1, -1), events, ONE)


def count_rows(x: np.ndarray, outputs: int) -> None:
    """Record what x [..., F] costs: spikes, as bytes, add a row for each 1 (AC), numbers multiply everything (MAC)."""
    if x.dtype == np.uint8:
        ledger.record("linear", "linear", ac=int(np.count_nonzero(x)) * outputs)
    else:
        ledger.record("linear", "linear", mac=x.size * outputs)


class Linear(Function):
    """See ``linear``."""

    reuses = "others"
    takes_spikes = True

    def forward(self, x, weight, bias):
        self.shape = x.shape
        x = np.ascontiguousarray(x)
        x = x.view(np.uint8) if x.dtype == np.bool_ else x
        if ledger.is_open():
            count_rows(x, len(bias))
        self.x, self.wt = x.reshape(-1, x.shape[-1]), np.ascontiguousarray(weight.T)
        out = np.empty((len(self.x), len(bias)), self.dtype)
        forward_rows(out, self.x, self.wt, np.ascontiguousarray(bias))
        return out.reshape(self.shape[:-1] + bias.shape)

    def backward(self, grad):
        dout = np.ascontiguousarray(grad).reshape(len(self.x), -1)
        dx = dwt = None
        if self.needs[0]:
            dx = np.empty(self.x.shape, self.dtype)
            input_gradient(dx, dout, self.wt)
            dx = dx.reshape(self.shape)
        if self.needs[1]:
            dwt = np.empty_like(self.wt)
            weight_gradient(dwt, dout, self.x)
            dwt = dwt.T
        return dx, dwt, dout.sum(0)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """out = x @ weight.T + bias. Spikes only add: the weights of a feature that fired.

    Args:
        x: [..., F], numbers or spikes.
        weight: [O, F].
        bias: [O].

    Returns:
        Tensor [..., O].

    In an open ledger spikes count their additions (AC, the FC term of Eq. 11), numbers a product for each weight (MAC).

    Raises:
        ValueError: shapes that do not fit together.
    """
    if x.ndim < 1 or weight.ndim != 2 or x.shape[-1:] != weight.shape[1:] or bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: x {x.shape}, weight {weight.shape}, bias {bias.shape}; give [..., F], [O, F] and [O]")
    return Linear.apply(x, weight, bias)
