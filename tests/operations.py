"""One row per operation: how it is called, what defines it, what it is tried with, and what it refuses.

test_operations.py holds every row to the same properties, so a new operation costs its page in minisnn/ops and one row in
OPERATIONS at the end of this file. The model is the OpInfo of PyTorch's tests.

A definition is written in one of two ways. In NumPy it takes and returns arrays, and the gradient is checked against finite
differences. In elementary operations on the tape (``on_tape``) it takes and returns Tensors, so that its gradients are
compared too, also where finite differences cannot tell: at the hard step of a neuron, or where entries tie for a maximum.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from checks import seeds, spread
from hypothesis import strategies as st

from minisnn import Function, Tensor, ledger, ops
from minisnn.surrogate import ATan, FastSigmoid, Sigmoid, Triangle


class Sample(NamedTuple):
    """What an operation is tried with."""

    name: str
    inputs: tuple  # ndarrays, each of which becomes a Tensor: float64, or bool for spikes
    options: dict = {}
    smooth: bool = True  # no kink, tie or step within reach of finite differences
    large: bool = False  # as large as its parallel loops need it: only for what depends on the number of threads or the batch


class Refusal(NamedTuple):
    """What an operation does not take: ndarrays, each of which becomes a Tensor of its dtype, or anything else as it is."""

    words: str  # a regular expression
    inputs: tuple
    options: dict = {}
    error: type = ValueError


@dataclasses.dataclass(frozen=True, repr=False)
class Operation:
    """A row of the table."""

    name: str  # in minisnn.ops
    call: Callable  # of Tensors and options; what the operation changes in place (running statistics), it is given copies of
    definition: Callable  # of arrays and options; Booleans where the operation returns spikes
    samples: tuple
    drawn: object = None  # a Hypothesis strategy of further samples
    refusals: tuple = ()
    examples: int = 20  # that are drawn
    on_tape: bool = False  # whether the definition is written on the tape: then it takes and returns Tensors
    exact: bool = False  # whether values equal those of the definition to the bit, in the dtype of the inputs
    rtol: tuple = (2e-5, 1e-12)  # accepted difference from the definition in float32 and float64, of the largest entry
    slope_rtol: float = 1e-5  # accepted difference of the gradient from finite differences
    smooth_twin: Callable | None = lambda options: options  # to the options that turn each hard step into its smooth primitive
    fires: bool = False  # whether the result hangs on a threshold, which float32 and float64 may pass at different inputs
    gradient: bool = True  # False where the result is no Tensor
    spikes: Callable = lambda inputs, options: False  # whether the result is spikes, kept at one byte each
    batch: Callable = lambda sample: None  # axis of the samples in the inputs ``batched`` and in the result, if they are apart
    batched: tuple = (0,)
    counts: Callable = lambda out, *arrays, **options: {}  # what is written into an open ledger, in all
    only_spikes: Callable = lambda options: False  # whether the first input may hold nothing but 0 and 1
    refuses_nan: Callable = lambda options: False  # whether NaN is refused; otherwise it reaches what it reaches by definition
    spelled: dict = dataclasses.field(default_factory=dict)  # methods and operators of Tensor: the same thing
    parts: tuple = ()  # operations that may complain in its stead

    def __repr__(self):
        return self.name


def numbers(*shape, seed=0):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def fired(*shape, density=0.3, seed=0):
    """Spikes."""
    return np.random.default_rng(seed).random(shape) < density


def one(*shape):
    """Ones, for refusals."""
    return np.ones(shape)


@st.composite
def samples_of(draw, make):
    """Samples made by ``make(draw, seed)``: inputs, or inputs and options, or those and whether it is smooth."""
    made = make(draw, draw(seeds))
    return Sample("drawn", *(made if isinstance(made[-1], (dict, bool)) else (made,)))


# ---- elementary operations ----------------------------------------------------------------------------------------------

shapes = st.lists(st.integers(1, 4), min_size=0, max_size=3).map(tuple)
NOT_FINITE = np.nan, np.inf, -np.inf
NOT_A_TENSOR = Refusal("takes Tensors, not list", ([1.0],), error=TypeError)


def method(name):
    return lambda a, *rest, **options: getattr(a, name)(*rest, **options)


def plain(a):
    """What may stand beside a Tensor: its number or its array."""
    return a.data.item() if a.ndim == 0 else a.data


def unary(name, definition, positive=False, kink=False, spelled=None, pole=False, exact=True, **row):
    """An operation on each element."""
    prepare = np.abs if positive else np.asarray
    options = [Sample(str(k), (prepare(spread(shape, k)),)) for k, shape in enumerate([(), (1,), (1, 3, 1), (2, 3, 4), (0, 3)])]
    options.append(Sample("spikes", (fired(2, 3, 4, density=1.0 if pole else 0.5),), smooth=not kink))
    if not pole:
        options.append(Sample("at 0", (np.array([0.0, -0.0, 1.0, -1.0]),), smooth=not kink))
    return Operation(
        name,
        getattr(ops, name),
        definition,
        tuple(options),
        samples_of(lambda draw, seed: (prepare(spread(draw(shapes), seed)),)),
        (NOT_A_TENSOR,),
        exact=exact,
        batch=lambda sample: 0 if sample.inputs[0].ndim > 1 else None,
        spelled=spelled or {name: method(name)},
        **row,
    )


def power_row():
    cases = [(2, 1), (3, 1), (-1.0, 1), (0, 1), (1, 1), (0.5, 0), (-1.5, 0)]  # the exponent, and whether both signs are tried
    return Operation(
        "power",
        ops.power,
        lambda a, exponent: a ** float(exponent),
        tuple(
            Sample(f"{e}", (spread((2, 3), 0) if signs else np.abs(spread((2, 3), 0)),), dict(exponent=e)) for e, signs in cases
        )
        + (
            Sample("0 to the 0", (np.zeros(2),), dict(exponent=0)),
            Sample("spikes", (fired(2, 3),), dict(exponent=2)),
            Sample("one number", (np.asarray(-1.5),), dict(exponent=3)),
        ),
        samples_of(
            lambda draw, seed: ((spread(draw(shapes), seed),), dict(exponent=draw(st.sampled_from([-2, -1.0, 0, 1, 2, 3]))))
        ),
        (
            Refusal("exponent", (one(2),), dict(exponent=Tensor(2.0)), TypeError),
            Refusal("exponent is a list", (one(2),), dict(exponent=[2.0]), TypeError),
            NOT_A_TENSOR._replace(options=dict(exponent=2.0)),
        ),
        exact=True,
        batch=lambda sample: 0 if sample.inputs[0].ndim else None,
        spelled={"__pow__": lambda a, exponent: a**exponent},
    )


PAIRS = {
    "equal": ((2, 3), (2, 3)),
    "numbers": ((), ()),
    "a number": ((), (2, 3)),
    "and a number": ((2, 3), ()),
    "an axis more": ((3,), (2, 3)),
    "axes of 1": ((2, 1, 4), (1, 3, 1)),
    "one element": ((1,), (1, 1)),
    "none": ((0, 3), (1, 3)),
}


@st.composite
def broadcastable(draw):
    """Two shapes that broadcast against each other."""
    full = draw(shapes)
    kept = [full[draw(st.integers(0, len(full))) :] for _ in "ab"]
    return [tuple(draw(st.sampled_from([1, n])) for n in shape) for shape in kept]


def binary(name, definition, symbol, divides=False):
    """An operation on two tensors, broadcast; ``symbol`` is the operator as a function."""

    def pair(a, b, seed=0):
        return spread(a, seed), spread(b, seed + 1)

    spikes = (fired(2, 3, seed=1), spread((3,), 0)) if divides else (spread((3,), 0), fired(2, 3, seed=1))
    word = {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv"}[name]
    return Operation(
        name,
        getattr(ops, name),
        definition,
        tuple(Sample(k, pair(*shapes)) for k, shapes in PAIRS.items())
        + (
            Sample("spikes", spikes),
            Sample(
                "spikes over numbers" if divides else "both spikes",
                (fired(2, 3), spread((2, 3), 0) if divides else fired(2, 3, seed=1)),
            ),
        ),
        samples_of(lambda draw, seed: pair(*draw(broadcastable()), seed)),
        (
            Refusal("could not be broadcast", (one(2, 3), one(4))),
            Refusal("tensors of float32, float64", (np.ones(2, np.float32), one(2)), error=TypeError),
        ),
        exact=True,
        batched=(0, 1),
        batch=lambda sample: 0 if sample.name in ("equal", "both spikes", "spikes over numbers") else None,
        spelled={
            f"__{word}__": symbol,
            f"__r{word}__": lambda a, b: symbol(plain(a), b),
            "an array on the right": lambda a, b: symbol(a, plain(b)),
        },
    )


MATRICES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 1)),
    ((4, 1, 2, 3), (5, 3, 2)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 2)),
    ((1, 1), (1, 1)),
    ((3, 3), (3, 3)),
]


def matmul_counts(out, a, b):
    """Of spikes on the left, an addition for each and each column; otherwise all products."""
    spikes = set(np.unique(a)) <= {0, 1}
    return dict(ac=int(a.sum()) * b.shape[-1], mac=0) if spikes else dict(ac=0, mac=out.size * a.shape[-1])


def where_row():
    def call(a, b, condition):
        return ops.where(condition, a, b)

    cases = [((2, 3), (2, 3), (2, 3)), ((3,), (2, 1), ()), ((), (2, 3), (3,)), ((2, 3), (), (2, 1)), ((0, 3), (3,), (3,))]
    return Operation(
        "where",
        call,
        lambda a, b, condition: np.where(condition.storage if isinstance(condition, Tensor) else condition, a, b),
        tuple(
            Sample(f"{a}, {b} by {c}", (spread(a, 0), spread(b, 1)), dict(condition=fired(*c, density=0.5, seed=2)))
            for a, b, c in cases
        )
        + (
            Sample("spikes", (fired(2, 3), spread((2, 3), 0)), dict(condition=fired(2, 3, seed=2))),
            Sample("by spikes", (spread((2, 3), 0), spread((2, 3), 1)), dict(condition=Tensor(fired(2, 3, seed=2)))),
        ),
        refusals=(
            Refusal("give Booleans", (one(2), one(2)), dict(condition=np.ones(2)), TypeError),
            Refusal("could not be broadcast", (one(2), one(3)), dict(condition=np.ones(2, bool))),
            Refusal("where takes Tensors", ([1.0], 2.0), dict(condition=True), TypeError),
            Refusal("tensors of float32, float64", (np.ones(2, np.float32), one(2)), dict(condition=True), TypeError),
        ),
        exact=True,
        spelled={
            "an array on the right": lambda a, b, condition: ops.where(condition, a, plain(b)),
            "an array on the left": lambda a, b, condition: ops.where(condition, plain(a), b),
        },
    )


def matmul_row():
    return Operation(
        "matmul",
        ops.matmul,
        np.matmul,
        tuple(Sample(f"{a} by {b}", (spread(a, 0), spread(b, 1))) for a, b in MATRICES)
        + (Sample("spikes", (fired(4, 3), spread((3, 2), 0))),),
        samples_of(lambda draw, seed: tuple(spread(s, seed + k) for k, s in enumerate(draw(st.sampled_from(MATRICES))))),
        (
            Refusal("mismatch", (one(2, 3), one(2, 3))),
            Refusal("scalar|dimension", (one(), one(2))),
            Refusal("tensors of float32, float64", (np.ones(2, np.float32), one(2)), error=TypeError),
        ),
        exact=True,
        counts=matmul_counts,
        spelled={"__matmul__": lambda a, b: a @ b, "__rmatmul__": lambda a, b: a.data @ b},
    )


@st.composite
def reductions(draw, some=False):
    """An axis that may be reduced, of a shape; ``some``: not over no axis at all."""
    shape = draw(shapes)
    axes = draw(st.sets(st.integers(0, len(shape) - 1)).map(tuple)) if shape else ()
    axes = tuple(a - len(shape) * (a % 2) for a in axes)
    axis = draw(st.sampled_from([None, axes, axes[0]] if axes else [None] if some else [None, ()]))
    return shape, dict(axis=axis, keepdims=draw(st.booleans()))


def reduction(name, definition, ties=False, exact=True):
    """A sum, mean or extreme over axes."""
    cases = [
        ((), {}),
        ((1,), {}),
        ((2, 3, 4), {}),
        ((2, 3, 4), dict(keepdims=True)),
        ((2, 3, 4), dict(axis=1)),
        ((1, 3, 1), dict(axis=0)),
        ((2, 3, 4), dict(axis=-1, keepdims=True)),
        ((2, 3, 4), dict(axis=(0, -1))),
        ((2, 3, 4), dict(axis=(2, 0), keepdims=True)),
    ]
    refusals = (
        NOT_A_TENSOR,
        Refusal("out of bounds", (one(2, 3),), dict(axis=2)),
        Refusal("duplicate", (one(2, 3),), dict(axis=(0, 0))),
    )
    if name != "sum":
        refusals += (Refusal("empty|zero-size", (one(0, 2),)),)
    return Operation(
        name,
        getattr(ops, name),
        definition,
        tuple(Sample(f"{k} {shape}", (spread(shape, 0),), options) for k, (shape, options) in enumerate(cases))
        + (Sample("spikes", (fired(3, 4),), dict(axis=1), smooth=not ties),),
        samples_of(lambda draw, seed: (lambda shape, options: ((spread(shape, seed),), options))(*draw(reductions(ties)))),
        refusals,
        exact=exact,
        spelled={name: method(name)},
        parts=("sum", "max", "neg"),
    )


def spikes_stay(inputs, options):
    """Spikes alone stay spikes."""
    return all(x.dtype == bool for x in inputs)


KEYS = {
    "number": 0,
    "from the end": -1,
    "slice": slice(1, None),
    "column": (slice(None), 1),
    "entry": (0, 1),
    "all": Ellipsis,
    "new axis": (Ellipsis, None, 0),
    "backwards": (slice(None, None, -1), slice(None)),
    "rows, one twice": np.array([0, 0, 2]),
    "entries, one twice": (np.array([0, 0, 2]), np.array([1, 1, 0])),
    "mask": np.arange(12).reshape(3, 4) % 2 == 0,
    "nothing": slice(0, 0),
}


def index_row():
    return Operation(
        "index",
        ops.index,
        lambda a, key: a[key],
        tuple(Sample(name, (spread((3, 4), 0),), dict(key=key)) for name, key in KEYS.items())
        + (Sample("spikes", (fired(3, 4),), dict(key=1)),),
        refusals=(
            Refusal("out of bounds", (one(2),), dict(key=2), IndexError),
            Refusal("too many", (one(2),), dict(key=(0, 0)), IndexError),
            Refusal("boolean", (one(2),), dict(key=np.ones(3, bool)), IndexError),
        ),
        exact=True,
        spikes=spikes_stay,
        spelled={"__getitem__": lambda a, key: a[key]},
    )


def reshape_row():
    cases = [
        ((2, 3, 4), (6, 4)),
        ((2, 3, 4), (4, -1)),
        ((2, 3, 4), (-1,)),
        ((1,), ()),
        ((), (1, 1)),
        ((0, 3), (3, 0)),
        ((2, 3), (2, 3)),
    ]
    return Operation(
        "reshape",
        lambda a, shape: ops.reshape(a, *shape),
        lambda a, shape: np.reshape(a, shape),  # whose argument has another name before NumPy 2.1
        tuple(Sample(f"{a} to {b}", (spread(a, 0),), dict(shape=b)) for a, b in cases)
        + (Sample("spikes", (fired(4, 3),), dict(shape=(6, 2))),),
        refusals=(
            Refusal("cannot reshape", (one(2, 3),), dict(shape=(4,))),
            Refusal("one unknown", (one(2, 3),), dict(shape=(-1, -1))),
        ),
        exact=True,
        spikes=spikes_stay,
        spelled={"reshape": lambda a, shape: a.reshape(*shape), "reshape by a tuple": lambda a, shape: a.reshape(shape)},
    )


def transpose_row():
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (-1, 0, -2)]
    return Operation(
        "transpose",
        lambda a, axes=(): ops.transpose(a, *axes),
        lambda a, axes=(): a.transpose(axes or None),
        tuple(Sample(f"{order}", (spread((2, 3, 4), 0),), dict(axes=order)) for order in orders)
        + (
            Sample("reversed", (spread((2, 3, 4), 0),)),
            Sample("one number", (spread((), 0),)),
            Sample("spikes", (fired(4, 1, 3),)),
        ),
        refusals=(
            Refusal("axes don't match", (one(2, 3),), dict(axes=(0, 1, 2))),
            Refusal("repeated", (one(2, 3),), dict(axes=(0, 0))),
            Refusal("out of bounds", (one(2, 3),), dict(axes=(0, 2))),
        ),
        exact=True,
        spikes=spikes_stay,
        spelled={
            "transpose": lambda a, axes=(): a.transpose(*axes),
            "transpose by a tuple": lambda a, axes=(): a.transpose(axes),
            "T": lambda a, axes=(): a.transpose(axes) if axes else a.T,
        },
    )


def joining(name, definition, uneven):
    """stack or concatenate, of any number of tensors."""

    def arrays_after_the_first(*tensors, axis=0):
        return getattr(ops, name)([tensors[0], *map(plain, tensors[1:])], axis)

    def options(count, axis, seed=0):
        return tuple(spread((2, 3, 2), seed + k) for k in range(count)), dict(axis=axis)

    return Operation(
        name,
        lambda *tensors, axis=0: getattr(ops, name)(tensors, axis),
        lambda *arrays, axis=0: definition(arrays, axis),
        tuple(Sample(f"{count} along {axis}", *options(count, axis)) for count in (1, 2, 3) for axis in (0, 1, -1))
        + (Sample("spikes", (fired(2, 3), spread((2, 3), 0))), Sample("spikes alone", (fired(2, 3), fired(2, 3, seed=1))))
        + uneven,
        samples_of(lambda draw, seed: options(draw(st.integers(1, 3)), draw(st.integers(-3, 2)), seed)),
        (
            Refusal("at least one array", ()),
            Refusal("same shape|must match", (one(2, 3), one(3, 2)), dict(axis=0)),
            Refusal("out of bounds", (one(2), one(2)), dict(axis=5)),
            Refusal("tensors of float32, float64", (np.ones(2, np.float32), one(2)), error=TypeError),
        ),
        exact=True,
        spikes=spikes_stay,
        spelled={"arrays after the first": arrays_after_the_first},
    )


def argmax_row():
    return Operation(
        "argmax",
        lambda a, **options: a.argmax(**options),
        np.argmax,
        (
            Sample("all", (spread((2, 3), 0),)),
            Sample("axis", (spread((2, 3), 0),), dict(axis=-1)),
            Sample("the first of equal ones", (np.array([0.0, 2.0, 2.0]),)),
            Sample("spikes", (fired(3, 4),), dict(axis=1)),
        ),
        refusals=(Refusal("empty", (one(0),)), Refusal("out of bounds", (one(2),), dict(axis=1))),
        gradient=False,
        spelled={"argmax": method("argmax")},
    )


ELEMENTARY = [
    binary("add", np.add, lambda a, b: a + b),
    binary("sub", np.subtract, lambda a, b: a - b),
    binary("mul", np.multiply, lambda a, b: a * b),
    binary("div", np.divide, lambda a, b: a / b, divides=True),
    unary("neg", np.negative, spelled={"__neg__": lambda a: -a}),
    unary("exp", np.exp),
    unary("tanh", np.tanh),
    unary("relu", lambda a: np.maximum(a, 0), kink=True),
    unary("abs", np.abs, kink=True),
    unary("sigmoid", lambda a: 1 / (1 + np.exp(-a)), exact=False),
    unary("log", np.log, positive=True, pole=True),
    unary("sqrt", np.sqrt, positive=True, pole=True, parts=("power",)),
    power_row(),
    matmul_row(),
    reduction("sum", np.sum),
    reduction("mean", np.mean, exact=False),
    reduction("max", np.max, ties=True),
    reduction("min", np.min, ties=True),
    index_row(),
    where_row(),
    reshape_row(),
    transpose_row(),
    joining("stack", np.stack, ()),
    joining(
        "concatenate",
        np.concatenate,
        (Sample("of several lengths", (spread((1, 2), 0), spread((3, 2), 1), spread((2, 2), 2))),),
    ),
]


# ---- convolution and pools ----------------------------------------------------------------------------------------------


def windows(n, k, stride, padding):
    return (n + 2 * padding - k) // stride + 1


def pair(value):
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def taps(x, w, stride, padding):
    """For each position of the kernel, what of the input lies under it: [..., Cin, Ho, Wo]."""
    (sh, sw), (ph, pw) = pair(stride), pair(padding)
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(ph, ph), (pw, pw)])
    size = windows(x.shape[-2], w.shape[2], sh, ph), windows(x.shape[-1], w.shape[3], sw, pw)
    for i, j in np.ndindex(w.shape[2:]):
        yield (i, j), padded[..., i : i + sh * size[0] : sh, j : j + sw * size[1] : sw][..., : size[0], : size[1]]


def convolution(x, w, bias=None, stride=1, padding=0, method="auto"):
    """The equation at the head of conv.py, a position of the kernel after another."""
    out = sum(np.einsum("...chw,oc->...ohw", seen, w[:, :, i, j]) for (i, j), seen in taps(x, w, stride, padding))
    return out if bias is None else out + bias[:, None, None]


def convolution_counts(out, x, w, bias=None, stride=1, padding=0, method="auto"):
    """A sample that holds only 0 and 1 adds, any other one multiplies; x is [..., N, Cin, H, W]."""
    counts = dict(ac=0, mac=0)
    for n in range(x.shape[-4]):
        sample = x[..., n : n + 1, :, :, :]
        binary = np.isin(sample, (0, 1)).all()
        seen = sum(part.sum() for _, part in taps(sample if binary else np.ones_like(sample), w, stride, padding))
        counts["ac" if binary else "mac"] += int(seen) * w.shape[0]
    return counts


@st.composite
def geometries(draw):
    """Shapes of x and w, stride and padding, with at least one output pixel."""
    kernel, stride = [draw(st.integers(1, 4)) for _ in "hw"], tuple(draw(st.integers(1, 3)) for _ in "hw")
    padding = tuple(draw(st.integers(0, 2)) for _ in "hw")
    size = [draw(st.integers(max(1, k - 2 * p), 8)) for k, p in zip(kernel, padding)]
    lead = draw(st.sampled_from([(1,), (3,), (1, 1), (2, 3), (2, 1, 2)]))
    cin, cout = (draw(st.sampled_from([1, 2, 3, 8, 16, 20])) for _ in "io")
    return (*lead, cin, *size), (cout, cin, *kernel), dict(stride=stride, padding=padding)


def drawn_convolution(draw, seed):
    x, w, options = draw(geometries())
    density = draw(st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]))  # None: numbers
    x = numbers(*x, seed=seed) if density is None else fired(*x, density=density, seed=seed)
    bias = (numbers(w[0], seed=seed + 2),) if draw(st.booleans()) else ()
    options["method"] = draw(st.sampled_from(["auto", "dense"] + ["event"] * (density is not None)))
    return (x, numbers(*w, seed=seed + 1), *bias), options


def conv2d_row():
    x, w, b = numbers(2, 2, 3, 6, 5), numbers(4, 3, 3, 2, seed=1), numbers(4, seed=2)
    spikes, w16, few = fired(2, 2, 3, 6, 5), numbers(16, 16, 3, 3, seed=1), fired(2, 2, 16, 6, 7, density=0.1)
    sparse, sparse_w = fired(4, 25, 24, 8, 8, density=0.1), numbers(40, 24, 3, 3)
    ones = dict(padding=1)
    return Operation(
        "conv2d",
        lambda x, w, bias=None, **options: ops.conv2d(x, w, bias=bias, **options),
        convolution,
        (
            Sample("numbers", (x, w, b)),
            Sample("[N, C, H, W]", (x[0], w), dict(method="dense")),
            Sample("strides and paddings", (x, w, b), dict(stride=(2, 1), padding=(1, 2), method="dense")),
            Sample("one pixel", (numbers(1, 1, 1, 1), numbers(1, 1, 1, 1))),
            Sample("1x1", (x, numbers(5, 3, 1, 1), numbers(5)), dict(stride=2)),
            Sample("16 channels", (numbers(2, 2, 16, 6, 7), w16), ones | dict(method="dense")),
            Sample("spikes", (spikes, w, b), ones),
            Sample("spikes as events", (spikes, w, b), ones | dict(method="event", stride=(1, 2))),
            Sample("spikes as numbers", (spikes, w, b), ones | dict(method="dense")),
            Sample("few spikes", (few, w16), ones | dict(method="event")),
            Sample("no spikes at all", (np.zeros_like(spikes), w, b), ones | dict(method="event")),
            Sample("0 and 1", (np.where(spikes, 1.0, 0.0), w, b), ones),
            Sample(
                "0 and 1 in one sample",
                (np.where([[[[True]]], [[[False]]]], np.where(spikes, 1.0, 0.0), x), w),
                ones | dict(method="dense"),
            ),
            Sample("many images", (numbers(5, 8, 32, 10, 10), numbers(48, 32, 3, 3)), ones | dict(method="dense"), large=True),
            Sample(
                "many images, stride 2",
                (numbers(5, 8, 32, 9, 10), numbers(80, 32, 3, 3)),
                ones | dict(stride=2, method="dense"),
                large=True,
            ),
            Sample(
                "many images, odd channels",
                (numbers(5, 8, 17, 7, 6), numbers(19, 17, 3, 3)),
                ones | dict(method="dense"),
                large=True,
            ),
            Sample(
                "many images, 1x1", (numbers(5, 8, 24, 8, 8), numbers(5, 24, 1, 1)), dict(stride=2, method="dense"), large=True
            ),
            Sample("many spikes", (sparse, sparse_w, numbers(40)), ones | dict(method="event"), large=True),
        ),
        samples_of(drawn_convolution),
        (
            Refusal("give", (one(1, 2, 5, 5), one(3, 1, 3, 3))),
            Refusal("give", (one(2, 5, 5), one(3, 2, 3, 3))),
            Refusal("give", (one(1, 2, 5, 5), one(3, 2, 3))),
            Refusal("does not fit", (one(1, 2, 2, 5), one(3, 2, 3, 3))),
            Refusal("empty", (one(1, 0, 5, 5), one(3, 0, 3, 3))),
            Refusal("bias", (one(1, 2, 5, 5), one(3, 2, 3, 3), one(2))),
            Refusal("0 and 1", (one(1, 2, 5, 5) / 2, one(3, 2, 3, 3)), dict(method="event")),
            *(
                Refusal(words, (one(1, 2, 5, 5), one(3, 2, 3, 3)), options)
                for words, options in (
                    ("stride", dict(stride=0)),
                    ("padding", dict(padding=-1)),
                    ("stride", dict(stride=(1, 1, 1))),
                    ("padding", dict(padding=(0.5, 1))),
                    ("stride", dict(stride=(1.5, 1))),
                    ("stride", dict(stride=1.5)),
                    ("method", dict(method="sparse")),
                )
            ),
        ),
        # "auto" looks at the whole batch, so it promises nothing
        batch=lambda sample: sample.inputs[0].ndim - 4 if sample.options.get("method", "auto") != "auto" else None,
        examples=60,
        counts=convolution_counts,
        only_spikes=lambda options: options.get("method") == "event",
    )


def pooled(x, kernel, stride=None, padding=0, reduce=np.max, outside=-np.inf):
    """``reduce`` of each window; what lies outside the map is ``outside``."""
    stride = kernel if stride is None else stride
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(padding, padding)] * 2, constant_values=outside)
    out = np.empty(x.shape[:-2] + tuple(windows(n, kernel, stride, 0) for n in x.shape[-2:]), x.dtype)
    for i, j in np.ndindex(out.shape[-2:]):
        out[..., i, j] = reduce(x[..., i * stride : i * stride + kernel, j * stride : j * stride + kernel], (-2, -1))
    return out


def mean_of_bins(x, size):
    out = np.empty(x.shape[:-2] + (size, size))
    for i, j in np.ndindex(size, size):
        rows, columns = (slice(k * n // size, -(-(k + 1) * n // size)) for k, n in zip((i, j), x.shape[-2:]))
        out[..., i, j] = x[..., rows, columns].mean((-2, -1))
    return out


def sample_of_maps(sample):
    """The axis after T in [T, N, C, H, W], the first one of [N, C, H, W]."""
    return max(0, sample.inputs[0].ndim - 4) if sample.inputs[0].ndim > 3 else None


@st.composite
def pools(draw):
    kernel = draw(st.integers(1, 4))
    padding = draw(st.integers(0, kernel // 2))
    size = [draw(st.integers(max(1, kernel - 2 * padding), 7)) for _ in "hw"]
    shape = (*draw(st.sampled_from([(), (2,), (2, 3)])), draw(st.integers(1, 3)), *size)
    return shape, dict(kernel=kernel, stride=draw(st.integers(1, 3)), padding=padding)


def window_pool(name, definition, of_spikes, exact):
    def drawn(draw, seed):
        shape, options = draw(pools())
        if draw(st.booleans()):
            return (spread(shape, seed),), options
        return (fired(*shape, density=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])), seed=seed),), options, not of_spikes

    three = dict(kernel=3, stride=2, padding=1)
    return Operation(
        name,
        getattr(ops, name),
        definition,
        (
            Sample("2", (spread((2, 2, 3, 4, 6), 0),), dict(kernel=2)),
            Sample("overlapping", (spread((2, 2, 3, 5, 6), 0),), three),
            Sample("with gaps", (spread((3, 2, 7, 5), 0),), dict(kernel=1, stride=2)),
            Sample("[C, H, W]", (spread((2, 4, 4), 0),), dict(kernel=2)),
            Sample("one pixel", (spread((1, 1, 1), 0),), dict(kernel=1)),
            Sample("spikes", (fired(2, 2, 3, 5, 6),), three, smooth=not of_spikes),
            Sample("large", (numbers(4, 5, 16, 24, 24),), three, large=True),
        ),
        samples_of(drawn),
        tuple(
            Refusal(words, (one(*shape),), dict(zip(("kernel", "stride", "padding"), window)))
            for shape, window, words in (
                ((4, 4), (2,), "give"),
                ((1, 4, 4), (0,), "kernel 0"),
                ((1, 4, 4), (2.5,), "kernel 2.5"),
                ((1, 4, 4), (2, 0), "stride 0"),
                ((1, 4, 4), (2, 1, 2), "padding 2"),
                ((1, 4, 4), (2, 1, -1), "padding -1"),
                ((1, 2, 4), (3, 1, 0), "does not fit"),
                ((0, 4, 4), (2,), "empty"),
            )
        ),
        exact=exact,
        batch=sample_of_maps,
        spikes=lambda inputs, options: of_spikes and inputs[0].dtype == bool,
    )


def bin_pool(name, definition, sized):
    def drawn(draw, seed):
        x = spread(draw(pools())[0], seed)
        return ((x,), dict(size=draw(st.integers(1, 9)))) if sized else (x,)

    def options(size):
        return dict(size=size) if sized else {}

    return Operation(
        name,
        getattr(ops, name),
        definition,
        tuple(
            Sample(f"{k} {shape}", (spread(shape, 0),), options(size))
            for k, (shape, size) in enumerate([((2, 2, 3, 4, 6), 2), ((3, 2, 5, 7), 3), ((2, 2, 2), 5), ((1, 1, 1), 1)])
        )
        + (
            Sample("spikes", (fired(2, 2, 3, 5, 6),), options(2)),
            Sample("large", (numbers(4, 5, 16, 24, 24),), options(5), large=True),
        ),
        samples_of(drawn),
        (Refusal("shape", (one(4, 4),), options(2)), Refusal("none of them 0", (one(0, 4, 4),), options(2)))
        + tuple(Refusal(f"{size} bins", (one(1, 4, 4),), options(size)) for size in (0, 2.0) if sized),
        batch=sample_of_maps,
        parts=("adaptive_avg_pool2d",),
    )


MAPS = [
    conv2d_row(),
    window_pool("max_pool2d", pooled, True, exact=True),
    window_pool("avg_pool2d", lambda x, **window: pooled(x, **window, reduce=np.mean, outside=0), False, exact=False),
    window_pool("sum_pool2d", lambda x, **window: pooled(x, **window, reduce=np.sum, outside=0), False, exact=False),
    bin_pool("adaptive_avg_pool2d", mean_of_bins, True),
    bin_pool("global_avg_pool2d", lambda x: x.mean((-2, -1)), False),
]


# ---- linear layer, joins and losses -------------------------------------------------------------------------------------


def linear_counts(out, x, w, b):
    """Of spikes the additions, of numbers all products."""
    return dict(ac=int(x.sum()) * len(w), mac=0) if set(np.unique(x)) <= {0, 1} else dict(ac=0, mac=x.size * len(w))


def linear_row():
    def inputs(lead, features, outputs, seed=0):
        return tuple(spread(s, seed + k) for k, s in enumerate(((*lead, features), (outputs, features), (outputs,))))

    return Operation(
        "linear",
        ops.linear,
        lambda x, w, b: x @ w.T + b,
        (
            Sample("[F]", inputs((), 3, 2)),
            Sample("[N, F]", inputs((4,), 3, 2)),
            Sample("[T, N, F]", inputs((2, 3), 5, 4)),
            Sample("one number", inputs((1,), 1, 1)),
            Sample("spikes", (fired(4, 6), *inputs((), 6, 3)[1:])),
            Sample("square", inputs((3,), 3, 3)),
            Sample("[T, N, F], spikes", (fired(3, 4, 6), *inputs((), 6, 3)[1:])),
            Sample("large", (numbers(260, 512), numbers(8, 512), numbers(8)), large=True),
            Sample("large, spikes", (fired(5, 120, 96), numbers(40, 96), numbers(40)), large=True),
        ),
        samples_of(
            lambda draw, seed: inputs(
                draw(st.sampled_from([(), (3,), (2, 3)])), draw(st.integers(1, 6)), draw(st.integers(1, 5)), seed
            )
        ),
        tuple(
            Refusal("x .* give", tuple(one(*s) for s in case))
            for case in (((2, 3), (4, 2), (4,)), ((2, 3), (4, 3), (3,)), ((2, 3), (3,), (4,)), ((), (4, 3), (4,)))
        ),
        on_tape=True,
        batch=lambda sample: 0 if sample.inputs[0].ndim > 1 else None,
        counts=linear_counts,
    )


JOINS = {
    "add": lambda x, y: x + y,
    "and": lambda x, y: x * y,
    "iand": lambda x, y: (1 - x) * y,
    "or": lambda x, y: (x + y) - x * y,
}


def join_row():
    shapes = st.sampled_from([(3,), (2, 3), (2, 1, 3, 4, 4), (3, 2, 1, 2, 5)])

    def drawn(draw, seed):
        shape, kinds = draw(shapes), draw(st.sampled_from(["numbers", "spikes", "spikes and numbers"]))
        x, y = fired(2, *shape, density=0.5, seed=seed)
        pairs = {
            "numbers": (spread(shape, seed), spread(shape, seed + 1)),
            "spikes": (x, y),
            "spikes and numbers": (x, y * 1.0),
        }
        return pairs[kinds], dict(how=draw(st.sampled_from(list(JOINS))))

    maps = (2, 2, 3, 4, 5)
    return Operation(
        "join",
        ops.join,
        lambda x, y, how: JOINS[how](x, y),
        tuple(
            Sample(f"{kind} by {how}", inputs, dict(how=how))
            for how in JOINS
            for kind, inputs in (
                ("numbers", (spread((2, 3), 0), spread((2, 3), 1))),
                ("maps", (spread(maps, 0), spread(maps, 1))),
                ("spikes", (fired(*maps), fired(*maps, seed=1))),
                ("spikes and numbers", (fired(*maps), spread(maps, 1))),
                ("one spike", (np.array(True), np.array(False))),
            )
        )
        + (Sample("large", (numbers(4, 5, 16, 24, 24), numbers(4, 5, 16, 24, 24, seed=1)), dict(how="or"), large=True),),
        samples_of(drawn),
        (
            Refusal("give one of add, and, iand, or", (one(2, 3), one(2, 3)), dict(how="xor")),
            Refusal(r"\(2, 3\) \(main\) and \(3,\) \(shortcut\)", (one(2, 3), one(3)), dict(how="or")),
        ),
        on_tape=True,
        examples=80,
        batched=(0, 1),
        batch=lambda sample: sample.inputs[0].ndim - 4 if sample.inputs[0].ndim > 3 else None,
        spikes=lambda inputs, options: options["how"] != "add" and all(a.dtype == bool for a in inputs),
    )


def mse_loss_row():
    def inputs(*shape, seed=0):
        return spread(shape, seed), spread(shape, seed + 1)

    return Operation(
        "mse_loss",
        ops.mse_loss,
        lambda x, target: ((x - target) * (x - target)).mean(),
        (
            Sample("[N, K]", inputs(3, 4)),
            Sample("[]", inputs()),
            Sample("one", inputs(1, 1)),
            Sample("[2, 3, 4]", inputs(2, 3, 4)),
            Sample("spikes for a target", (spread((3, 4), 0), fired(3, 4))),
        ),
        samples_of(lambda draw, seed: inputs(draw(st.integers(1, 5)), draw(st.integers(1, 6)), seed=seed)),
        (Refusal(r"of shape \(2, 3\) against \(3,\)", (one(2, 3), one(3))), Refusal("not empty", (one(0, 3), one(0, 3)))),
        on_tape=True,
        spelled={"an array for a target": lambda x, target: ops.mse_loss(x, plain(target))},
    )


def entropy(scores, labels):
    """log of the sum of exp(scores), less the score of the label."""
    return (scores.exp().sum(1).log() - scores[np.arange(len(labels)), np.asarray(labels)]).mean()


def cross_entropy_row():
    def drawn(draw, seed):
        n, k = draw(st.integers(1, 5)), draw(st.integers(2, 6))
        return (spread((n, k), seed),), dict(labels=np.random.default_rng(seed).integers(0, k, n))

    return Operation(
        "cross_entropy",
        ops.cross_entropy,
        entropy,
        (
            Sample("[N, K]", (spread((4, 3), 0),), dict(labels=[0, 2, 1, 2])),
            Sample("one class", (np.zeros((2, 1)),), dict(labels=[0, 0])),
            Sample("spikes", (fired(3, 4),), dict(labels=np.array([0, 3, 1], np.uint8))),
        ),
        samples_of(drawn),
        tuple(
            Refusal(words, (one(2, 3),), dict(labels=labels))
            for labels, words in (
                ([0, 3], "from 0 to 3"),
                ([-1, 0], "from -1"),
                ([0], "whole numbers"),
                ([0.0, 1.0], "float64"),
            )
        )
        + (Refusal("give", (one(3),), dict(labels=[0, 0, 0])), Refusal("give", (one(0, 3),), dict(labels=np.zeros(0, int)))),
        on_tape=True,
        rtol=(1e-5, 1e-12),
    )


def one_hot_row():
    def definition(labels, classes, dtype=np.float32):
        return (np.arange(classes) == np.asarray(labels)[:, None]).astype(dtype)

    return Operation(
        "one_hot",
        ops.one_hot,
        definition,
        (
            Sample("two", (), dict(labels=[2, 0], classes=3)),
            Sample("none", (), dict(labels=np.zeros(0, int), classes=2)),
            Sample("float64", (), dict(labels=np.array([1], np.uint8), classes=np.int64(2), dtype=np.float64)),
        ),
        refusals=tuple(
            Refusal(words, (), dict(labels=labels, classes=classes))
            for labels, classes, words in (
                ([3], 3, "from 0 to 2"),
                ([-1], 3, "from 0"),
                ([0.5], 3, "float64"),
                ([[0]], 3, "labels"),
                ([0], 0, "classes is 0"),
                ([0], True, "classes is True"),
                ([0], 2.0, "classes is 2.0"),
            )
        ),
        gradient=False,
    )


LAYERS = [linear_row(), join_row(), mse_loss_row(), cross_entropy_row(), one_hot_row()]


# ---- batch norm, attention and neurons ----------------------------------------------------------------------------------

FULL = [(2, 2, 3, 2, 2), (4, 3, 1, 3, 2), (3, 2, 5, 4, 4), (6, 4, 3, 3), (2, 2, 8, 5, 7)]
TINY = [(1, 1, 2, 1, 2), (2, 1, 3, 2, 1), (2, 1, 1, 2)]  # of two values the gradient all but cancels


def norm_case(shape, seed=0):
    """x, weight and bias; running mean and variance."""
    rng, C = np.random.default_rng(seed), shape[-3]
    inputs = rng.normal(rng.normal(0, 3, (C, 1, 1)), 2, shape), rng.uniform(0.5, 2, C), rng.normal(0, 1, C)
    return inputs, dict(mean=rng.normal(0, 1, C), var=rng.uniform(0.5, 2, C))


def running(x, mean, var):
    """Copies, which the operation may change."""
    return mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm_definition(x, weight, bias, mean, var, training=True, momentum=0.1, eps=1e-5):
    """The equation at the head of batch_norm.py."""
    if training:
        axes = tuple(axis for axis in range(x.ndim) if axis != x.ndim - 3)
        mean = x.mean(axes, keepdims=True)
        var = ((x - mean) * (x - mean)).mean(axes, keepdims=True)
    else:
        mean, var = (Tensor(a[:, None, None], dtype=x.dtype) for a in running(x, mean, var))
    return (x - mean) / (var + eps).sqrt() * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)


def batch_norm_row():
    def call(x, weight, bias, mean, var, **options):
        return ops.batch_norm(x, weight, bias, *running(x, mean, var), **options)

    def drawn(draw, seed):
        inputs, statistics = norm_case(draw(st.sampled_from(FULL)), seed)
        return inputs, statistics | dict(training=draw(st.booleans()))

    def sample(name, shape, training, **flags):
        inputs, statistics = norm_case(shape)
        return Sample(
            f"{name} in {'training' if training else 'evaluation'}", inputs, statistics | dict(training=training), **flags
        )

    x, w, zero = one(2, 3, 4, 4), one(3), dict(mean=np.zeros(3), var=np.ones(3))
    spikes = (fired(2, 2, 3, 4, 4), *norm_case((2, 2, 3, 4, 4))[0][1:])
    return Operation(
        "batch_norm",
        call,
        batch_norm_definition,
        tuple(sample(str(shape), shape, training) for shape in FULL[1:] for training in (True, False))
        + tuple(sample(str(shape), shape, False) for shape in TINY)
        + (
            Sample("spikes", spikes, zero | dict(training=True)),
            sample("large", (4, 5, 16, 24, 24), True, large=True),
            sample("large", (4, 5, 16, 24, 24), False, large=True),
        ),
        samples_of(drawn),
        tuple(
            Refusal("momentum .*eps", (x, w, w), zero | options | dict(training=training))
            for training in (True, False)
            for options in (
                dict(momentum=-0.1),
                dict(momentum=1.5),
                dict(momentum=np.nan),
                dict(eps=0.0),
                dict(eps=-1e-5),
                dict(eps=np.inf),
            )
        )
        + (
            Refusal("weight has shape", (x, one(4), one(4)), dict(mean=np.zeros(4), var=np.ones(4))),
            Refusal("bias has shape", (x, w, one(4)), zero),
            Refusal("weight has shape", (one(3, 4), w, w), zero),
            Refusal("is empty", (one(0, 1, 3, 4, 4), w, w), zero),
            Refusal("running_mean", (x, w, w), dict(mean=np.zeros(4), var=np.ones(3))),
            Refusal("running_var", (x, w, w), dict(mean=np.zeros(3), var=np.ones(4))),
            Refusal("one value per channel", (one(1, 1, 3, 1, 1), w, w), zero),
            *(Refusal("channel 0 .*NaN", (value * x, w, w), zero, FloatingPointError) for value in NOT_FINITE),
        ),
        on_tape=True,
        rtol=(2e-4, 1e-11),
        slope_rtol=1e-4,
        batch=lambda sample: sample.inputs[0].ndim - 4 if not sample.options["training"] else None,
        counts=lambda out, x, *rest, **options: dict(mac=x.size),
        refuses_nan=lambda options: options["training"],
    )


class Step(Function):
    """The hard step, with the surrogate's derivative for its gradient (Eq. 3)."""

    def forward(self, x, surrogate):
        self.x, self.surrogate = x, surrogate
        return (x >= 0).astype(x.dtype)

    def backward(self, grad):
        return grad * self.surrogate.derivative(self.x)


