"""Convolution: one public function, two methods of computing it.

Axes: T time steps, N batch, B = T * N images, C channels, H height, W width; weights are [Cout, Cin, kh, kw] to the
caller and [kh, kw, Cin, Cout] in memory, so that what one spike adds is one contiguous row.

    y[b, co, oy, ox] = sum over ci, ky, kx of
                       w[co, ci, ky, kx] * x[b, ci, oy * stride + ky - padding, ox * stride + kx - padding]

The loops have modules of their own: dense_conv.py multiplies everything, whatever its value; event_conv.py takes a spike
input and only adds the weights of what fired. This module chooses between them and puts them on the tape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ledger
from ..engine import Function, Tensor
from . import dense_conv, event_conv, spikes
from .cost import events_pay_backward, events_pay_forward
from .layout import Window, images, public

__all__ = ["conv2d", "Conv2d", "METHODS"]

METHODS = AUTO, DENSE, EVENT = "auto", "dense", "event"


class Conv2d(Function):
    """See ``conv2d``."""

    takes_spikes = True
    reuses = "others"
    events: Any  # of the input, if it is spikes and adding for them pays

    def forward(self, x, w, *bias, stride, padding, method):
        self.lead, x, self.w = x.shape[:-3], images(x), np.ascontiguousarray(w.transpose(2, 3, 1, 0))
        kh, kw, _, Cout = self.w.shape
        self.shape, self.window = x.shape, Window(kh, kw, *stride, *padding)
        y = np.empty((len(x), *self.window.output_shape(*x.shape[1:3]), Cout), self.dtype)
        row = np.ascontiguousarray(bias[0]) if bias else np.zeros(Cout, self.dtype)
        fired: Any
        fired, binary = spikes.as_spikes(x) if method != DENSE or ledger.is_open() else (None, np.zeros(len(x), bool))
        if method == EVENT and not binary.all():
            raise ValueError(
                "conv2d: method 'event' adds weights for spikes, but x holds values other than 0 and 1; "
                "give method 'auto' or 'dense'"
            )
        self.events = spikes.find_events(fired) if binary.all() and method != DENSE else None
        forward_by_events, backward_by_events = self.choose(method)
        if forward_by_events:
            additions = event_conv.event_forward(y, self.events, self.w, row, self.window)
            ledger.record("conv2d", "conv", ac=additions)
        else:
            dense_conv.dense_forward(y, x.astype(self.dtype, copy=False), self.w, row, self.window, x.dtype == np.uint8)
            if ledger.is_open():
                self.record(fired, binary)
        if not backward_by_events:
            self.events = None
            self.x: Any = x if self.recording else None
        return public(y, self.lead)

    def choose(self, method):
        """Whether the forward pass and the weight gradient add events, each decided separately."""
        if self.events is None or method != AUTO:
            return (self.events is not None,) * 2
        size = self.events.spikes, self.shape, self.w.shape[3], self.window
        return events_pay_forward(*size, self.dtype), events_pay_backward(*size)

    def record(self, fired, binary):
        """Record what the images cost, whatever method was used; those of a sample count as spikes together or not at all."""
        B, H, W, Cin = self.shape
        N, Cout = self.lead[-1], self.w.shape[3]
        binary = np.tile(binary.reshape(-1, N).all(0), B // N)
        ledger.record(
            "conv2d",
            "conv",
            ac=spikes.accumulations(fired[binary], Cout, self.window),
            mac=int(B - binary.sum()) * Cin * Cout * spikes.taps_inside(H, W, self.window),
        )

    def backward(self, grad):
        dy = images(grad)
        dx = dw = None
        if self.needs[0]:
            dx = np.empty(self.shape, self.dtype)
            dense_conv.dense_input_gradient(dx, dy, self.w, self.window)
            dx = public(dx, self.lead)
        if self.needs[1]:
            dw = np.empty_like(self.w)
            if self.events is not None:
                event_conv.event_weight_gradient(dw, dy, self.events, self.window)
            else:
                dense_conv.dense_weight_gradient(dw, self.x.astype(self.dtype, copy=False), dy, self.window)
            dw = dw.transpose(3, 2, 0, 1)
        return (dx, dw) + ((dy.sum((0, 1, 2)),) if len(self.needs) > 2 else ())


def pair(name, value):
    """A number for both axes, or one for each."""
    both = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(both) != 2 or not all(isinstance(v, (int, np.integer)) for v in both):
        raise ValueError(f"conv2d: {name} is {value!r}; give a whole number or two")
    return tuple(int(v) for v in both)


def conv2d(
    x: Tensor,
    w: Tensor,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    method: str = "auto",
    bias: Tensor | None = None,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation, as everywhere in the field): the equation in the module docstring.

    Args:
        x: [T, N, Cin, H, W] or [N, Cin, H, W]; spikes or numbers.
        w: [Cout, Cin, kh, kw].
        stride, padding: pixels; one number, or one for each axis. Padding is zeros.
        method: "event" adds the weights of the inputs that fired and multiplies nothing, so x must hold only 0 and 1;
            "dense" multiplies everything; "auto" takes events if x is spikes, few enough for that to be faster, and
            decides separately for the forward pass and for the weight gradient (cost.py).
        bias: [Cout] or None.

    Returns:
        Tensor [..., Cout, Ho, Wo] with Ho = (H + 2 * padding - kh) // stride + 1.

    In an open ledger a sample that holds only 0 and 1, at all of its time steps, counts the additions of its spikes (AC);
    any other one counts a product for every pixel, channel and tap inside the map (MAC). So what is counted for a sample
    depends neither on the other samples of its batch nor on ``method``.

    Raises:
        ValueError: shapes that do not fit together, a number out of range, an unknown method, or "event" on numbers.
    """
    steps, pads = pair("stride", stride), pair("padding", padding)
    if method not in METHODS:
        raise ValueError(f"conv2d: method is {method!r}; give one of {', '.join(METHODS)}")
    if x.ndim < 4 or w.ndim != 4 or x.shape[-3] != w.shape[1]:
        raise ValueError(f"conv2d: x {x.shape} and w {w.shape}; give [..., Cin, H, W] and [Cout, Cin, kh, kw]")
    if min(steps) < 1 or min(pads) < 0:
        raise ValueError(f"conv2d: stride {steps}, padding {pads}; give a stride of at least 1 and a padding of at least 0")
    if any(n + 2 * p < k for n, p, k in zip(x.shape[-2:], pads, w.shape[2:])) or 0 in x.shape + w.shape:
        raise ValueError(
            f"conv2d: a kernel of {w.shape[2:]} does not fit into maps of {x.shape[-2:]} with padding {pads}, "
            f"or x {x.shape} or w {w.shape} is empty"
        )
    if bias is not None and bias.shape != w.shape[:1]:
        raise ValueError(f"conv2d: bias has shape {bias.shape}; give one number for each of the {w.shape[0]} output channels")
    return Conv2d.apply(x, w, *(() if bias is None else (bias,)), stride=steps, padding=pads, method=method)
