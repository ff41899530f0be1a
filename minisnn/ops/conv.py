"""Convolution: one public function over two ways of computing it.

Axes: T time steps, N batch, B = T * N images, C channels, H height, W width; weights are [Cout, Cin, kh, kw] in public and
[kh, kw, Cin, Cout] in memory, so that what one spike adds is one contiguous row.

    out[b, co, i, j] = sum over ci, kh, kw of
                       w[co, ci, kh, kw] * x[b, ci, i * stride + kh - padding, j * stride + kw - padding]

The loops are on two pages of their own: dense_conv.py multiplies everything, whatever its value; event_conv.py takes a spike
input and only adds the weights of what fired. Here is what chooses between them, and their place on the tape.
"""

import numpy as np

from .. import ledger
from ..engine import Function
from ..jit import kernel
from . import dense_conv, event_conv
from .cost import events_pay_backward, events_pay_forward
from .pool import images, public

__all__ = ["conv2d", "Conv2d", "METHODS"]

METHODS = AUTO, DENSE, EVENT = "auto", "dense", "event"


@kernel
def spike_bytes(out, x):
    # out: [M] bytes; x: [M] numbers. False as soon as one is neither 0 nor 1.
    for i in range(x.size):
        if x[i] == 0:
            out[i] = 0
        elif x[i] == 1:
            out[i] = 1
        else:
            return False
    return True


def as_spikes(x):
    """[B, H, W, C] as bytes 0 or 1, and for each image whether it has them: where a value is neither, its bytes mean nothing."""
    if x.dtype == np.uint8:
        return x, np.ones(len(x), bool)
    out = np.empty(x.shape, np.uint8)
    return out, np.array([spike_bytes(out[b].reshape(-1), x[b].reshape(-1)) for b in range(len(x))])


def taps_inside(size, k, stride, padding, outputs):
    """How many (output pixel, kernel tap) pairs of one axis meet a pixel inside the map."""
    at = np.arange(outputs)[:, None] * stride + np.arange(k) - padding
    return int(((at >= 0) & (at < size)).sum())


def accumulations(spikes, y_shape, w_shape, stride_h, stride_w, pad_h, pad_w):
    """Additions of a weight that spikes [B, H, W, Cin] cause, borders exact: counted without convolving."""
    _, Ho, Wo, Cout = y_shape
    fired = spikes.sum((0, 3), dtype=np.int64)  # [H, W]
    reach = [np.zeros(n, np.int64) for n in fired.shape]  # output pixels that see an input row, a column
    for axis, (outputs, k, stride, pad) in enumerate(((Ho, w_shape[0], stride_h, pad_h), (Wo, w_shape[1], stride_w, pad_w))):
        at = (np.arange(outputs)[:, None] * stride + np.arange(k) - pad).ravel()
        np.add.at(reach[axis], at[(at >= 0) & (at < fired.shape[axis])], 1)
    return int(reach[0] @ fired @ reach[1]) * Cout