class SmoothStep(Step):
    def forward(self, x, surrogate):
        self.x, self.surrogate = x, surrogate
        return surrogate.primitive(x)


def unrolled(
    x,
    *state,
    tau=2.0,
    v_threshold=1.0,
    v_reset=0.0,
    surrogate=ATan(),
    detach_reset=True,
    decay_input=True,
    smooth=False,
    leak=None,
    tau_syn=None,
    adapts=None,
    h0=None,
    return_state=False,
):
    """Eq. 2, one elementary operation after another; with ``leak`` in place of 1 / tau, after a synapse of ``tau_syn``, or with
    a threshold that ``adapts``: (beta, rho).
    """
    tau, v_threshold = (np.asarray(v)[:, None, None] if np.ndim(v) and x.ndim > 3 else v for v in (tau, v_threshold))
    leak = 1 / tau if leak is None else leak
    rest, spikes, other = v_reset or 0.0, [], 0.0
    h = rest
    if state:
        h, other = (state[0], 0.0) if tau_syn is None and adapts is None else (state[0][0], state[0][1])
    for t in range(len(x)):
        i = x[t]
        if tau_syn is not None:
            i = other = other * (1 - 1 / tau_syn) + i
        u = h + ((i * leak if decay_input else i) - (h - rest) * leak)
        threshold = v_threshold + (adapts[0] * other if adapts else 0.0)
        s = (SmoothStep if smooth else Step).apply(u - threshold, surrogate=surrogate)
        through = s.detach() if detach_reset else s
        h = u - threshold * through if v_reset is None else u * (1 - through) + v_reset * through
        if adapts:
            other = other * adapts[1] + s
        spikes.append(s)
    spikes = ops.stack(spikes)
    if not return_state:
        return spikes
    return spikes, h if tau_syn is None and adapts is None else ops.stack([h, other])


