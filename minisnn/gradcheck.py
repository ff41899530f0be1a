"""Does the gradient that an operation computes match the difference quotient of its values?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .engine import Tensor, no_grad

__all__ = ["gradcheck", "GradientMismatch"]

DIRECTIONS = 3  # independent random directions: a wrong gradient that hides from one does not hide from three


class GradientMismatch(AssertionError):
    """The analytic and the numeric gradient differ."""


def gradcheck(
    f: Callable[..., Tensor], inputs: Any, eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-8, seed: int = 0
) -> bool:
    """Compare the gradient of ``f`` with central finite differences, in float64.

    The output is projected onto a random vector v, the inputs are moved along a random direction d, and one number is compared,

        < d, J^T v >   against   ( < v, f(x + eps d) > - < v, f(x - eps d) > ) / (2 eps),

    which involves every entry of the Jacobian J. Only if they differ is each entry examined, to name the worst.

    Args:
        f: a function of tensors that returns one tensor of any shape. It must be smooth near the inputs: a neuron is checked
            in smooth mode, a maximum away from ties.
        inputs: a Tensor or a sequence of Tensors, float64; those that require a gradient are checked. Left as they were.
        eps: the step, in the inputs' units.
        rtol, atol: accepted difference, relative to the size that the compared sum would have with random signs, and absolute.
        seed: of the random vectors.

    Returns:
        True.

    Raises:
        GradientMismatch: (an AssertionError) names the input and the entry where the two differ most, with both values.
        TypeError: an input is not a float64 Tensor.
        ValueError: no input requires a gradient.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    for k, x in enumerate(inputs):
        if not isinstance(x, Tensor) or x.dtype != np.float64:
            raise TypeError(
                f"gradcheck: input {k} is {x.dtype if isinstance(x, Tensor) else type(x).__name__}; "
                "give float64 Tensors, finite differences need the precision"
            )
    checked = [k for k, x in enumerate(inputs) if x.requires_grad]
    if not checked:
        raise ValueError("gradcheck: no input requires a gradient; make one with Tensor(..., requires_grad=True)")

    rng = np.random.default_rng(seed)
    values = [x.data.copy() for x in inputs]
    tape = [Tensor(v.copy(), requires_grad=x.requires_grad) for v, x in zip(values, inputs)]
    out = f(*tape)
    v = rng.standard_normal(out.shape)
    out.backward(v)
    analytic = {k: np.zeros_like(values[k]) if tape[k].grad is None else tape[k].grad for k in checked}

    def slope(step):
        """The difference quotient of <v, f> along ``step``, a dict from input number to array."""
        ends = []
        for sign in (eps, -eps):
            moved = [Tensor(x + sign * step[k] if k in step else x.copy()) for k, x in enumerate(values)]
            with no_grad():
                ends.append(np.sum(v * f(*moved).data))
        return (ends[0] - ends[1]) / (2 * eps)

    for k in checked:
        for _ in range(DIRECTIONS):
            d = rng.standard_normal(values[k].shape)
            terms = analytic[k] * d
            numeric = slope({k: d})
            difference, scale = abs(terms.sum() - numeric), max(np.sqrt(np.sum(terms * terms)), abs(numeric))
            if not (np.isfinite(difference) and difference <= atol + rtol * scale):
                _name_the_worst(k, analytic[k], slope)
    return True


def _name_the_worst(k, analytic, slope):
    worst = (-1.0, None, None)
    for index in np.ndindex(analytic.shape):
        unit = np.zeros_like(analytic)
        unit[index] = 1.0
        numeric = slope({k: unit})
        difference = abs(analytic[index] - numeric)
        if not difference <= worst[0]:
            worst = (difference, index, numeric)
        if np.isnan(difference):
            break
    difference, index, numeric = worst
    raise GradientMismatch(
        f"gradient of input {k} is wrong, most at entry {index}: analytic {analytic[index]:.9g}, "
        f"numeric {numeric:.9g}, difference {difference:.3g}"
    )
