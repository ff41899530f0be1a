"""A tape: tensors, the operations that made them, and the walk back through both.

A ``Tensor`` holds an array. Applying a ``Function`` makes a new tensor that remembers the function and its inputs, so the
tensors form a graph. ``backward()`` sorts that graph topologically and walks it from the result to the leaves, handing
each function the gradient of its output and adding what it returns to the gradients of its inputs: the chain rule.

Nothing here knows about convolutions or neurons. To write an operation, subclass ``Function``:

    class Square(Function):
        def forward(self, x):
            self.x = x                  # what backward needs is kept on self
            return x * x

        def backward(self, grad):
            return 2 * self.x * grad    # one gradient per input (a tuple where there are several)

    y = Square.apply(x)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .ledger import entries_so_far, is_open, record
from .states import running
from .types import DType

__all__ = ["Tensor", "Function", "no_grad", "is_grad_enabled", "manual_seed", "generator"]


PACKAGE = __name__.partition(".")[0] + "."  # the modules whose operations record what they do, or do nothing that is counted


class Tensor:
    """An array that remembers how it was made.

    Args:
        data: anything ``numpy.asarray`` takes. Floating arrays are kept as they are, not copied; Booleans are spikes, kept
            at one byte each, 0 or 1 (any other byte that NumPy takes for True becomes 1); integers become float32.
        requires_grad: whether ``backward()`` is to leave the gradient of this tensor in ``.grad``.
        dtype: float32 or float64; by default that of the data, float32 for spikes.

    Attributes:
        data: the values, an ndarray of ``dtype``. Spikes are decoded afresh at each call, so writing into that copy
            changes nothing; for any other tensor it is the storage itself.
        storage: the array as it is kept: spikes as numpy.bool_, everything else as in ``data``.
        grad: the gradient, an ndarray of the same shape and dtype, or None.

    Comparisons (``==``, ``<``, ...) are element by element and return ndarrays of bool; as a key of a dict or a member of a set
    a tensor is identified by the object, not by its values. ``bool(x)`` works as for an array: for one element only.

    Raises:
        TypeError: the data is not numeric, or the dtype is neither float32 nor float64.
    """

    __slots__ = ("__weakref__", "_changes", "_node", "_retains", "dtype", "grad", "requires_grad", "storage")
    __array_ufunc__ = None  # so that ndarray * Tensor reaches Tensor.__rmul__

    if TYPE_CHECKING:  # the operations are methods too (ops/elementary.py)
        _changes: list[int]

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, data: Any, requires_grad: bool = False, dtype: DType | None = None) -> None:
        array = data.storage if isinstance(data, Tensor) else clean(np.asarray(data))
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a Tensor holds numbers, not {array.dtype}")
        if dtype is None:
            dtype = array.dtype if array.dtype in (np.float32, np.float64) else np.float32
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype is {dtype}; a Tensor is float32 or float64")
        self._begin(array, dtype, bool(requires_grad))
        if isinstance(data, Tensor) and self.storage is data.storage:
            self._changes = data._changes

    def _begin(self, array, dtype, requires_grad=False):
        self.dtype, self.requires_grad = dtype, requires_grad
        self.storage = array if array.dtype in (dtype, np.bool_) else array.astype(dtype)
        self.grad = self._node = None
        self._retains, self._changes = False, [0]  # a list, since views of one array share the count
        return self

    @property
    def data(self) -> np.ndarray:
        return self.storage if self.storage.dtype == self.dtype else self.storage.astype(self.dtype)

    @data.setter
    def data(self, array: np.ndarray) -> None:
        array = array.storage if isinstance(array, Tensor) else clean(np.asarray(array))
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a Tensor holds numbers, not {array.dtype}")
        if np.may_share_memory(array, self.storage):  # as in x.data -= 1
            self.changed_in_place()
        self.storage = array if array.dtype in (self.dtype, np.bool_) else array.astype(self.dtype)

    def changed_in_place(self) -> None:
        """Declare that the numbers in ``storage`` were overwritten: what an operation saved of them is no longer valid, and
        its ``backward`` refuses to run. Optimizers and ``load_state_dict`` call this, and so does ``x.data -= ...``.
        """
        self._changes[0] += 1

    shape = property(lambda self: self.storage.shape)
    ndim = property(lambda self: self.storage.ndim)
    size = property(lambda self: self.storage.size)
    is_leaf = property(lambda self: self._node is None)
    is_spikes = property(lambda self: self.storage.dtype == np.bool_)

    def __len__(self) -> int:
        return len(self.storage)

    def __bool__(self):
        return bool(self.data)

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    __hash__ = object.__hash__  # by identity, although == compares values

    def __repr__(self):
        made_by = f", made by {type(self._node).__name__}" if self._node else ""
        return f"Tensor({np.array2string(self.data, precision=4, threshold=20)}, {self.dtype}{made_by})"

    def __array__(self, dtype=None, copy=None):
        return np.array(self.data, dtype) if copy else np.asarray(self.data, dtype)

    def numpy(self) -> np.ndarray:
        """The values as an ndarray (``data``)."""
        return self.data

    def item(self) -> float:
        """The value of a tensor of one element, as a Python float. Raises ValueError if there are several."""
        return self.storage.item() * 1.0

    def detach(self) -> Tensor:
        """The same values without the graph: gradients stop here."""
        return Tensor(self, dtype=self.dtype)

    def zero_grad(self) -> None:
        """Clear the gradient."""
        self.grad = None

    def retain_grad(self) -> Tensor:
        """Ask ``backward()`` to leave a gradient here too, though this tensor is not a leaf."""
        self._retains = True
        return self

    def backward(self, grad: np.ndarray | None = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to ``.grad`` of every leaf that requires it.

        Args:
            grad: gradient of whatever follows with respect to this tensor, of its shape; 1 for a tensor of one element.
            retain_graph: keep what the operations saved, so that backward can run again.

        Raises:
            RuntimeError: called under ``no_grad``, on a tensor without a graph, on a graph that was freed by an
                earlier call, or on several elements without ``grad``; or an input that an operation saved has since been
                changed in place; or an operation returned a gradient of the wrong shape or dtype, or none.
        """
        if not is_grad_enabled():
            raise RuntimeError("backward() was called under no_grad(); leave that block first")
        if not self.requires_grad:
            raise RuntimeError(
                "backward() on a tensor without a graph: none of its inputs requires a gradient, or it was made under no_grad()"
            )
        if grad is None:
            if self.size != 1:
                raise RuntimeError(
                    f"backward() on shape {self.shape} needs the gradient of that shape as its argument; "
                    "only a tensor of one element does without"
                )
            grad = np.ones(self.shape, self.dtype)
        grad = np.asarray(grad.data if isinstance(grad, Tensor) else clean(np.asarray(grad)), self.dtype)
        _check("backward()", self, grad)

        gradients, leaves, order = {id(self): grad}, [], _sorted_graph(self)
        while order:
            tensor = order.pop()  # popped, so that its array is freed as soon as nothing else needs it
            grad, node = gradients.pop(id(tensor)), tensor._node
            if node is None or tensor._retains:
                leaves.append((tensor, grad))
            if node is None:
                continue
            node.check_versions()
            answers = node.backward(grad)
            answers = answers if isinstance(answers, tuple) else (answers,)
            if len(answers) != len(node.inputs):
                raise RuntimeError(f"{type(node).__name__} gave {len(answers)} gradients for {len(node.inputs)} inputs")
            for parent, answer in zip(node.inputs, answers):
                if not parent.requires_grad:
                    continue
                _check(type(node).__name__, parent, answer)
                before = gradients.get(id(parent))
                gradients[id(parent)] = answer if before is None else before + answer
            if not retain_graph:
                node.free()
        for leaf, grad in leaves:  # last, so that a failure leaves no half-added gradients
            leaf.grad = np.array(grad, order="K") if leaf.grad is None else leaf.grad + grad


