"""Losses, forward and backward.

Axes: N batch, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Function, Tensor
from ..jit import kernel
from ..types import DType

__all__ = ["mse_loss", "cross_entropy", "one_hot"]


@kernel
def mse_forward(x, target):
    # x, target: [M]
    total = 0.0
    for i in range(x.size):
        total += (x[i] - target[i]) ** 2
    return total / x.size


@kernel
def mse_backward(dx, x, target, grad):
    # dx, x, target: [M]; grad: the gradient of the loss itself, a scalar
    for i in range(x.size):
        dx[i] = grad * 2 * (x[i] - target[i]) / x.size


@kernel
def cross_entropy_forward(logp, scores, labels):
    # logp, scores: [N, K]; labels: [N]
    total = 0.0
    for n in range(scores.shape[0]):
        top = scores[n].max()  # the largest exponent becomes 0, so that none overflows
        z = 0.0
        for k in range(scores.shape[1]):
            z += np.exp(scores[n, k] - top)
        for k in range(scores.shape[1]):
            logp[n, k] = scores[n, k] - top - np.log(z)
        total -= logp[n, labels[n]]
    return total / scores.shape[0]


@kernel
def cross_entropy_backward(dscores, logp, labels, grad):
    # dscores, logp: [N, K]; labels: [N]; grad: a scalar
    for n in range(logp.shape[0]):
        for k in range(logp.shape[1]):
            dscores[n, k] = grad * np.exp(logp[n, k]) / logp.shape[0]
        dscores[n, labels[n]] -= grad / logp.shape[0]


class MSELoss(Function):
    """See ``mse_loss``."""

    def forward(self, x, target):
        self.x, self.target = np.asarray(x, order="C"), np.asarray(target, order="C")
        return np.array(mse_forward(self.x.reshape(-1), self.target.reshape(-1)), x.dtype)

    def backward(self, grad):
        dx = np.empty_like(self.x)
        mse_backward(dx.reshape(-1), self.x.reshape(-1), self.target.reshape(-1), grad.item())
        return dx, -dx


class CrossEntropy(Function):
    """See ``cross_entropy``."""

    def forward(self, scores, labels):
        self.labels, self.logp = labels, np.empty(scores.shape, scores.dtype)
        return np.array(cross_entropy_forward(self.logp, np.ascontiguousarray(scores), labels), scores.dtype)

    def backward(self, grad):
        dscores = np.empty_like(self.logp)
        cross_entropy_backward(dscores, self.logp, self.labels, grad.item())
        return dscores


def mse_loss(x: Tensor, target: Any) -> Tensor:
    """Mean squared error, the paper's loss.

    loss = mean over all entries of (x - target)^2

    Args:
        x: scores, [N, K] (any shape).
        target: Tensor or array of that shape, such as ``one_hot`` returns.

    Returns:
        Tensor of shape ().

    Raises:
        ValueError: the shapes differ.
    """
    target = target if isinstance(target, Tensor) else Tensor(target, dtype=x.dtype)
    if x.shape != target.shape or x.size == 0:
        raise ValueError(f"mse_loss of shape {x.shape} against {target.shape}; they must be equal and not empty")
    return MSELoss.apply(x, target)


def cross_entropy(scores: Tensor, labels: Any) -> Tensor:
    """Cross-entropy of the softmax.

    loss = mean over n of  log(sum over k of exp(scores[n, k])) - scores[n, label[n]]

    Args:
        scores: [N, K].
        labels: N whole numbers from 0 to K - 1.

    Returns:
        Tensor of shape ().

    Raises:
        ValueError: a shape that does not fit, or a label out of range.
    """
    labels = np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu" or scores.size == 0:
        raise ValueError(
            f"cross_entropy: scores {scores.shape} and labels {labels.shape} of {labels.dtype}; give [N, K] and N whole numbers"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"cross_entropy: labels run from {labels.min()} to {labels.max()}, the scores have {scores.shape[1]} classes"
        )
    return CrossEntropy.apply(scores, labels=labels.astype(np.int64))


def one_hot(labels: Any, classes: int, dtype: DType = np.float32) -> np.ndarray:
    """[N] whole numbers -> ndarray [N, classes] with 1 at the label and 0 elsewhere.

    Args:
        labels: N whole numbers from 0 to classes - 1.
        classes: K.
        dtype: of the result.

    Raises:
        ValueError: a label out of range, not one whole number for each sample, or an invalid number of classes.
    """
    labels = np.asarray(labels)
    if isinstance(classes, bool) or not isinstance(classes, (int, np.integer)) or classes < 1:
        raise ValueError(f"one_hot: classes is {classes!r}; give a whole number of at least 1")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"one_hot: labels {labels.shape} of {labels.dtype}; give [N] whole numbers from 0 to {classes - 1}")
    return np.eye(classes, dtype=dtype)[labels]
