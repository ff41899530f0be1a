"""What several test files share: leaves, random arrays, and the comparison of an operation with its definition."""

import contextlib

import numba
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import minisnn as snn
from minisnn import Tensor

examples = settings(deadline=None, max_examples=20)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])
CLOSE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}  # of the largest entry


def leaf(values, dtype=np.float64):
    """A tensor that requires a gradient."""
    return Tensor(np.asarray(values, dtype), requires_grad=True)


def spread(shape, seed, low=0.1):
    """Numbers of both signs, at least ``low`` from 0 and at least 0.01 from each other: no kink and no tie is near."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    return ((low + 0.02 * rng.permutation(size) + 0.005 * rng.random(size)) * rng.choice([-1, 1], size)).reshape(shape)


def close(got, expected, rtol=None):
    """Assert equal shapes and dtypes, and entries that agree to ``rtol`` of the largest one."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    rtol = CLOSE[got.dtype] if rtol is None else rtol
    np.testing.assert_allclose(got, expected, rtol=0, atol=rtol * max(1e-30, np.abs(expected).max(initial=0)))


def values_and_gradients(f, inputs):
    """[output, gradient of each input that requires one] of f, at copies of the inputs, for a random gradient of the output."""
    copies = [Tensor(x.storage.copy(order="K"), requires_grad=x.requires_grad, dtype=x.dtype) for x in inputs]
    out = f(*copies)
    out.backward(np.random.default_rng(0).standard_normal(out.shape).astype(out.dtype))
    return [out.data] + [x.grad for x in copies if x.requires_grad]


@contextlib.contextmanager
def threads(n):
    """Run with n threads, or as many as there are."""
    before = snn.get_num_threads()
    snn.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        snn.set_num_threads(before)