class Function:
    """One operation: ``forward`` computes arrays, ``backward`` turns the output's gradient into those of the inputs.

    ``forward(self, *arrays, **options)`` returns one array (Booleans: spikes). ``self.dtype`` is the inputs' dtype,
    ``self.needs`` says for each input whether its gradient is needed, ``self.recording`` whether backward can be called at
    all; ``backward`` may return None for an input that needs no gradient. A class that sets ``takes_spikes`` receives
    spikes as they are stored, undecoded. One that does not, but returns Booleans, is a layer of neurons: an open ledger counts
    its spikes. What else it adds and multiplies it may say itself, in ``forward``, by ``ledger.record(name, "linear", mac=m)``;
    one of your own that says nothing is reported as unknown.

    ``reuses`` says which inputs ``backward`` reads again, so that it can refuse to run if one has since been overwritten: "all"
    of them, "none", or the "others", as in a product: each input in the gradient of the others.
    """

    dtype: np.dtype
    needs: tuple[bool, ...]
    recording: bool
    op: str | None = None  # its name in a ledger that counts its spikes; by default that of the class
    takes_spikes = False
    stateless = False  # True promises that spikes depend on the inputs of their own time step alone (nn.Stream)
    makes_spikes = False  # True promises that Booleans from forward have the bytes 0 and 1, which need not be checked
    reuses: str = "all"
    views = False  # whether the result may share the memory of the first input
    inputs: tuple[Tensor, ...] = ()
    versions: tuple[int, ...] = ()

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """Run the operation on tensors and, unless under ``no_grad``, record it.

        Args:
            *inputs: Tensors, all of one dtype; ``forward`` gets their arrays.
            **options: whatever else ``forward`` takes.

        Returns:
            Tensor of the inputs' dtype, which requires a gradient if an input does.

        Raises:
            TypeError: an input is not a Tensor, or the dtypes differ.
        """
        for t in inputs:
            if not isinstance(t, Tensor):
                raise TypeError(f"{cls.__name__} takes Tensors, not {type(t).__name__}; wrap it in Tensor(...)")
        node, dtype = cls(), np.result_type(*(t.dtype for t in inputs))
        if any(t.dtype != dtype for t in inputs):
            raise TypeError(f"{cls.__name__} got tensors of {', '.join(str(t.dtype) for t in inputs)}; give all the same")
        node.dtype, node.needs = dtype, tuple(t.requires_grad for t in inputs)
        node.recording = is_grad_enabled() and any(node.needs)
        recorded = entries_so_far()
        array = node.forward(*(t.storage if cls.takes_spikes else t.data for t in inputs), **options)
        result = Tensor.__new__(Tensor)._begin(array, dtype) if cls.makes_spikes else Tensor(array, dtype=dtype)
        if result.is_spikes and not cls.takes_spikes:  # an operation that takes spikes only passes them on
            check_stream(cls)
            if is_open():
                record(cls.op or cls.__name__, "neurons", spikes=int(np.count_nonzero(result.storage)), neurons=result.size)
        elif is_open() and entries_so_far() == recorded and not cls.__module__.startswith(PACKAGE):
            record(cls.op or cls.__name__, "unknown")
        if cls.views and np.may_share_memory(array, inputs[0].storage):
            result._changes = inputs[0]._changes
        if node.recording:
            node.inputs, result._node, result.requires_grad = inputs, node, True
            node.versions = tuple(t._changes[0] for t in inputs)
        return result

    def check_versions(self) -> None:
        """Refuse to continue if inputs were overwritten after ``forward`` had saved them."""
        for k, (tensor, version) in enumerate(zip(self.inputs, self.versions)):
            if tensor._changes[0] == version or self.reuses == "none":
                continue
            if self.reuses == "all" or any(needed for i, needed in enumerate(self.needs) if i != k):
                raise RuntimeError(
                    f"backward() through {type(self).__name__}: its input {k}, of shape {tensor.shape}, was changed "
                    "in place after the forward pass (by an optimizer's step, say), so the gradient would be "
                    "wrong; call backward() first, or compute the result again"
                )

    def forward(self, *arrays: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad: np.ndarray) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no gradient: it does not define backward")

    def free(self) -> None:
        """Release the inputs and everything that forward saved."""
        self.__dict__.clear()
        self.freed = True


