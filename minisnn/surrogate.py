"""Surrogate gradients: what replaces the derivative of the step in the backward pass.

A spike is s = Theta(u - v_threshold). The derivative of the step is Dirac's delta,

    dS/dU = delta(U - U_threshold)                                                        (Eq. 3)

zero almost everywhere, so nothing would learn. A surrogate replaces it with the derivative of a smooth step, its ``primitive``:
the forward pass keeps the hard step, the backward pass uses ``derivative``. Each class here has both, as functions of
x = u - v_threshold. The primitive is also what a neuron emits in smooth mode, where gradients can be checked against
finite differences (a hard step has none to check).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from .jit import kernel

__all__ = ["Surrogate", "ATan", "Sigmoid", "FastSigmoid", "Triangle"]

ATAN, SIGMOID, FAST_SIGMOID, TRIANGLE = range(4)


@kernel
def primitive_kernel(kind, alpha, u, v_threshold, out):
    # u, out: [M]
    for i in range(u.size):
        x = u[i] - v_threshold
        if kind == ATAN:
            out[i] = 0.5 + math.atan(0.5 * math.pi * alpha * x) / math.pi
        elif kind == SIGMOID:
            e = math.exp(-abs(alpha * x))  # of minus the magnitude, so that it cannot overflow
            out[i] = 1.0 / (1.0 + e) if x >= 0.0 else e / (1.0 + e)
        elif kind == FAST_SIGMOID:
            x = min(max(x, -1e30), 1e30)  # so that no quotient of two infinities can occur
            out[i] = 0.5 + x / (1.0 + alpha * abs(x))
        else:
            z = min(max(alpha * x, -1.0), 1.0)
            out[i] = 0.5 + z - 0.5 * z * abs(z)


@kernel
def derivative_kernel(kind, alpha, u, v_threshold, out):
    # u, out: [M]. The constants take the dtype of u: float64 ones would slow float32 down.
    real = u.dtype.type
    one, a = real(1.0), real(alpha)
    if kind == ATAN:
        height, steepness = real(0.5 * alpha), real(0.5 * math.pi * alpha)
        for i in range(u.size):
            z = steepness * (u[i] - v_threshold)
            out[i] = height / (one + z * z)
    elif kind == SIGMOID:
        for i in range(u.size):
            e = math.exp(-abs(a * (u[i] - v_threshold)))
            out[i] = a * e / ((one + e) * (one + e))
    elif kind == FAST_SIGMOID:
        for i in range(u.size):
            z = one + a * abs(u[i] - v_threshold)
            out[i] = one / (z * z)
    else:
        for i in range(u.size):
            out[i] = a * max(real(0.0), one - a * abs(u[i] - v_threshold))


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A smooth step and its derivative. ``alpha`` > 0 is the steepness (1 / unit of potential).

    Raises:
        ValueError: alpha is not a positive finite number.
    """

    alpha: float
    kind: ClassVar[int | None] = None

    def __post_init__(self):
        alpha: Any = self.alpha
        if not (isinstance(alpha, (int, float, np.number)) and math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"surrogate alpha is {self.alpha!r}; give a number above 0")

    def primitive(self, x: Any) -> Any:
        """The smooth step at x = u - v_threshold: an ndarray of the shape of x."""
        return self._map(primitive_kernel, x)

    def derivative(self, x: Any) -> Any:
        """The derivative of ``primitive`` at x, which the backward pass uses for dS/dU: an ndarray of the shape of x."""
        return self._map(derivative_kernel, x)

    def _map(self, loop, x):
        x = np.asarray(x)
        x = np.asarray(x, x.dtype if x.dtype == np.float32 else np.float64, order="C")
        out = np.empty_like(x)
        loop(self.kind, float(self.alpha), x.reshape(-1), x.dtype.type(0.0), out.reshape(-1))
        return out


@dataclasses.dataclass(frozen=True)
class ATan(Surrogate):
    """The paper's surrogate (Table I), after Fang et al. 2021.

    primitive(x) = 1/2 + arctan(pi/2 * alpha * x) / pi;    derivative(x) = (alpha / 2) / (1 + (pi/2 * alpha * x)^2)
    """

    alpha: float = 2.0
    kind = ATAN


@dataclasses.dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The logistic step: primitive(x) = 1 / (1 + exp(-alpha * x)); derivative = alpha * primitive * (1 - primitive)."""

    alpha: float = 4.0
    kind = SIGMOID


@dataclasses.dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """SuperSpike's step without an exponential (Zenke and Ganguli 2018): cheap, and with heavy tails.

    primitive(x) = 1/2 + x / (1 + alpha * |x|);    derivative(x) = 1 / (1 + alpha * |x|)^2
    """

    alpha: float = 25.0
    kind = FAST_SIGMOID


@dataclasses.dataclass(frozen=True)
class Triangle(Surrogate):
    """The piecewise linear derivative (Esser et al. 2016, Bellec et al. 2018), zero where |x| >= 1 / alpha.

    primitive(x) = 1/2 + z - z * |z| / 2 with z = alpha * x clipped to [-1, 1];  derivative(x) = alpha * max(0, 1 - alpha * |x|)
    """

    alpha: float = 1.0
    kind = TRIANGLE
