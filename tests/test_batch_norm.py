"""Batch norm: its running statistics and its extremes; test_operations.py holds the loops against the formula on the tape."""

import numpy as np
import pytest
from checks import examples, leaf, seeds
from hypothesis import given
from hypothesis import strategies as st

from minisnn import Tensor, gradcheck, nn, ops

FULL = [(2, 2, 3, 2, 2), (4, 3, 1, 3, 2), (3, 2, 5, 4, 4), (6, 4, 3, 3), (2, 2, 8, 5, 7)]
tiny = st.sampled_from([(1, 1, 2, 1, 2), (2, 1, 3, 2, 1), (2, 1, 1, 2), *FULL])  # of two values the gradient all but cancels
AXES = {5: (0, 1, 3, 4), 4: (0, 2, 3)}
EPS = 1e-5


def case(shape, seed, dtype=np.float64):
    """x, weight and bias as leaves; running mean and variance."""
    rng, C = np.random.default_rng(seed), shape[-3]
    x = leaf(rng.normal(rng.normal(0, 3, (C, 1, 1)), 2, shape), dtype)
    leaves = x, leaf(rng.uniform(0.5, 2, C), dtype), leaf(rng.normal(0, 1, C), dtype)
    return leaves, rng.normal(0, 1, C).astype(dtype), rng.uniform(0.5, 2, C).astype(dtype)


@examples
@given(tiny, st.booleans(), seeds)
def test_gradcheck(shape, training, seed):
    inputs, mean, var = case(shape, seed)
    gradcheck(lambda *a: ops.batch_norm(*a, mean.copy(), var.copy(), training=training), inputs, rtol=1e-4)


@examples
@given(tiny, st.sampled_from([0.1, 1.0, 0.0]), seeds)
def test_running_statistics(shape, momentum, seed):
    (x, w, b), mean, var = case(shape, seed)
    before, rows = (mean.copy(), var.copy()), x.size // shape[-3]
    ops.batch_norm(x, w, b, mean, var, training=True, momentum=momentum)
    for got, old, new in zip((mean, var), before, (x.data.mean(AXES[x.ndim]), x.data.var(AXES[x.ndim]) * rows / (rows - 1))):
        np.testing.assert_allclose(got, (1 - momentum) * old + momentum * new, rtol=1e-12)
    after = mean.copy(), var.copy()
    ops.batch_norm(x, w, b, mean, var, training=False)
    assert np.array_equal(after[0], mean) and np.array_equal(after[1], var)


def test_a_large_mean_does_not_cancel_the_variance():
    x = np.random.default_rng(0).normal(1e4, 1, (4, 2, 3, 8, 8)).astype(np.float32)
    mean, var = np.zeros(3, np.float32), np.zeros(3, np.float32)
    out = ops.batch_norm(Tensor(x), Tensor(np.ones(3, np.float32)), Tensor(np.zeros(3, np.float32)), mean, var, momentum=1.0)
    np.testing.assert_allclose(var, x.astype(np.float64).var(AXES[5], ddof=1), rtol=1e-5)
    assert abs(out.data.std() - 1) < 1e-3


@pytest.mark.parametrize("norm_of", [lambda norm, x: norm(x), lambda norm, x: nn.LIF().after(norm, None, x)])
def test_one_value_for_each_channel_has_no_variance_to_train_with(norm_of):
    norm = nn.BatchNorm2d(2, dtype="float64")
    for samples in (1, 2):
        x = Tensor(np.arange(2.0 * samples).reshape(1, samples, 2, 1, 1))
        if samples == 1:
            with pytest.raises(ValueError, match="one value per channel"):
                norm_of(norm, x)
            assert not norm.running_mean.any() and np.array_equal(norm.running_var, np.ones(2))
            assert np.isfinite(norm_of(norm.eval(), x).data).all()
        else:
            norm_of(norm.train(), x)
            assert norm.running_mean.all()