EXACTLY_SMOOTH = dict(smooth=True, detach_reset=False)
SURROGATES = [ATan(), ATan(5.0), Sigmoid(), FastSigmoid(), Triangle()]  # of every kind
neurons = st.fixed_dictionaries(
    dict(
        tau=st.sampled_from([1.0, 1.5, 2.0, 7.0]),
        v_threshold=st.sampled_from([1.0, 0.4]),
        v_reset=st.sampled_from([0.0, -0.3, None]),
        detach_reset=st.booleans(),
        decay_input=st.booleans(),
        surrogate=st.sampled_from(SURROGATES),
    )
)
OUT_OF_RANGE = [
    (dict(tau=0.5), "tau"),
    (dict(tau=np.nan), "tau"),
    (dict(tau=np.inf), "tau"),
    (dict(v_threshold=np.inf), "v_threshold"),
    (dict(v_reset=np.nan), "v_reset"),
    (dict(v_reset=1.0), "not below"),
    (dict(v_reset=None, v_threshold=0.0), "not below"),
]


def corners(surrogate):
    """Whether its derivative has corners, near which finite differences err."""
    return isinstance(surrogate, (FastSigmoid, Triangle))


def currents(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2, shape)


def lif_row():
    def drawn(draw, seed):
        shape = draw(st.sampled_from([(1,), (5,), (3, 4), (4, 2, 3, 2, 2), (1, 2, 3, 2, 2), (6, 1, 2, 1, 3), (4, 3, 1, 5)]))
        constants = draw(neurons)
        return (currents(*shape, seed=seed),), constants, not corners(constants["surrogate"])

    maps = currents(4, 3, 2, 3, 2)
    return Operation(
        "lif",
        lambda x, *h0, **options: ops.lif(x, **options, h0=h0[0] if h0 else None),
        unrolled,
        (
            Sample("maps", (maps,)),
            Sample("each channel", (maps,), dict(tau=np.array([1.5, 4.0]), v_threshold=np.array([1.0, 0.4]), v_reset=None)),
            Sample("each channel, whole input", (maps,), dict(tau=np.array([1.5, 4.0]), decay_input=False, detach_reset=False)),
            Sample("each feature", (currents(5, 3, 2),), dict(v_threshold=np.array([1.0, 0.4]), v_reset=-0.3)),
            Sample("from a state", (maps, numbers(3, 2, 3, 2, seed=3))),
            Sample("from a state, soft reset", (maps, numbers(3, 2, 3, 2, seed=3)), dict(v_reset=None, detach_reset=False)),
            Sample("features, from a state", (currents(5, 3, 4), numbers(3, 4, seed=3)), dict(v_reset=-0.3)),
            Sample("soft reset", (maps,), dict(v_reset=None)),
            Sample("gradient through the reset", (maps,), dict(detach_reset=False)),
            Sample("whole input", (maps,), dict(decay_input=False, tau=4.0, v_reset=-0.3)),
            Sample("one step of one neuron", (currents(1),)),
            Sample("features", (currents(5, 3, 4),), dict(surrogate=Sigmoid())),
            Sample("spikes", (fired(4, 2, 3, 3, 3),), dict(decay_input=False)),
            *(Sample(type(s).__name__, (maps,), dict(surrogate=s), smooth=False) for s in (FastSigmoid(), Triangle())),
            Sample("more than a block", (currents(4, 3, 5, 9, 11),), dict(v_reset=None, detach_reset=False)),
            Sample("smooth", (maps,), dict(smooth=True)),
            Sample("many", (currents(3, 5, 4, 20, 20),), large=True),
        ),
        samples_of(drawn),
        tuple(Refusal(words, (one(1),), options) for options, words in OUT_OF_RANGE)
        + (
            Refusal("surrogate", (one(1),), dict(surrogate="atan"), TypeError),
            Refusal("time step", (one(),)),
            Refusal("time step", (one(0, 3),)),
            Refusal("h0 has shape", (one(2, 3), one(7))),
            Refusal("have 3 channels", (one(2, 3),), dict(tau=np.ones(2))),
            Refusal("tau is a Tensor", (one(2, 3),), dict(tau=Tensor(2.0)), TypeError),
            Refusal("give a number, or an ndarray", (one(2, 3),), dict(tau="2"), TypeError),
            *(
                Refusal("NaN, infinite or too large", (np.array([[1.0, value], [1.0, 1.0]]),), error=FloatingPointError)
                for value in NOT_FINITE
            ),
        ),
        on_tape=True,
        rtol=(1e-4, 1e-12),
        smooth_twin=lambda options: options | EXACTLY_SMOOTH,
        fires=True,
        examples=60,
        spikes=lambda inputs, options: not options.get("smooth"),
        batch=lambda sample: 1 if sample.inputs[0].ndim > 1 and "state" not in sample.name else None,
        counts=lambda out, x, *h0, smooth=False, **options: {} if smooth else dict(spikes=int(out.sum()), neurons=out.size),
        refuses_nan=lambda options: not options.get("smooth"),
        parts=("neuron",),
    )


