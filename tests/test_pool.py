"""Pooling, by hand; test_operations.py holds it against plain NumPy, window by window."""

import numpy as np

from minisnn import Tensor, ops


def test_of_equal_values_the_first_gets_the_gradient():
    x = Tensor(np.array([[[0, 1, 1], [1, 0, 0], [0, 0, 0]]], bool), requires_grad=True)
    ops.max_pool2d(x, 2, 1).backward(np.array([[[1, 2], [4, 8]]]))
    assert x.grad.tolist() == [[[0, 3, 0], [4, 8, 0], [0, 0, 0]]]