def _sorted_graph(root):
    """Every tensor of the graph that requires a gradient, each after all it was made from (depth first, no recursion)."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, done = stack.pop()
        if done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            if getattr(tensor._node, "freed", False):
                raise RuntimeError(
                    f"backward() a second time through {type(tensor._node).__name__}, whose saved arrays were "
                    "freed; compute the result again, or pass retain_graph=True the first time"
                )
            parents = tensor._node.inputs if tensor._node else ()
            stack += [(parent, False) for parent in parents if parent.requires_grad]
    return order


def check_stream(cls):
    """Refuse spikes of neurons that a stream does not know how to continue."""
    states = running()
    if states is not None and not states.held and not cls.stateless:
        raise ValueError(
            f"Stream: {cls.__name__} makes spikes, and may carry something from step to step, which the stream cannot see; "
            "call it from a layer of nn.Neurons that takes h0 and return_state, or let it say stateless = True"
        )


def _check(name, tensor, grad):
    if grad is None:
        raise RuntimeError(f"{name} gave no gradient for an input of shape {tensor.shape} that requires one")
    if not isinstance(grad, (np.ndarray, np.generic)):
        raise RuntimeError(f"{name} gave a {type(grad).__name__} for a gradient; it must be an array")
    if grad.shape != tensor.shape or grad.dtype != tensor.dtype:
        raise RuntimeError(
            f"{name} gave a gradient of shape {grad.shape} and dtype {grad.dtype} "
            f"for a tensor of shape {tensor.shape} and dtype {tensor.dtype}"
        )


def clean(array):
    """Booleans with the bytes 0 and 1, on which the loops rely: ``array`` itself, or a copy if it holds other bytes that NumPy
    takes for True (a black-and-white Pillow image, a mask's ``.view(bool)``, ``np.frombuffer``). Anything else is returned as
    it is.
    """
    if array.dtype != np.bool_ or not (array.view(np.uint8) > 1).any():
        return array
    return array.view(np.uint8) != 0


class _Mode(threading.local):
    recording = True  # in every thread, until it is switched off there


_mode = _Mode()
_generator = np.random.default_rng()


def is_grad_enabled() -> bool:
    """Whether operations of this thread are being recorded."""
    return _mode.recording


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Compute the operations of this thread without recording them: within the ``with`` statement, or as a decorator."""
    before, _mode.recording = _mode.recording, False
    try:
        yield
    finally:
        _mode.recording = before


def manual_seed(seed: int) -> None:
    """Restart the package's random numbers (initial weights) from ``seed``, a whole number >= 0.

    Raises:
        ValueError: a negative seed. TypeError: one that is not a whole number.
    """
    global _generator  # noqa: PLW0603 - the one thing that it changes
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator that ``manual_seed`` restarts."""
    return _generator
