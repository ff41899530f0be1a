"""The linear layer, the joins of Table II and the losses, against NumPy and finite differences."""

import numpy as np
import pytest
from checks import close, dtypes, examples, leaf, same, seeds, spread
from hypothesis import given
from hypothesis import strategies as st

from minisnn import Tensor, gradcheck, ledger, ops

# ---- linear -----------------------------------------------------------------------------------------------------------


@examples
@given(st.sampled_from([(), (3,), (2, 3)]), st.integers(1, 6), st.integers(1, 5), dtypes, seeds)
def test_linear(lead, features, outputs, dtype, seed):
    x, w, b = (leaf(spread(s, seed + k), dtype) for k, s in enumerate(((*lead, features), (outputs, features), (outputs,))))
    same(ops.linear, lambda x, w, b: x @ w.T + b, (x, w, b))
    if dtype == np.float64:
        gradcheck(ops.linear, (x, w, b))


def test_the_parallel_loop_of_linear_gives_the_bits_of_the_serial_one():
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((260, 512), (8, 512), (8,)))
    t, u = leaf(x, np.float32), leaf(w, np.float32)
    with ledger.ledger() as entries:
        out = ops.linear(t, u, Tensor(b))
    assert [(e.op, e.mac) for e in entries] == [("linear", x.size * 8)] and x.size * 8 >= 1 << 20
    assert np.array_equal(out.data[7:8], ops.linear(Tensor(x[7:8]), Tensor(w), Tensor(b)).data)
    out.backward(np.ones(out.shape))
    close(t.grad, np.broadcast_to(w.sum(0), x.shape), 1e-5)
    close(u.grad, np.broadcast_to(x.sum(0), w.shape), 1e-5)


@pytest.mark.parametrize("x, w, b", [((2, 3), (4, 2), (4,)), ((2, 3), (4, 3), (3,)), ((2, 3), (3,), (4,)), ((), (4, 3), (4,))])
def test_linear_refuses_what_does_not_fit(x, w, b):
    with pytest.raises(ValueError, match="linear: x .* give"):
        ops.linear(*(Tensor(np.ones(s)) for s in (x, w, b)))


# ---- joins ------------------------------------------------------------------------------------------------------------

FORMULAS = {"add": lambda x, y: x + y, "and": lambda x, y: x * y, "iand": lambda x, y: (1 - x) * y,
            "or": lambda x, y: (x + y) - x * y}
LOGIC = {"and": np.logical_and, "iand": lambda x, y: ~x & y, "or": np.logical_or}
shapes = st.sampled_from([(3,), (2, 3), (2, 1, 3, 4, 4), (3, 2, 1, 2, 5)])


@pytest.mark.parametrize("how", FORMULAS)
@examples
@given(shapes, dtypes, seeds)
def test_join_of_numbers(how, shape, dtype, seed):
    x, y = leaf(spread(shape, seed), dtype), leaf(spread(shape, seed + 1), dtype)
    same(lambda x, y: ops.join(x, y, how), FORMULAS[how], (x, y))
    if dtype == np.float64:
        gradcheck(lambda x, y: ops.join(x, y, how), (x, y))


@pytest.mark.parametrize("how", FORMULAS)
@examples
@given(shapes, dtypes, st.booleans(), seeds)
def test_join_of_spikes(how, shape, dtype, second_as_numbers, seed):
    """OR, AND and IAND of spikes are spikes, kept as bytes; their gradients are those of the formulas."""
    x, y = np.random.default_rng(seed).random((2, *shape)) < 0.5
    tensors = [Tensor(x, requires_grad=True, dtype=dtype),
               Tensor(y.astype(dtype) if second_as_numbers else y, requires_grad=True, dtype=dtype)]
    out = ops.join(*tensors, how)
    assert out.is_spikes == (how != "add" and not second_as_numbers)
    assert np.array_equal(out.data, LOGIC[how](x, y) if how in LOGIC else x.astype(int) + y)
    assert out.dtype == dtype
    same(lambda x, y: ops.join(x, y, how), FORMULAS[how], tensors)


def test_joins_refuse_what_does_not_fit():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match="give one of add, and, iand, or"):
        ops.join(x, x, "xor")
    with pytest.raises(ValueError, match=r"\(2, 3\) \(main\) and \(3,\) \(shortcut\)"):
        ops.join(x, Tensor(np.ones(3)))


# ---- losses -----------------------------------------------------------------------------------------------------------


@examples
@given(st.integers(1, 5), st.integers(1, 6), dtypes, seeds)
def test_mse(n, k, dtype, seed):
    x, target = leaf(spread((n, k), seed), dtype), leaf(spread((n, k), seed + 1), dtype)
    same(ops.mse_loss, lambda x, t: ((x - t) * (x - t)).mean(), (x, target))
    assert ops.mse_loss(x, target.data).shape == ()
    if dtype == np.float64:
        gradcheck(ops.mse_loss, (x, target))


@examples
@given(st.integers(1, 5), st.integers(2, 6), dtypes, seeds)
def test_cross_entropy(n, k, dtype, seed):
    x, labels = leaf(spread((n, k), seed), dtype), np.random.default_rng(seed).integers(0, k, n)
    same(lambda x: ops.cross_entropy(x, labels), lambda x: (x.exp().sum(1).log() - x[np.arange(n), labels]).mean(), [x], 1e-5)
    if dtype == np.float64:
        gradcheck(lambda x: ops.cross_entropy(x, labels), x)


def test_cross_entropy_of_huge_scores_is_a_number():
    x = leaf([[1e4, -1e4], [1e4, 0]], np.float32)
    loss = ops.cross_entropy(x, [0, 1])
    loss.backward()
    assert loss.item() == 5e3 and np.array_equal(x.grad, np.array([[0, 0], [0.5, -0.5]], np.float32))


def test_one_hot():
    assert ops.one_hot([2, 0], 3).tolist() == [[0, 0, 1], [1, 0, 0]] and ops.one_hot([0], 2).dtype == np.float32
    for labels in ([3], [-1], [0.5], [[0]]):
        with pytest.raises(ValueError, match="one_hot"):
            ops.one_hot(labels, 3)


@pytest.mark.parametrize("labels, complaint", [([0, 3], "from 0 to 3"), ([-1, 0], "from -1"), ([0], "whole numbers"),
                                               ([0.0, 1.0], "float64")])
def test_cross_entropy_refuses_wrong_labels(labels, complaint):
    with pytest.raises(ValueError, match=f"cross_entropy.*{complaint}"):
        ops.cross_entropy(Tensor(np.ones((2, 3))), labels)


def test_mse_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"mse_loss of shape \(2, 3\) against \(3,\)"):
        ops.mse_loss(Tensor(np.ones((2, 3))), np.ones(3))
