"""Elementary operations: enough to write any layer by hand on the tape.

Each class is one operation: forward, and next to it the rule for its gradient. Users call the functions below the classes;
the operators of Tensor (``a + b``, ``a @ b``, ``a[1:]``, ...) and its methods (``a.sum()``) are bound to the same functions
at the end.

For all these functions: a, b are Tensors of any shape that NumPy's function of that name takes; next to a Tensor a number or
an array will do, and takes its dtype. They return a Tensor. They raise ValueError (or IndexError) where NumPy does, because
shapes, axes or indices do not fit, and TypeError if the tensors' dtypes differ or a lone argument is not a Tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import Function, Tensor
from ..ledger import is_open, record
from ..types import Axis

__all__ = [
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "power",
    "matmul",
    "sum",
    "mean",
    "max",
    "min",
    "reshape",
    "transpose",
    "index",
    "stack",
    "concatenate",
    "where",
    "exp",
    "log",
    "relu",
    "sigmoid",
    "sqrt",
    "tanh",
    "abs",
    "argmax",
]


def unbroadcast(grad, shape):
    """Sum a gradient over the axes along which its tensor was repeated."""
    if grad.shape == shape:
        return grad
    lead = grad.ndim - len(shape)
    repeated = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and grad.shape[lead + i] != 1)
    return grad.sum(repeated, keepdims=True).reshape(shape)


class Elementary(Function):
    """An operation of NumPy, whose errors about shapes, axes or indices do not name the operation."""

    @classmethod
    def apply(cls, *inputs, **options):
        try:
            return super().apply(*inputs, **options)
        except (ValueError, IndexError) as error:
            raise type(error)(f"{cls.__name__.lower()}: {error}") from None


class Add(Elementary):
    reuses = "none"

    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        return a + b

    def backward(self, grad):
        return unbroadcast(grad, self.shapes[0]), unbroadcast(grad, self.shapes[1])


class Sub(Elementary):
    reuses = "none"

    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        return a - b

    def backward(self, grad):
        return unbroadcast(grad, self.shapes[0]), unbroadcast(-grad, self.shapes[1])


class Mul(Elementary):
    reuses = "others"

    def forward(self, a, b):
        self.a, self.b = a, b
        return a * b

    def backward(self, grad):
        return unbroadcast(grad * self.b, self.a.shape), unbroadcast(grad * self.a, self.b.shape)


class Div(Elementary):
    def forward(self, a, b):
        self.a, self.b = a, b
        return a / b

    def backward(self, grad):
        return unbroadcast(grad / self.b, self.a.shape), unbroadcast(-grad * self.a / (self.b * self.b), self.b.shape)


class Neg(Elementary):
    reuses = "none"

    def forward(self, a):
        return -a

    def backward(self, grad):
        return -grad


class Power(Elementary):
    def forward(self, a, exponent):
        self.a, self.exponent = a, exponent
        return a**exponent

    def backward(self, grad):
        if self.exponent == 0:  # constant, also at 0, where the formula divides by it
            return np.zeros_like(grad)
        return grad * self.exponent * self.a ** (self.exponent - 1)


class MatMul(Elementary):
    reuses = "others"

    def forward(self, a, b):
        self.a, self.b = a, b
        out = a @ b
        if is_open():  # a left side of 0 and 1 only selects what is added
            products, spikes = out.size * a.shape[-1], bool(((a == 0) | (a == 1)).all())
            additions = round(products * float(a.mean(dtype=np.float64))) if spikes and products else 0
            record("matmul", "linear", ac=additions, mac=0 if spikes else products)
        return out

    def backward(self, grad):
        a = self.a[None, :] if self.a.ndim == 1 else self.a  # a vector is a matrix of one row (left) or column (right)
        b = self.b[:, None] if self.b.ndim == 1 else self.b
        grad = grad.reshape(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + (a.shape[-2], b.shape[-1]))
        da = unbroadcast(grad @ np.swapaxes(b, -1, -2), a.shape)
        db = unbroadcast(np.swapaxes(a, -1, -2) @ grad, b.shape)
        return da.reshape(self.a.shape), db.reshape(self.b.shape)


class Sum(Elementary):
    reuses = "none"

    def forward(self, a, axis=None, keepdims=False):
        self.shape, self.axis, self.keepdims = a.shape, axis, keepdims
        return np.asarray(a.sum(axis, keepdims=keepdims))

    def backward(self, grad):
        return np.broadcast_to(_restore_axes(grad, self.shape, self.axis, self.keepdims), self.shape)


class Max(Elementary):
    def forward(self, a, axis=None, keepdims=False):
        self.a, self.axis, self.keepdims = a, axis, keepdims
        self.top = a.max(axis, keepdims=True)
        return np.asarray(self.top if keepdims else a.max(axis))

    def backward(self, grad):
        at_top = (self.a == self.top).astype(grad.dtype)
        share = at_top / at_top.sum(self.axis, keepdims=True, dtype=grad.dtype)  # entries that tie share the gradient evenly
        return share * _restore_axes(grad, self.a.shape, self.axis, self.keepdims)


class Where(Elementary):
    reuses = "none"

    def forward(self, a, b, condition):
        self.condition, self.shapes = condition, (a.shape, b.shape)
        return np.where(condition, a, b)

    def backward(self, grad):
        chosen = np.where(self.condition, grad, 0)
        return unbroadcast(chosen, self.shapes[0]), unbroadcast(grad - chosen, self.shapes[1])


def _restore_axes(grad, shape, axis, keepdims):
    """Restore the axes of length 1 of a reduced gradient."""
    if keepdims or axis is None:
        return grad.reshape((1,) * len(shape)) if axis is None else grad
    return np.expand_dims(grad, tuple(a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))))


class Reshape(Elementary):
    reuses, views = "none", True
    takes_spikes = makes_spikes = True  # and passes them on

    def forward(self, a, shape):
        self.shape = a.shape
        return a.reshape(shape)

    def backward(self, grad):
        return grad.reshape(self.shape)


class Transpose(Elementary):
    reuses, views = "none", True
    takes_spikes = makes_spikes = True  # and passes them on

    def forward(self, a, axes=None):
        self.axes = tuple(range(a.ndim))[::-1] if axes is None else axes
        return a.transpose(self.axes)

    def backward(self, grad):
        return grad.transpose(np.argsort(np.mod(self.axes, grad.ndim)))


class Index(Elementary):
    reuses, views = "none", True
    takes_spikes = makes_spikes = True  # and passes them on

    def forward(self, a, key):
        self.shape, self.key = a.shape, key
        return np.asarray(a[key])

    def backward(self, grad):
        full = np.zeros(self.shape, grad.dtype)
        np.add.at(full, self.key, grad)  # an entry taken twice gets both gradients
        return full


class Stack(Elementary):
    reuses = "none"
    takes_spikes = makes_spikes = True  # of spikes alone are spikes

    def forward(self, *arrays, axis=0):
        self.axis = axis
        return np.stack(arrays, axis)

    def backward(self, grad):
        return tuple(np.moveaxis(grad, self.axis, 0))


class Concatenate(Elementary):
    reuses = "none"
    takes_spikes = makes_spikes = True  # of spikes alone are spikes

    def forward(self, *arrays, axis=0):
        joined = np.concatenate(arrays, axis)
        self.axis, self.ends = axis, np.cumsum([a.shape[axis] for a in arrays])
        return joined

    def backward(self, grad):
        return tuple(np.split(grad, self.ends[:-1], self.axis))


class Exp(Elementary):
    def forward(self, a):
        self.y = np.exp(a)
        return self.y

    def backward(self, grad):
        return grad * self.y


class Log(Elementary):
    def forward(self, a):
        self.a = a
        return np.log(a)

    def backward(self, grad):
        return grad / self.a


class Relu(Elementary):
    def forward(self, a):
        self.a = a
        return np.maximum(a, 0)

    def backward(self, grad):
        return grad * (self.a > 0)


class Sigmoid(Elementary):
    def forward(self, a):
        e = np.exp(-np.abs(a))  # of minus the magnitude, so that it cannot overflow
        self.y = np.where(a >= 0, 1, e) / (1 + e)
        return self.y

    def backward(self, grad):
        return grad * self.y * (1 - self.y)


class Tanh(Elementary):
    def forward(self, a):
        self.y = np.tanh(a)
        return self.y

    def backward(self, grad):
        return grad * (1 - self.y * self.y)


class Abs(Elementary):
    def forward(self, a):
        self.a = a
        return np.abs(a)

    def backward(self, grad):
        return grad * np.sign(self.a)


def _tensors(*values):
    """Numbers and arrays next to a tensor take its dtype."""
    dtype = next((v.dtype for v in values if isinstance(v, Tensor)), None)
    return tuple(
        v if isinstance(v, Tensor) else Tensor(np.asarray(v, dtype if np.ndim(v) == 0 or dtype else None), dtype=dtype)
        for v in values
    )


def add(a: Any, b: Any) -> Tensor:
    """a + b, broadcast."""
    return Add.apply(*_tensors(a, b))


def sub(a: Any, b: Any) -> Tensor:
    """a - b, broadcast."""
    return Sub.apply(*_tensors(a, b))


def mul(a: Any, b: Any) -> Tensor:
    """a * b, element by element, broadcast."""
    return Mul.apply(*_tensors(a, b))


def div(a: Any, b: Any) -> Tensor:
    """a / b, broadcast."""
    return Div.apply(*_tensors(a, b))


def neg(a: Any) -> Tensor:
    """-a."""
    return Neg.apply(a)


def power(a: Any, exponent: float) -> Tensor:
    """a to a constant power, a number. Raises TypeError if the exponent is anything else: then write exp(b * log(a))."""
    if isinstance(exponent, Tensor) or np.ndim(exponent) > 0:
        raise TypeError(f"power: the exponent is a {type(exponent).__name__}; give a number, or write exp(b * log(a))")
    return Power.apply(a, exponent=float(exponent))  # a Python number leaves float32 arrays float32


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product as ``numpy.matmul``: [..., n, k] @ [..., k, m] -> [..., n, m]; vectors allowed."""
    return MatMul.apply(*_tensors(a, b))


