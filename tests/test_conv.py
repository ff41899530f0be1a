"""conv2d on the tape: events against products to the last bit, and which of the two is taken."""

import numpy as np
from checks import close, dtypes, examples, leaf, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn import Tensor, ops
from minisnn.ops import cost, dense_conv
from minisnn.ops.layout import Window


@st.composite
def geometries(draw, largest=8, channels=(1, 2, 3, 8, 16, 20)):
    """Shapes of x and w, stride and padding, with at least one output pixel."""
    kernel, stride = [draw(st.integers(1, 4)) for _ in "hw"], tuple(draw(st.integers(1, 3)) for _ in "hw")
    padding = tuple(draw(st.integers(0, 2)) for _ in "hw")
    size = [draw(st.integers(max(1, k - 2 * p), largest)) for k, p in zip(kernel, padding)]
    lead = draw(st.sampled_from([(1,), (3,), (1, 1), (2, 3), (2, 1, 2)]))
    cin, cout = draw(st.sampled_from(channels)), draw(st.sampled_from(channels))
    return (*lead, cin, *size), (cout, cin, *kernel), stride, padding


def windows(x, w, stride, padding):
    """The input under each kernel position, [..., Cin, Ho, Wo, kh, kw]."""
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p) for p in padding])
    return np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (-2, -1))[..., :: stride[0], :: stride[1], :, :]


def definition(x, w, stride, padding):
    """The equation in the docstring of conv.py, in NumPy."""
    return np.einsum("...chwij,ocij->...ohw", windows(x, w, stride, padding), w)


def gradients(x, w, dy, stride, padding):
    """Of the sum of dy * conv2d(x, w), by going from every output pixel and tap to the input and the weight."""
    padded = np.pad(np.zeros_like(x), [(0, 0)] * (x.ndim - 2) + [(p, p) for p in padding])
    for i in range(dy.shape[-2]):
        for j in range(dy.shape[-1]):
            rows, columns = slice(i * stride[0], i * stride[0] + w.shape[2]), slice(j * stride[1], j * stride[1] + w.shape[3])
            padded[..., rows, columns] += np.einsum("...o,ocij->...cij", dy[..., i, j], w)
    h, v = padding
    dx = padded[..., h : padded.shape[-2] - h, v : padded.shape[-1] - v]
    seen = windows(x.reshape(-1, *x.shape[-3:]), w, stride, padding)
    dw = np.einsum("bchwij,bohw->ocij", seen, dy.reshape(-1, *dy.shape[-3:]))
    return dx, dw


@settings(deadline=None, max_examples=60)
@given(geometries(), dtypes, st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 1.0]), st.booleans(), seeds)
def test_events_equal_products_exactly(geometry, dtype, density, stored_as_spikes, seed):
    """With whole numbers for weights and gradients no sum is rounded: every method must give the same bits.

    Only the scheme of Winograd, which the dense way takes in float32 for 3x3 kernels of many channels, rounds.
    """
    shape, w_shape, stride, padding = geometry
    rng = np.random.default_rng(seed)
    spikes = rng.random(shape) < density
    x = Tensor(spikes if stored_as_spikes else spikes.astype(dtype), requires_grad=True, dtype=dtype)
    w, b = (leaf(rng.integers(-9, 10, s), dtype) for s in (w_shape, w_shape[0]))
    y = definition(spikes.astype(int), w.data.astype(int), stride, padding)
    dy = rng.integers(-9, 10, y.shape)
    dx, dw = gradients(spikes.astype(int), w.data.astype(int), dy, stride, padding)
    db = dy.reshape(-1, *dy.shape[-3:]).sum((0, 2, 3))
    expected = [a.astype(dtype) for a in (y + b.data.astype(int)[:, None, None], dx, dw, db)]
    rounds = dtype == np.float32 and w_shape[2:] == (3, 3) and min(w_shape[:2]) >= 16
    for method in ("event", "dense", "auto"):
        for t in (x, w, b):
            t.zero_grad()
        out = ops.conv2d(x, w, stride, padding, method, b)
        out.backward(dy.astype(dtype))
        for k, (got, want) in enumerate(zip((out.data, x.grad, w.grad, b.grad), expected, strict=True)):
            if rounds and (k == 1 or (k == 0 and method != "event")):
                close(got, want, 1e-5)
            else:
                assert got.dtype == dtype and np.array_equal(got, want)


def test_auto_takes_events_where_few_fired(monkeypatch):
    taken = []
    monkeypatch.setattr(dense_conv, "dense_forward", lambda y, *rest: (taken.append("dense"), y.fill(0)))
    w = Tensor(np.ones((64, 64, 3, 3)), dtype=np.float32)
    for density in (0.05, 0.9):
        x = np.zeros((4, 1, 64, 20, 20), np.float32)
        x.reshape(-1)[:: round(1 / density)] = 1
        for kind in (x, x.astype(bool)):
            ops.conv2d(Tensor(kind), w)
        taken.append(density)
    assert taken == [0.05, "dense", "dense", 0.9]
    ops.conv2d(Tensor(np.full((1, 1, 64, 20, 20), 0.5, np.float32)), w)
    assert taken[-1] == "dense"


@examples
@given(geometries(), dtypes)
def test_more_spikes_never_make_events_pay(geometry, dtype):
    x_shape, (Cout, Cin, kh, kw), stride, padding = geometry
    H, W = x_shape[-2:]
    size = (16, H, W, Cin), Cout, Window(kh, kw, *stride, *padding)
    for pays in (lambda n: cost.events_pay_forward(n, *size, dtype), lambda n: cost.events_pay_backward(n, *size)):
        choices = [pays(16 * H * W * Cin * percent // 100) for percent in (0, 1, 2, 5, 10, 20, 50, 100)]
        assert choices == sorted(choices, reverse=True)
