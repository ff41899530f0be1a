"""MA and IA, by hand; test_operations.py holds their loops against Eq. 7 to 10 from elementary operations on the tape."""

import numpy as np
import pytest

from minisnn import Tensor, ops


@pytest.mark.parametrize("dim", ["c", "s"])
def test_one_step_from_rest_fires_where_half_the_logit_reaches_the_threshold(dim):
    """T is pooled away in C and S: with one hidden unit of weight 1 the logit is avg + max."""
    x = np.full((3, 2, 1, 1, 1), 0.9)
    x[:, 1] = 1.1  # avg + max is 1.8 for the first sample, 2.2 for the second
    w = [Tensor(np.ones((1, 2, 1, 1)))] if dim == "s" else [Tensor(np.ones((1, 1))), Tensor(np.ones((1, 1)))]
    out = ops.attention(Tensor(x), dim, *w, spiking=True).data
    assert not out[:, 0].any() and np.array_equal(out[:, 1], x[:, 1])