def sum(a: Any, axis: Axis | None = None, keepdims: bool = False) -> Tensor:
    """Sum over ``axis`` (an int, a tuple, or None for all)."""
    return Sum.apply(a, axis=axis, keepdims=keepdims)


def mean(a: Any, axis: Axis | None = None, keepdims: bool = False) -> Tensor:
    """Mean over ``axis`` (an int, a tuple, or None for all). Raises ValueError if there is nothing to average over."""
    total = sum(a, axis, keepdims)
    if a.size == 0:
        raise ValueError(f"mean of an empty tensor, of shape {a.shape}")
    return div(total, a.size / total.size)


def max(a: Any, axis: Axis | None = None, keepdims: bool = False) -> Tensor:
    """Maximum over ``axis``; entries that tie share the gradient evenly."""
    return Max.apply(a, axis=axis, keepdims=keepdims)


def min(a: Any, axis: Axis | None = None, keepdims: bool = False) -> Tensor:
    """Minimum over ``axis``; entries that tie share the gradient evenly."""
    return neg(max(neg(a), axis, keepdims))


def reshape(a: Any, *shape: Any) -> Tensor:
    """The same entries in another shape; one length may be -1."""
    return Reshape.apply(a, shape=shape[0] if len(shape) == 1 else shape)


def transpose(a: Any, *axes: Any) -> Tensor:
    """The axes in another order; without arguments, reversed."""
    order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    return Transpose.apply(a, axes=tuple(order) or None)


