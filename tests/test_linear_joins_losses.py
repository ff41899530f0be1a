"""The linear layer and the losses, at their extremes; test_operations.py holds them against their formulas."""

import numpy as np
from checks import close, leaf

from minisnn import Tensor, ledger, ops

# ---- linear -----------------------------------------------------------------------------------------------------------


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


# ---- joins ------------------------------------------------------------------------------------------------------------


# ---- losses -----------------------------------------------------------------------------------------------------------


def test_cross_entropy_of_huge_scores_is_a_number():
    x = leaf([[1e4, -1e4], [1e4, 0]], np.float32)
    loss = ops.cross_entropy(x, [0, 1])
    loss.backward()
    assert loss.item() == 5e3 and np.array_equal(x.grad, np.array([[0, 0], [0.5, -0.5]], np.float32))