def neurons_row(name, definition, constants, refused=(), inputs=(), more=()):
    """A layer of neurons other than LIF: ``constants`` are drawn, ``inputs`` are learned, ``more`` are samples of its own."""
    states = name in ("alif", "synaptic")

    def call(x, *others, **options):
        learned, state = others[: len(inputs)], others[len(inputs) :]
        return getattr(ops, name)(x, *learned, **options, h0=state[0] if state else None)

    def drawn(draw, seed):
        shape = draw(st.sampled_from([(1,), (5,), (3, 4), (4, 2, 3, 2, 2), (6, 1, 2, 1, 3), (4, 3, 1, 5)]))
        options = draw(constants)
        return (currents(*shape, seed=seed), *inputs), options, not corners(options["surrogate"])

    maps = currents(4, 3, 2, 3, 2)
    start = numbers(2, 3, 2, 3, 2, seed=3) if states else numbers(3, 2, 3, 2, seed=3)
    return Operation(
        name,
        call,
        definition,
        (
            Sample("maps", (maps, *inputs)),
            Sample("soft reset", (maps, *inputs), dict(v_reset=None)),
            Sample("gradient through the reset", (maps, *inputs), dict(detach_reset=False)),
            Sample("soft reset, gradient through it", (maps, *inputs), dict(v_reset=None, detach_reset=False)),
            Sample("from a state", (maps, *inputs, start)),
            Sample("from a state, soft reset", (maps, *inputs, start), dict(v_reset=None, detach_reset=False)),
            Sample("one step of one neuron", (currents(1), *inputs)),
            Sample("features", (currents(5, 3, 4), *inputs), dict(surrogate=Sigmoid())),
            Sample("spikes", (fired(4, 2, 3, 3, 3), *inputs)),
            Sample("more than a block", (currents(4, 3, 5, 9, 11), *inputs), dict(v_reset=None, detach_reset=False)),
            Sample("smooth", (maps, *inputs), dict(smooth=True)),
            Sample("many", (currents(3, 5, 4, 20, 20), *inputs), large=True),
            *more,
        ),
        samples_of(drawn),
        (
            Refusal("surrogate", (one(1), *inputs), dict(surrogate="atan"), TypeError),
            Refusal("time step", (one(0, 3), *inputs)),
            Refusal("h0 has shape", (one(2, 3), *inputs, one(7))),
            Refusal("v_threshold is a Tensor", (one(1), *inputs), dict(v_threshold=Tensor(1.0)), TypeError),
            Refusal("not below", (one(1), *inputs), dict(v_reset=1.0)),
            *(Refusal(words, (one(1), *inputs), options, error) for options, words, error in refused),
            *(
                Refusal("NaN, infinite or too large", (np.array([[1.0, value], [1.0, 1.0]]), *inputs), error=FloatingPointError)
                for value in NOT_FINITE
            ),
        ),
        on_tape=True,
        rtol=(1e-4, 1e-12),
        smooth_twin=lambda options: options | EXACTLY_SMOOTH,
        fires=True,
        examples=40,
        spikes=lambda arrays, options: not options.get("smooth"),
        batch=lambda sample: 1 if sample.inputs[0].ndim > 1 and "state" not in sample.name else None,
        counts=lambda out, *arrays, smooth=False, **options: {} if smooth else dict(spikes=int(out.sum()), neurons=out.size),
        refuses_nan=lambda options: not options.get("smooth"),
        parts=("neuron",),
    )


