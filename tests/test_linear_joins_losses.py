"""The linear layer and the losses, at their extremes; test_operations.py holds them against their formulas."""

import importlib
import time

import numpy as np
import pytest
from checks import close, leaf

from minisnn import Tensor, ledger, ops

linear = importlib.import_module("minisnn.ops.linear")  # ops.linear is the function

# ---- linear -----------------------------------------------------------------------------------------------------------


def test_the_parallel_loop_of_linear_gives_the_bits_of_the_serial_one():
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((260, 512), (8, 512), (8,)))
    t, u = leaf(x, np.float32), leaf(w, np.float32)
    with ledger.ledger() as entries:
        out = ops.linear(t, u, Tensor(b))
    assert [(e.op, e.mac, e.ac) for e in entries] == [("linear", x.size * 8, 0)] and x.size * 8 >= 1 << 20
    assert np.array_equal(out.data[7:8], ops.linear(Tensor(x[7:8]), Tensor(w), Tensor(b)).data)
    out.backward(np.ones(out.shape))
    close(t.grad, np.broadcast_to(w.sum(0), x.shape), 1e-5)
    close(u.grad, np.broadcast_to(x.sum(0), w.shape), 1e-5)


SHAPES = [(1, 8, 5), (3, 7, 40), (40, 300, 90), (600, 128, 33), (64, 200, 100)]  # some of them large enough for events


@pytest.mark.parametrize("R, F, O", SHAPES)
def test_whatever_runs_equals_the_plain_loops(R, F, O):
    """To the bit, on whole numbers, of which no sum is rounded."""
    rng = np.random.default_rng(0)
    w, bias, dout = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((F, O), (O,), (R, O)))
    fired = rng.random((R, F)) < 0.2
    for x in (rng.integers(-9, 10, (R, F)).astype(np.float32), fired.view(np.uint8)):
        out, expected, dx, dwt = (np.empty(s, np.float32) for s in ((R, O), (R, O), (R, F), (F, O)))
        dx_expected, dwt_expected = np.zeros((R, F), np.float32), np.zeros((F, O), np.float32)
        linear.forward_rows(out, x, w, bias)
        linear.linear_forward(expected, x, w, bias)
        linear.input_gradient(dx, dout, w)
        linear.weight_gradient(dwt, dout, x)
        linear.linear_backward(dx_expected, dwt_expected, dout, x, w)
        assert all(np.array_equal(*two) for two in ((out, expected), (dx, dx_expected), (dwt, dwt_expected)))
    linear.event_linear_forward(expected, x, w, bias)
    linear.event_linear_weight_gradient(dwt_expected, dout, x)
    assert np.array_equal(out, expected) and np.array_equal(dwt, dwt_expected)


def test_spikes_give_the_bits_of_numbers_and_one_row_those_of_many():
    rng = np.random.default_rng(0)
    fired, w, b = rng.random((500, 96)) < 0.3, rng.standard_normal((64, 96)).astype(np.float32), np.ones(64, np.float32)
    assert fired.size * 64 > linear.SMALL > 96 * 64
    weights = Tensor(w), Tensor(b)
    out = ops.linear(Tensor(fired), *weights).data
    assert np.array_equal(out, ops.linear(Tensor(fired.astype(np.float32)), *weights).data)
    assert np.array_equal(out[7:8], ops.linear(Tensor(fired[7:8]), *weights).data)


def test_spikes_count_additions_and_numbers_products():
    x = np.random.default_rng(0).random((4, 3, 6)) < 0.5
    for given, expected in ((x, (5 * int(x.sum()), 0)), (x.astype(np.float32), (0, x.size * 5))):
        with ledger.ledger() as entries:
            ops.linear(Tensor(given), Tensor(np.ones((5, 6), np.float32)), Tensor(np.ones(5, np.float32)))
        assert [(e.ac, e.mac) for e in entries] == [expected]


@pytest.mark.slow
def test_few_spikes_are_never_slower_than_the_product():
    """Width 512, 5 % spikes, 8 steps of 64 samples: forward and weight gradient."""
    rng = np.random.default_rng(0)
    fired, w, dout = rng.random((512, 512)) < 0.05, *(rng.standard_normal((2, 512, 512)).astype(np.float32))
    out, bias, seconds = np.empty((512, 512), np.float32), np.zeros(512, np.float32), {}
    for x in (fired.view(np.uint8), fired.astype(np.float32)):
        for name, run in (
            ("forward", lambda: linear.forward_rows(out, x, w, bias)),
            ("weight gradient", lambda: linear.weight_gradient(out, dout, x)),
        ):
            run()
            times = []
            for _ in range(30):
                start = time.perf_counter()
                run()
                times.append(time.perf_counter() - start)
            seconds[name, x.dtype.kind] = min(times)
    for name in ("forward", "weight gradient"):
        assert seconds[name, "u"] <= seconds[name, "f"], seconds


# ---- joins ------------------------------------------------------------------------------------------------------------


# ---- losses -----------------------------------------------------------------------------------------------------------


def test_cross_entropy_of_huge_scores_is_a_number():
    x = leaf([[1e4, -1e4], [1e4, 0]], np.float32)
    loss = ops.cross_entropy(x, [0, 1])
    loss.backward()
    assert loss.item() == 5e3 and np.array_equal(x.grad, np.array([[0, 0], [0.5, -0.5]], np.float32))