def index(a: Any, key: Any) -> Tensor:
    """``a[key]``, with any key that NumPy takes."""
    return Index.apply(a, key=key)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    return Stack.apply(*_tensors(*tensors), axis=axis)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors one after another along an axis that they have."""
    return Concatenate.apply(*_tensors(*tensors), axis=axis)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where the condition holds, else ``b``; all three broadcast. The gradient goes to the one that was taken.

    Args:
        condition: an array of Booleans, such as ``x > 0``, or a Tensor of spikes.
        a, b: Tensors, numbers or arrays, at least one of them a Tensor.

    Raises:
        TypeError: a condition of numbers, or neither a nor b is a Tensor.
    """
    condition = condition.storage if isinstance(condition, Tensor) else np.asarray(condition)
    if condition.dtype != np.bool_:
        raise TypeError(f"where: the condition holds {condition.dtype}; give Booleans, such as x > 0")
    if not (isinstance(a, Tensor) or isinstance(b, Tensor)):
        raise TypeError("where takes Tensors; wrap one of the two in Tensor(...), or use numpy.where")
    return Where.apply(*_tensors(a, b), condition=condition)


def exp(a: Any) -> Tensor:
    """e to the a."""
    return Exp.apply(a)


def log(a: Any) -> Tensor:
    """Natural logarithm."""
    return Log.apply(a)


def sqrt(a: Any) -> Tensor:
    """Square root."""
    return power(a, 0.5)


def relu(a: Any) -> Tensor:
    """max(a, 0), with gradient 0 at 0."""
    return Relu.apply(a)


def sigmoid(a: Any) -> Tensor:
    """1 / (1 + exp(-a))."""
    return Sigmoid.apply(a)


def tanh(a: Any) -> Tensor:
    """Hyperbolic tangent."""
    return Tanh.apply(a)


def abs(a: Any) -> Tensor:
    """|a|, with gradient 0 at 0."""
    return Abs.apply(a)


def argmax(a: Any, axis: int | None = None) -> Any:
    """Index of the maximum, the first among equals: an ndarray of whole numbers, as ``numpy.argmax``; it has no gradient."""
    try:
        return np.argmax(a.data, axis)
    except ValueError as error:
        raise type(error)(f"argmax: {error}") from None


def compare(how):
    """A comparison element by element: with a Tensor, a number or an array, an ndarray of bool; with anything else,
    Python's.
    """

    def operation(a, b):
        b = b.data if isinstance(b, Tensor) else b
        return how(a.data, b) if isinstance(b, (np.ndarray, np.generic, int, float, list, tuple)) else NotImplemented

    return operation


for _name, _how in {
    "__eq__": np.equal,
    "__ne__": np.not_equal,
    "__lt__": np.less,
    "__le__": np.less_equal,
    "__gt__": np.greater,
    "__ge__": np.greater_equal,
}.items():
    setattr(Tensor, _name, compare(_how))
for _name, _operation in {
    "__add__": add,
    "__radd__": add,
    "__sub__": sub,
    "__rsub__": lambda a, b: sub(b, a),
    "__mul__": mul,
    "__rmul__": mul,
    "__truediv__": div,
    "__rtruediv__": lambda a, b: div(b, a),
    "__neg__": neg,
    "__pow__": power,
    "__matmul__": matmul,
    "__rmatmul__": lambda a, b: matmul(b, a),
    "__getitem__": index,
    "sum": sum,
    "mean": mean,
    "max": max,
    "min": min,
    "reshape": reshape,
    "transpose": transpose,
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "abs": abs,
    "argmax": argmax,
    "T": property(transpose),
}.items():
    setattr(Tensor, _name, _operation)
