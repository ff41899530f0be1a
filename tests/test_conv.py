"""conv2d on the tape: every method against windows and sums in NumPy, events against products to the last bit."""

import numpy as np
import pytest
from checks import close, dtypes, examples, leaf, seeds, values_and_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn import Tensor, gradcheck, ledger, no_grad, ops
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
    return np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (-2, -1))[..., ::stride[0], ::stride[1], :, :]


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
    dx = padded[..., h:padded.shape[-2] - h, v:padded.shape[-1] - v]
    seen = windows(x.reshape(-1, *x.shape[-3:]), w, stride, padding)
    dw = np.einsum("bchwij,bohw->ocij", seen, dy.reshape(-1, *dy.shape[-3:]))
    return dx, dw


@examples
@given(geometries(), dtypes, st.booleans(), st.sampled_from(["auto", "dense"]), seeds)
def test_numbers(geometry, dtype, with_bias, method, seed):
    shape, w_shape, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, w, b = (leaf(rng.standard_normal(s), dtype) for s in (shape, w_shape, w_shape[0]))
    arguments = (x, w, b) if with_bias else (x, w)
    y, dx, dw, *db = values_and_gradients(lambda x, w, b=None: ops.conv2d(x, w, stride, padding, method, b), arguments)
    exact = definition(x.data.astype(np.float64), w.data.astype(np.float64), stride, padding)
    close(y, (exact + (b.data[:, None, None] if with_bias else 0)).astype(dtype))
    dy = np.random.default_rng(0).standard_normal(y.shape)
    for got, expected in zip((dx, dw), gradients(x.data.astype(np.float64), w.data.astype(np.float64), dy, stride, padding)):
        close(got, expected.astype(dtype))
    for got in db:
        close(got, dy.reshape(-1, *dy.shape[-3:]).sum((0, 2, 3)).astype(dtype))


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
            if rounds and (k == 1 or k == 0 and method != "event"):
                close(got, want, 1e-5)
            else:
                assert got.dtype == dtype and np.array_equal(got, want)


@pytest.mark.parametrize("method", ["event", "dense", "auto"])
def test_no_spikes_at_all(method):
    x = Tensor(np.zeros((2, 1, 3, 5, 5), np.bool_), requires_grad=True)
    w, b = leaf(np.ones((4, 3, 3, 3)), np.float32), leaf([1, 2, 3, 4.0], np.float32)
    with ledger.ledger() as entries:
        y = ops.conv2d(x, w, 1, 1, method, b)
    y.backward(np.ones(y.shape))
    assert np.array_equal(y.data, np.broadcast_to(b.data[:, None, None], y.shape))
    assert not w.grad.any() and x.grad.any() and [(e.ac, e.mac) for e in entries] == [(0, 0)]


@examples
@given(geometries(largest=5, channels=(1, 2, 3)), seeds)
def test_gradcheck(geometry, seed):
    shape, w_shape, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, w, b = (leaf(rng.standard_normal(s)) for s in (shape, w_shape, w_shape[0]))
    gradcheck(lambda x, w, b: ops.conv2d(x, w, stride, padding, bias=b), (x, w, b))


@examples
@given(geometries(), st.sampled_from([0.0, 0.05, 0.5, 1.0]), seeds)
def test_additions_are_counted_exactly_by_either_method(geometry, density, seed):
    shape, w_shape, stride, padding = geometry
    x = np.random.default_rng(seed).random(shape) < density
    w = Tensor(np.ones(w_shape), dtype=np.float32)
    expected = int(windows(x, w, stride, padding).sum()) * w_shape[0]
    for method in ("event", "dense", "auto"):
        with ledger.ledger() as entries:
            ops.conv2d(Tensor(x), w, stride, padding, method)
        assert [(e.op, e.ac, e.mac) for e in entries] == [("conv2d", expected, 0)]
    with ledger.ledger() as entries:
        ops.conv2d(Tensor(x * 0.5), Tensor(w, dtype=np.float64), stride, padding)
    if x.any():
        products = int(windows(np.ones(shape, bool), w, stride, padding).sum()) * w_shape[0]
        assert [(e.ac, e.mac) for e in entries] == [(0, products)]


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


def test_under_no_grad_nothing_is_kept():
    x, w = Tensor(np.random.default_rng(0).random((1, 2, 3, 5, 5))), leaf(np.ones((2, 3, 3, 3)))
    with no_grad():
        y = ops.conv2d(x, w)
    assert y.is_leaf and not y.requires_grad


@pytest.mark.parametrize("x, w, options, complaint", [
    ((1, 2, 5, 5), (3, 1, 3, 3), {}, "give"),
    ((2, 5, 5), (3, 2, 3, 3), {}, "give"),
    ((1, 2, 5, 5), (3, 2, 3), {}, "give"),
    ((1, 2, 2, 5), (3, 2, 3, 3), {}, "does not fit"),
    ((1, 0, 5, 5), (3, 0, 3, 3), {}, "empty"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(stride=0), "stride"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(padding=-1), "padding"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(stride=(1, 1, 1)), "stride"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(padding=(0.5, 1)), "padding"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(stride=(1.5, 1)), "stride"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(stride=1.5), "stride"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(method="sparse"), "method"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(method="event"), "0 and 1"),
    ((1, 2, 5, 5), (3, 2, 3, 3), dict(bias=Tensor(np.ones(2))), "bias"),
])
def test_what_does_not_fit_is_refused(x, w, options, complaint):
    with pytest.raises(ValueError, match=f"conv2d.*{complaint}"):
        ops.conv2d(Tensor(np.full(x, 0.5)), Tensor(np.ones(w)), **options)