def whole_input(**constants):
    """Constants to draw: those that all neurons have, and some of its own."""
    return st.fixed_dictionaries(
        dict(
            v_threshold=st.sampled_from([1.0, 0.4]),
            v_reset=st.sampled_from([0.0, -0.3, None]),
            detach_reset=st.booleans(),
            surrogate=st.sampled_from(SURROGATES),
            **constants,
        )
    )


def if_row():
    return neurons_row(
        "if_",
        lambda x, *state, **options: unrolled(x, *state, leak=0.0, decay_input=False, **options),
        whole_input(),
        more=(
            Sample(
                "a threshold for each channel",
                (currents(4, 3, 2, 3, 2),),
                dict(v_threshold=np.array([0.5, 2.0]), v_reset=None, detach_reset=False),
            ),
        ),
    )


def plif_row():
    def definition(x, w, *state, **options):
        w = w.reshape(-1, 1, 1) if w.ndim and x.ndim > 3 else w
        return unrolled(x, *state, leak=w.sigmoid(), **options)

    maps, each = currents(4, 3, 2, 3, 2), np.array([-0.7, 1.2])
    return neurons_row(
        "plif",
        definition,
        whole_input(decay_input=st.booleans()),
        [(dict(v_threshold=np.ones(7)), "shape", ValueError)],
        (np.array(0.3),),
        (
            Sample("whole input", (maps, np.array(-2.0)), dict(decay_input=False, v_reset=-0.3)),
            Sample("each channel", (maps, each), dict(v_reset=None, detach_reset=False)),
            Sample("each channel, whole input", (maps, each), dict(decay_input=False, detach_reset=False)),
            Sample("each feature, from a state", (currents(5, 3, 2), each, numbers(3, 2, seed=3)), dict(v_reset=-0.3)),
            Sample("a threshold for each channel", (maps, np.array(0.3)), dict(v_threshold=np.array([0.5, 2.0]))),
        ),
    )