class Conv2d(Function):
    """See ``conv2d``."""

    takes_spikes = True
    reuses = "others"

    def forward(self, x, w, *bias, stride, padding, method):
        self.lead, self.window = x.shape[:-3], (*stride, *padding)
        x, self.w = images(x), np.ascontiguousarray(w.transpose(2, 3, 1, 0))
        kh, kw, cin, cout = self.w.shape
        B, H, W, _ = self.shape = x.shape
        y = np.empty((B, dense_conv.output_size(H, kh, stride[0], padding[0]),
                      dense_conv.output_size(W, kw, stride[1], padding[1]), cout), self.dtype)
        row = np.ascontiguousarray(bias[0]) if bias else np.zeros(cout, self.dtype)
        spikes, binary = as_spikes(x) if method != DENSE or ledger.is_open() else (None, np.zeros(B, bool))
        if method == EVENT and not binary.all():
            raise ValueError("conv2d: method 'event' adds weights for spikes, but x holds values other than 0 and 1; "
                             "give method 'auto' or 'dense'")
        taps = (taps_inside(H, kh, stride[0], padding[0], y.shape[1]) * taps_inside(W, kw, stride[1], padding[1], y.shape[2]))
        self.events = event_conv.find_events(spikes) if binary.all() and method != DENSE else None
        forward_by_events = backward_by_events = self.events is not None
        if method == AUTO and self.events is not None:
            size = self.events.spikes, B, H, W, *y.shape[1:3], taps, self.w.shape
            forward_by_events = events_pay_forward(*size, self.window, self.dtype)
            backward_by_events = events_pay_backward(*size)
        if forward_by_events:
            additions = event_conv.event_forward(y, self.events, self.w, row, *self.window)
        else:
            dense_conv.dense_forward(y, x.astype(self.dtype, copy=False), self.w, row, *self.window,
                                     x.dtype == np.uint8)
        if not backward_by_events:
            self.events, self.x = None, x if self.recording else None
        if forward_by_events:
            ledger.record("conv2d", "conv", ac=additions)
        elif ledger.is_open():
            binary = np.tile(binary.reshape(-1, self.lead[-1]).all(0), B // self.lead[-1])  # all images of a sample
            ledger.record("conv2d", "conv", ac=accumulations(spikes[binary], y.shape, self.w.shape, *self.window),
                          mac=int(B - binary.sum()) * cin * cout * taps)
        return public(y, self.lead)

    def backward(self, grad):
        dy = images(grad)
        dx = dw = None
        if self.needs[0]:
            dx = np.empty(self.shape, self.dtype)
            dense_conv.dense_input_gradient(dx, dy, self.w, *self.window)
            dx = public(dx, self.lead)
        if self.needs[1]:
            dw = np.empty_like(self.w)
            if self.events is not None:
                event_conv.event_weight_gradient(dw, dy, self.events, *self.window)
            else:
                dense_conv.dense_weight_gradient(dw, self.x.astype(self.dtype, copy=False), dy, *self.window)
            dw = dw.transpose(3, 2, 0, 1)
        return (dx, dw) + ((dy.sum((0, 1, 2)),) if len(self.needs) > 2 else ())


def pair(name, value):
    """A number for both axes, or one for each."""
    both = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(both) != 2 or not all(isinstance(v, (int, np.integer)) for v in both):
        raise ValueError(f"conv2d: {name} is {value!r}; give a whole number or two")
    return tuple(int(v) for v in both)


def conv2d(x, w, stride=1, padding=0, method="auto", bias=None):
    """Two-dimensional convolution (cross-correlation, as everywhere in the field): the equation in the head of this file.

    Args:
        x: [T, N, Cin, H, W] or [N, Cin, H, W]; spikes or numbers.
        w: [Cout, Cin, kh, kw].
        stride, padding: pixels; one number, or one for each axis. Padding is zeros.
        method: "event" adds the weights of the inputs that fired and multiplies nothing, so x must hold only 0 and 1;
            "dense" multiplies everything; "auto" takes events where x is spikes, and few enough for that to be faster,
            for the forward pass and for the weight gradient each on its own (cost.py).
        bias: [Cout] or None.

    Returns:
        Tensor [..., Cout, Ho, Wo] with Ho = (H + 2 * padding - kh) // stride + 1.

    In an open ledger a sample that holds only 0 and 1, at all of its time steps, counts the additions of its spikes (AC);
    any other one counts a product for every pixel, channel and tap inside the map (MAC). So what is counted for a sample does
    not depend on the samples beside it, nor on ``method``.

    Raises:
        ValueError: shapes that do not fit together, a number out of range, an unknown method, or "event" on numbers.
    """
    stride, padding = pair("stride", stride), pair("padding", padding)
    if method not in METHODS:
        raise ValueError(f"conv2d: method is {method!r}; give one of {', '.join(METHODS)}")
    if x.ndim < 4 or w.ndim != 4 or x.shape[-3] != w.shape[1]:
        raise ValueError(f"conv2d: x {x.shape} and w {w.shape}; give [..., Cin, H, W] and [Cout, Cin, kh, kw]")
    if min(stride) < 1 or min(padding) < 0:
        raise ValueError(f"conv2d: stride {stride}, padding {padding}; give a stride of at least 1 and a padding of at least 0")
    if any(n + 2 * p < k for n, p, k in zip(x.shape[-2:], padding, w.shape[2:])) or 0 in x.shape + w.shape:
        raise ValueError(f"conv2d: a kernel of {w.shape[2:]} does not fit into maps of {x.shape[-2:]} with padding {padding}, "
                         f"or x {x.shape} or w {w.shape} is empty")
    if bias is not None and bias.shape != w.shape[:1]:
        raise ValueError(f"conv2d: bias has shape {bias.shape}; give one number for each of the {w.shape[0]} output channels")
    return Conv2d.apply(x, w, *(() if bias is None else (bias,)), stride=stride, padding=padding, method=method)
