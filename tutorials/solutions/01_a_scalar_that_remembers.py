"""Solutions to tutorial 1; each wrong_... is a mistake that is easy to make, and that the check rejects.

Scalar comes from the tutorial: in a notebook, paste a function over the empty one.
"""

import numpy as np


def tanh(a):
    value = np.tanh(a.value)
    return Scalar(value, (a,), (1 - value**2,))  # noqa: F821


def wrong_tanh(a):
    return Scalar(np.tanh(a.value), (a,), (1 - a.value**2,))  # noqa: F821  squares the input, not the output


def sum_to_shape(grad, shape):
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))  # the axes that were put in front
    repeated = tuple(k for k, n in enumerate(shape) if n == 1)
    return grad.sum(repeated, keepdims=True)


def wrong_sum_to_shape(grad, shape):
    return np.asarray(grad.sum(tuple(range(grad.ndim - len(shape)))))  # forgets the axes of length 1