def alif_row():
    def definition(x, *state, tau_adapt=20.0, beta=0.2, **options):
        return unrolled(x, *state, adapts=(beta, np.exp(-1 / tau_adapt)), **options)

    refused = [
        (dict(tau=0.5), "tau", ValueError),
        (dict(tau=np.ones(2)), "tau is an array", TypeError),
        (dict(tau_adapt=0.0), "tau_adapt", ValueError),
        (dict(beta=-1.0), "beta", ValueError),
    ]
    drawn = dict(
        tau=st.sampled_from([1.0, 2.0, 7.0]),
        tau_adapt=st.sampled_from([1.0, 20.0]),
        beta=st.sampled_from([0.0, 0.2, 1.8]),
        decay_input=st.booleans(),
    )
    strong = Sample("strong", (currents(6, 3, 4),), dict(beta=1.8, tau_adapt=3.0, v_reset=None, detach_reset=False))
    return neurons_row("alif", definition, whole_input(**drawn), refused, more=(strong,))


def synaptic_row():
    refused = [
        (dict(tau=0.5), "tau", ValueError),
        (dict(tau_syn=0.5), "tau_syn", ValueError),
        (dict(tau_syn=Tensor(2.0)), "tau_syn is a Tensor", TypeError),
    ]
    drawn = dict(tau=st.sampled_from([1.0, 2.0, 7.0]), tau_syn=st.sampled_from([1.0, 3.0, 20.0]), decay_input=st.booleans())

    def definition(x, *state, tau_syn=5.0, **options):
        return unrolled(x, *state, tau_syn=tau_syn, **options)

    return neurons_row("synaptic", definition, whole_input(**drawn), refused)


def neuron_row():
    def definition(dtype, tau=2.0, v_threshold=1.0, v_reset=0.0, detach_reset=True, decay_input=True):
        soft = v_reset is None
        return np.array(
            [
                0,
                1,
                1 / tau,
                1 / tau if decay_input else 1,
                v_threshold,
                0 if soft else v_reset,
                soft,
                -v_threshold if soft else v_reset,
                np.finfo(dtype).tiny,
                not detach_reset,
                decay_input,
            ],
            dtype,
        )

    return Operation(
        "neuron",
        lambda **options: np.array(ops.neuron(**options)),
        definition,
        (
            Sample("float32", (), dict(dtype=np.float32)),
            Sample("soft reset", (), dict(dtype=np.float64, v_reset=None, detach_reset=False)),
            Sample("whole input", (), dict(dtype=np.float32, tau=3.0, v_threshold=0.5, v_reset=-0.2, decay_input=False)),
        ),
        refusals=tuple(Refusal(words, (), dict(dtype=np.float64) | options) for options, words in OUT_OF_RANGE)
        + (Refusal("finite numbers of float32", (), dict(dtype=np.float32, v_threshold=1e39)),),
        gradient=False,
    )


DIMENSIONS = {"t": (2, 3, 4), "c": (0, 3, 4), "s": (0, 2)}  # the axes that each dimension of attention pools over


def attention_weights(shape, dim, seed=0, hidden=2, kernel=3):
    """Weights of the size that the dimension needs, large enough for IA's neurons to fire."""
    rng = np.random.default_rng(seed + 7)
    if dim == "s":
        return (rng.normal(0.2, 1, (1, 2, kernel, kernel)),)
    K = shape[0] if dim == "t" else shape[2]
    return tuple(rng.normal(0.3, 1, s) for s in ((hidden, K), (K, hidden)))


def attention_definition(x, *w, dim, spiking=False, **neuron):
    """Eq. 7, 8 or 9, then Eq. 10 and a ReLU. Scores of a sample lie on axis 0 of ``z``, so that IA's neurons run along T."""
    avg, top = x.mean(DIMENSIONS[dim]), x.max(DIMENSIONS[dim])
    if dim == "s":
        maps = ops.stack([avg, top], 1)
        z = ops.conv2d(maps, w[0], padding=w[0].shape[-1] // 2).reshape(1, x.shape[1], 1, *x.shape[3:])
    else:
        avg, top = (avg.T, top.T) if dim == "t" else (avg, top)  # [N, K]
        z = (avg @ w[0].T).relu() @ w[1].T + (top @ w[0].T).relu() @ w[1].T
        z = z.T.reshape(x.shape[0], -1, 1, 1, 1) if dim == "t" else z.reshape(1, *z.shape, 1, 1)
    return ((unrolled(z, **neuron) if spiking else z.sigmoid()) * x).relu()


def attention_counts(out, x, *w, dim, spiking=False, **neuron):
    """The mean adds every entry; a sigmoid's score multiplies every entry, a spike lets it pass; and the scores' own layers."""
    if dim == "s":
        maps = np.full((x.shape[1], 2, *x.shape[3:]), 2.0)
        scores = convolution_counts(None, maps, w[0], padding=w[0].shape[-1] // 2)["mac"]
    else:
        scores = 2 * x.shape[1] * (w[0].size + w[1].size)
    return dict(ac=x.size, mac=(0 if spiking else x.size) + scores)


ATTENTIONS = {(dim, spiking): f"{'IA' if spiking else 'MA'} in {dim}" for dim in DIMENSIONS for spiking in (False, True)}


def attention_row():
    small = st.sampled_from([(4, 2, 3, 2, 2), (1, 1, 1, 1, 1), (2, 3, 8, 4, 5), (8, 1, 2, 3, 3), (3, 2, 5, 1, 4)])

    def drawn(draw, seed):
        (dim, spiking), shape, ties = draw(st.sampled_from(list(ATTENTIONS))), draw(small), draw(st.booleans())
        rng = np.random.default_rng(seed)
        x = rng.integers(-2, 3, shape) + 0.5 if ties else rng.normal(0, 1, shape)
        weights = attention_weights(shape, dim, seed, kernel=draw(st.sampled_from([1, 3])))
        return (x, *weights), dict(dim=dim, spiking=spiking), not ties

    def samples(name, x, **flags):
        return tuple(
            Sample(f"{kind}, {name}", (x, *attention_weights(x.shape, dim)), dict(dim=dim, spiking=spiking), **flags)
            for (dim, spiking), kind in ATTENTIONS.items()
        )

    def refuse(dim, words, *shapes):
        return Refusal(words, (one(4, 2, 3, 2, 2), *(one(*s) for s in shapes)), dict(dim=dim))

    t = (1, 4), (4, 1)
    return Operation(
        "attention",
        lambda x, *w, dim, **options: ops.attention(x, dim, *w, **options),
        attention_definition,
        samples("numbers", numbers(4, 2, 3, 3, 2))
        + samples("ties", np.round(2 * numbers(4, 2, 3, 3, 2)) + 0.5, smooth=False)
        + samples("one number", np.full((1, 1, 1, 1, 1), 1.5))
        + samples("large", numbers(4, 5, 16, 12, 12), large=True)
        + (Sample("spikes", (fired(4, 2, 3, 3, 2), *attention_weights((4, 2, 3, 3, 2), "t")), dict(dim="t"), smooth=False),),
        samples_of(drawn),
        (
            refuse("x", "give one of t, c, s", *t),
            refuse(None, "give one of", *t),
            refuse("t", r"give \[hidden, 4\] and \[4, hidden\]", (1, 3), (3, 1)),
            refuse("t", "give", (1, 4)),
            refuse("t", "give", (1, 4), (4, 2)),
            refuse("c", r"give \[hidden, 3\]", *t),
            refuse("s", "one kernel", *[(1, 2, 3, 3)] * 2),
            refuse("s", "k odd", (1, 2, 2, 2)),
            *(refuse("s", "one kernel", *shapes) for shapes in ([(1, 2, 3, 1)], [(1, 3, 3, 3)], [(9,)], [])),
            Refusal("x has shape", (one(4, 3, 2, 2), one(1, 4), one(4, 1)), dict(dim="t")),
            Refusal("x has shape", (one(4, 0, 3, 2, 2), one(1, 4), one(4, 1)), dict(dim="t")),
        ),
        on_tape=True,
        rtol=(2e-5, 1e-11),
        fires=True,
        examples=120,
        smooth_twin=lambda options: options | EXACTLY_SMOOTH if options.get("spiking") else options,
        batch=lambda sample: 1,
        counts=attention_counts,
        refuses_nan=lambda options: options.get("spiking", False) and not options.get("smooth"),
        parts=("lif", "neuron"),
    )


def composition(y, weight, bias, *attention, mean, var, training=True, dim=None, spiking=False, learned=False, **neuron):
    """lif(attention(batch_norm(y))), by the definitions of the three."""
    if learned:
        *attention, w = attention
        neuron = neuron | dict(leak=w.sigmoid())
    z = batch_norm_definition(y, weight, bias, mean, var, training)
    return unrolled(attention_definition(z, *attention, dim=dim, spiking=spiking) if dim else z, **neuron)


def norm_fire_counts(
    out, y, weight, bias, *attention, mean, var, training=True, dim=None, spiking=False, learned=False, leak=None, **neuron
):
    """What its three parts write down, one after another."""
    with ledger.ledger() as entries:
        z = ops.batch_norm(*map(Tensor, (y, weight, bias)), *running(y, mean, var), training)
        if learned:
            *attention, w = attention
            fire = functools.partial(ops.plif, w=Tensor(w))
            neuron = {k: v for k, v in neuron.items() if k != "tau"}
        else:
            fire = ops.lif if leak is None else ops.if_
            neuron = neuron if leak is None else {k: v for k, v in neuron.items() if k not in ("tau", "decay_input")}
        fire(ops.attention(z, dim, *map(Tensor, attention), spiking=spiking) if dim else z, **neuron)
    return {name: sum(getattr(entry, name) for entry in entries) for name in ("spikes", "neurons", "ac", "mac")}


def norm_fire_row():
    kinds = {(None, False): "neurons"} | ATTENTIONS
    constants = st.fixed_dictionaries(
        dict(
            tau=st.sampled_from([1.0, 2.0, 5.0]),
            v_threshold=st.sampled_from([1.0, 0.4]),
            v_reset=st.sampled_from([0.0, -0.2, None]),
            detach_reset=st.booleans(),
            decay_input=st.booleans(),
            surrogate=st.sampled_from([ATan(), Sigmoid(), FastSigmoid(), Triangle()]),
        )
    )

    def call(
        y,
        weight,
        bias,
        *attention,
        mean,
        var,
        training=True,
        momentum=0.1,
        surrogate=ATan(),
        dim=None,
        spiking=False,
        learned=False,
        leak=None,
        **constants,
    ):
        n, w = ops.neuron(y.dtype, **constants), None
        if learned:
            *attention, w = attention
        elif leak is not None:
            n = n._replace(leak=n.zero)
        return ops.norm_fire(
            y,
            weight,
            bias,
            *running(y, mean, var),
            n,
            surrogate,
            training,
            momentum,
            dim=dim,
            attention=attention,
            spiking=spiking,
            w=w,
        )

    def case(shape, dim, spiking, training, seed=0, whole=False):
        rng, C = np.random.default_rng(seed), shape[2]
        y = rng.integers(0, 3, shape) * 1.0 if whole else rng.normal(rng.normal(0, 2, (C, 1, 1)), 2, shape)
        inputs = y, rng.uniform(1, 2, C), rng.normal(0.5, 0.5, C), *(attention_weights(shape, dim, seed) if dim else ())
        return inputs, dict(mean=rng.normal(0, 1, C), var=rng.uniform(1, 6, C), training=training, dim=dim, spiking=spiking)

    def drawn(draw, seed):
        shape = draw(st.sampled_from([(4, 2, 3, 3, 2), (2, 3, 8, 4, 5), (3, 1, 2, 7, 6), (1, 2, 8, 3, 3)]))
        inputs, options = case(shape, *draw(st.sampled_from(list(kinds))), draw(st.booleans()), seed)
        w = (np.array(draw(st.sampled_from([-1.0, 0.3]))),) if draw(st.booleans()) else ()
        return (*inputs, *w), options | draw(constants) | dict(learned=bool(w))

    def samples(name, shape, training, whole=False, **flags):
        return tuple(Sample(f"{kind}, {name}", *case(shape, *of, training, whole=whole), **flags) for of, kind in kinds.items())

    def others():
        """PLIF after each kind of attention, and IF."""
        for of, kind in kinds.items():
            inputs, options = case((4, 2, 8, 6, 5), *of, True)
            through = dict(learned=True, detach_reset=False, v_reset=None, decay_input=not of[1])
            yield Sample(f"{kind}, learned", (*inputs, np.array(0.3)), options | through)
        inputs, options = case((2, 1, 520, 3, 2), "t", False, True)
        yield Sample("a pixel of more than a block, learned", (*inputs, np.array(0.3)), options | dict(learned=True))
        inputs, options = case((4, 2, 8, 6, 5), None, False, True)
        yield Sample("learned, from rest below 0", (*inputs, np.array(-0.7)), options | dict(learned=True, v_reset=-0.2))
        yield Sample("no leak", inputs, options | dict(leak=0.0, tau=1.0, decay_input=False))

    inputs, options = case((4, 2, 3, 3, 2), None, False, True)
    return Operation(
        "norm_fire",
        call,
        composition,
        samples("training", (4, 2, 8, 6, 5), True)
        + samples("evaluation", (4, 2, 8, 6, 5), False)
        + samples("ties", (4, 2, 3, 3, 2), True, whole=True)
        # 64 channels: a block holds 8 pixels, a share of this map 22 or 23, so that blocks are full and cut short
        + samples("more than a block", (3, 2, 64, 10, 9), True)
        + samples("a pixel of more than a block", (2, 1, 520, 3, 2), True)
        + samples("large", (3, 5, 8, 9, 7), True, large=True)
        + samples("large in evaluation", (3, 5, 8, 9, 7), False, large=True)
        + tuple(others())
        + (Sample("spikes", (fired(4, 2, 3, 3, 2), *inputs[1:]), options),),
        samples_of(drawn),
        (
            Refusal(r"give \[T, N, C, H, W\]", (one(2, 3, 4, 4), one(3), one(3)), options),
            Refusal("weight has shape", (inputs[0], one(4), one(4)), options),
            Refusal("momentum", inputs, options | dict(momentum=2)),
            Refusal(r"w has shape \(3,\)", (*inputs, one(3)), options | dict(learned=True)),
            Refusal("surrogate", inputs, options | dict(surrogate="atan"), TypeError),
            Refusal(r"attention over time.*give \[hidden, 4\]", (*inputs, one(1, 3), one(3, 1)), options | dict(dim="t")),
            *(Refusal(words, inputs, options | wrong) for wrong, words in OUT_OF_RANGE),
        ),
        on_tape=True,
        rtol=(1e-4, 1e-9),
        smooth_twin=None,
        fires=True,
        examples=140,
        spikes=lambda inputs, options: True,
        batch=lambda sample: None if sample.options["training"] else 1,
        counts=norm_fire_counts,
        refuses_nan=lambda options: True,
        parts=("batch_norm", "attention", "lif", "neuron"),
    )


def recurrent_row():
    """Unrolled on the tape, step by step, of each kind of neurons."""
    kinds = {
        "lif": ({}, 1),
        "if_": (dict(leak=0.0, decay_input=False), 1),
        "alif": (dict(adapts=(0.2, np.exp(-1 / 20))), 2),
        "synaptic": (dict(tau_syn=5.0), 2),
        "plif": ({}, 1),
    }

    def call(x, w, b, *more, kind, **options):
        if kind == "plif":
            options, more = dict(options, w=more[0]), more[1:]
        return ops.recurrent(x, w, b, getattr(ops, kind), h0=more[0] if more else None, **options)

    def definition(x, w, b, *more, kind, **options):
        constants, variables = kinds[kind]
        if kind == "plif":
            constants, more = dict(leak=more[0].sigmoid()), more[1:]
        state, s, spikes = (), Tensor(np.zeros(x.shape[1:]), dtype=x.dtype), []
        if more:
            state, s = ((more[0][0] if variables == 1 else more[0][:variables]),), more[0][variables]
        for t in range(len(x)):
            out, h = unrolled(x[t : t + 1] + (s @ w.T + b), *state, **constants, **options, return_state=True)
            state, s = (h,), out[0]
            spikes.append(s)
        return ops.stack(spikes)

    def case(T, N, F, seed=0):
        return currents(T, N, F, seed=seed), numbers(F, F, seed=seed + 1), numbers(F, seed=seed + 2) / 3

    def drawn(draw, seed):
        options = draw(whole_input())
        return (
            case(draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 3, 4])), seed),
            options | dict(kind=draw(st.sampled_from(["lif", "if_", "alif", "synaptic"]))),
            not corners(options["surrogate"]),
        )

    def counts(out, x, *others, kind, smooth=False, **options):
        """The spikes of the steps before, of which a state may bring some more."""
        F = x.shape[-1]
        if smooth:
            return dict(mac=out.size * F)
        first = others[-1][-1].sum() if others[-1].ndim > 2 else 0
        return dict(spikes=int(out.sum()), neurons=out.size, ac=int(out[:-1].sum() + first) * F, mac=0)

    def samples():
        for kind, (_, variables) in kinds.items():
            w = (np.array(0.3),) if kind == "plif" else ()
            start = np.concatenate([numbers(variables, 3, 4, seed=3), fired(1, 3, 4, density=0.5, seed=4)])
            yield Sample(kind, (*case(5, 3, 4), *w), dict(kind=kind))
            through = dict(kind=kind, v_reset=None, detach_reset=False)
            yield Sample(f"{kind}, from a state", (*case(5, 3, 4), *w, start), through)
        yield Sample("one step of one neuron", case(1, 1, 1), dict(kind="lif"))
        yield Sample("spikes", (fired(4, 2, 3), *case(1, 1, 3)[1:]), dict(kind="lif", decay_input=False))
        yield Sample("smooth", case(4, 2, 3), dict(kind="lif", smooth=True))
        yield Sample("large", case(3, 40, 100), dict(kind="lif"), large=True)

    x, w, b = case(2, 3, 4)
    return Operation(
        "recurrent",
        call,
        definition,
        tuple(samples()),
        samples_of(drawn),
        tuple(
            Refusal("recurrent: x .* give", tuple(one(*s) for s in shapes), dict(kind="lif"))
            for shapes in (((2, 4), (4, 4), (4,)), ((2, 3, 4), (3, 4), (4,)), ((2, 3, 4), (4, 4), (3,)))
        )
        + (
            Refusal("h0 has shape", (x, w, b, one(3, 4)), dict(kind="lif")),
            Refusal("tau", (x, w, b), dict(kind="lif", tau=0.5)),
            Refusal("NaN, infinite", (x * np.nan, w, b), dict(kind="lif"), FloatingPointError),
        ),
        on_tape=True,
        rtol=(1e-4, 1e-11),
        smooth_twin=lambda options: options | EXACTLY_SMOOTH,
        fires=True,
        spikes=lambda inputs, options: not options.get("smooth"),
        batch=lambda sample: 1 if "state" not in sample.name else None,
        counts=counts,
        refuses_nan=lambda options: not options.get("smooth"),
        parts=("lif", "if", "alif", "synaptic", "plif", "neuron"),
    )


NETWORK = [
    batch_norm_row(),
    lif_row(),
    if_row(),
    plif_row(),
    alif_row(),
    synaptic_row(),
    neuron_row(),
    recurrent_row(),
    attention_row(),
    norm_fire_row(),
]

OPERATIONS = [*ELEMENTARY, *MAPS, *LAYERS, *NETWORK, argmax_row()]
