"""Optimizers and the schedule of the learning rate.

Symbols: p a parameter, g its gradient, m and v running means of g and g^2; M entries in memory order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

import numpy as np

from .engine import Tensor
from .jit import kernel, parallel_kernel, prange

__all__ = ["Adam", "AdamW", "SGD", "CosineAnnealing", "clip_gradients"]


def adam_step(p, g, m, v, lr, beta1, beta2, eps, weight_decay, correction1, correction2):
    # p, g, m, v: [M]; correction = 1 - beta^step: m and v start at 0 and are at first too small
    one = p.dtype.type(1.0)
    for i in prange(p.size):
        d = g[i] + weight_decay * p[i]
        m[i] = beta1 * m[i] + (one - beta1) * d
        v[i] = beta2 * v[i] + (one - beta2) * d * d
        p[i] -= lr * (m[i] / correction1) / (math.sqrt(v[i] / correction2) + eps)


def sgd_step(p, g, m, lr, momentum, weight_decay):
    # p, g, m: [M]
    for i in prange(p.size):
        m[i] = momentum * m[i] + g[i] + weight_decay * p[i]
        p[i] -= lr * m[i]


SMALL = 1 << 14  # numbers; below that, waking the threads costs more than the work
adam_loops = kernel(adam_step), parallel_kernel(adam_step)
sgd_loops = kernel(sgd_step), parallel_kernel(sgd_step)


@functools.cache
def axes_in_memory(strides):
    """The axes in memory order, the largest stride first."""
    return tuple(np.argsort([-s for s in strides], kind="stable"))


def flat(array, like):
    """The entries of ``array`` as a row, in the memory order of ``like``; a view if both have the same layout."""
    return np.ascontiguousarray(array.transpose(axes_in_memory(like.strides))).reshape(-1)


def put_back(array, row, like):
    """Write a row that ``flat`` had to copy, since its numbers have gaps or are in another order, into ``array``."""
    if not np.may_share_memory(row, array):
        order = axes_in_memory(like.strides)
        array[...] = row.reshape([array.shape[axis] for axis in order]).transpose(np.argsort(order))


class Optimizer:
    """The base of both: a list of parameters, a learning rate, and running means for each parameter.

    A subclass names its running means in ``states`` and defines ``update(p, g, *means)``, which changes rows in place.

    Attributes:
        parameters: what is learned, each once, however often it was passed.
        lr: the learning rate, which a schedule may change.
        steps: how many have been taken.
        state: {name: [ndarray for each parameter]}.
    """

    states: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters, self.lr, self.steps = list({id(p): p for p in parameters}.values()), lr, 0
        if not self.parameters:
            raise ValueError("the optimizer got no parameters")
        positive("lr", lr)
        for k, p in enumerate(self.parameters):
            if not isinstance(p, Tensor):
                raise TypeError(f"parameter {k} is {type(p).__name__}; give Parameters, such as net.parameters()")
            check_numbers(k, p)
        self.state = {name: [np.zeros_like(p.data) for p in self.parameters] for name in self.states}

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient.

        Raises:
            ValueError: a parameter has another shape than when this optimizer was made, or its gradient has a shape or
                dtype other than its own. TypeError: it holds spikes, or the gradient is not an ndarray. In either case
                nothing has been moved.
        """
        moving = [k for k, p in enumerate(self.parameters) if p.grad is not None]
        for k in moving:
            self.check(k)
        self.steps += 1
        for k in moving:
            p = self.parameters[k]
            arrays = [p.data] + [self.state[name][k] for name in self.states]
            p_row, *mean_rows = rows = [flat(a, p.data) for a in arrays]
            self.update(p_row, flat(p.grad, p.data), *mean_rows)
            for array, row in zip(arrays, rows):
                put_back(array, row, p.data)
            p.changed_in_place()

    def update(self, p: np.ndarray, g: np.ndarray, *means: np.ndarray) -> None:
        """Update a row of a parameter from its gradient, and its running means."""
        raise NotImplementedError(f"{type(self).__name__} does not define update")

    def check(self, k):
        """Refuse to move parameter ``k`` if loops over it would leave its memory, or learn nothing."""
        p = self.parameters[k]
        check_numbers(k, p)
        for name in self.states:
            if self.state[name][k].shape != p.shape:
                raise ValueError(
                    f"{name_of(k, p)} had shape {self.state[name][k].shape} when the optimizer was made; make a new "
                    "optimizer for parameters of another shape"
                )
        if not isinstance(p.grad, np.ndarray):
            raise TypeError(f"the gradient of {name_of(k, p)} is {type(p.grad).__name__}; give an ndarray")
        if p.grad.shape != p.shape or p.grad.dtype != p.dtype:
            raise ValueError(
                f"the gradient of {name_of(k, p)} has shape {p.grad.shape} and dtype {p.grad.dtype}; it must have "
                f"those of the parameter, whose dtype is {p.dtype}"
            )

    def state_dict(self) -> dict[str, np.ndarray]:
        """{name: ndarray}: the number of steps and the running means."""
        means = {f"{name}.{k}": a.copy("C") for name in self.states for k, a in enumerate(self.state[name])}
        return {"steps": np.array(self.steps), "lr": np.array(self.lr), **means}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what ``state_dict`` returned. Raises ValueError if it is another optimizer's, changing nothing."""
        own = self.state_dict()
        for name in sorted(own.keys() | state.keys()):
            if name not in state or name not in own or np.shape(state[name]) != own[name].shape:
                raise ValueError(f"this state belongs to another optimizer or model: {name} does not fit")
        self.steps, self.lr = int(state["steps"]), float(state["lr"])
        for name, arrays in self.state.items():
            for k, a in enumerate(arrays):
                a[...] = state[f"{name}.{k}"]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), as in PyTorch.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        parameters: Parameters.
        lr: learning rate, above 0.
        betas: (b1, b2), each from 0 up to but not including 1.
        eps: added to the root.
        weight_decay: times p, added to g.

    Raises:
        ValueError: a number out of range, or no parameters.
    """

    states = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        if not (all(0 <= b < 1 for b in betas) and weight_decay >= 0 and eps >= 0):
            raise ValueError(
                f"betas {betas}, eps {eps}, weight_decay {weight_decay}; give betas from 0 up to but not including 1, "
                "and nothing negative"
            )
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def update(self, p: np.ndarray, g: np.ndarray, *means: np.ndarray) -> None:
        m, v = means
        (b1, b2), real = self.betas, p.dtype.type
        corrections = 1 - b1**self.steps, 1 - b2**self.steps
        adam_loops[p.size >= SMALL](p, g, m, v, *map(real, (self.lr, b1, b2, self.eps, self.weight_decay, *corrections)))


class AdamW(Adam):
    """Adam with weight decay of its own (Loshchilov and Hutter 2019), as in PyTorch: p = (1 - lr * weight_decay) * p before the
    step of Adam, whose means of the gradient do not see the decay.

    Args, Raises: as ``Adam``.
    """

    def update(self, p: np.ndarray, g: np.ndarray, *means: np.ndarray) -> None:
        p *= p.dtype.type(1 - self.lr * self.weight_decay)
        decay, self.weight_decay = self.weight_decay, 0.0
        try:
            super().update(p, g, *means)
        finally:
            self.weight_decay = decay


def clip_gradients(parameters: Iterable[Tensor], norm: float) -> float:
    """Shorten the gradient of all parameters together, one long vector, to the length ``norm`` if it is longer; its direction
    stays (Pascanu et al. 2013).

    Args:
        parameters: Parameters after ``backward``; those without a gradient do not count.
        norm: the greatest Euclidean length, above 0.

    Returns:
        The length before.

    Raises:
        ValueError: the norm is not above 0. FloatingPointError: the gradient holds NaN or infinity.
    """
    positive("norm", norm)
    moving = [(p, p.grad) for p in parameters if p.grad is not None]
    length = math.sqrt(sum(float(np.square(grad, dtype=np.float64).sum()) for _, grad in moving))
    if not math.isfinite(length):
        raise FloatingPointError("the gradient holds NaN or infinity")
    if length > norm:
        for p, grad in moving:
            p.grad = grad * grad.dtype.type(norm / length)
    return length


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as in PyTorch.

    m = momentum * m + g;  p = p - lr * m

    Args:
        parameters: Parameters.
        lr: learning rate, above 0.
        momentum: from 0 up to but not including 1.
        weight_decay: times p, added to g.

    Raises:
        ValueError: a number out of range, or no parameters.
    """

    states = ("m",)

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr)
        if not (0 <= momentum < 1 and weight_decay >= 0):
            raise ValueError(
                f"momentum {momentum}, weight_decay {weight_decay}; give a momentum from 0 up to but not including 1, "
                "and no negative decay"
            )
        self.momentum, self.weight_decay = momentum, weight_decay

    def update(self, p: np.ndarray, g: np.ndarray, *means: np.ndarray) -> None:
        (m,) = means
        sgd_loops[p.size >= SMALL](p, g, m, *map(p.dtype.type, (self.lr, self.momentum, self.weight_decay)))


class CosineAnnealing:
    """The learning rate falls along half a cosine from its start to ``floor`` (Loshchilov and Hutter 2017, without restarts).

    lr(k) = floor + (start - floor) * (1 + cos(pi * k / total)) / 2

    Args:
        optimizer: whose ``lr`` is set at each ``step()``.
        total: number of steps (of epochs or of batches, as the caller steps it) after which the floor is reached.
        floor: the last learning rate.
        warmup: number of first steps over which the rate rises linearly to its initial value.

    Raises:
        ValueError: no step, or a negative number.
    """

    def __init__(self, optimizer: Optimizer, total: int, floor: float = 0.0, warmup: int = 0) -> None:
        if not (total >= 1 and warmup >= 0 and floor >= 0):
            raise ValueError(f"total {total}, warmup {warmup}, floor {floor}; give at least one step and nothing negative")
        self.optimizer, self.total, self.floor, self.warmup = optimizer, total, floor, warmup
        self.start, self.taken = optimizer.lr, 0
        self.optimizer.lr = self.rate(0)

    def rate(self, k: int) -> float:
        """The learning rate after ``k`` steps."""
        fall = self.floor + (self.start - self.floor) * (1 + math.cos(math.pi * min(k, self.total) / self.total)) / 2
        return fall * (k + 1) / (self.warmup + 1) if k < self.warmup else fall

    def step(self) -> None:
        """Count one step and set the optimizer's learning rate."""
        self.taken += 1
        self.optimizer.lr = self.rate(self.taken)

    def state_dict(self) -> dict[str, np.ndarray]:
        """{name: ndarray}."""
        return {"start": np.array(self.start), "taken": np.array(self.taken)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what ``state_dict`` returned."""
        self.start, self.taken = float(state["start"]), int(state["taken"])
        self.optimizer.lr = self.rate(self.taken)


def name_of(k, p):
    name = getattr(p, "name", "")
    return f"parameter {k} ({name + ', ' if name else ''}shape {p.shape})"


def check_numbers(k, p):
    """Reject a parameter whose numbers cannot be moved."""
    if p.is_spikes:
        raise TypeError(f"{name_of(k, p)} holds spikes; give it floating-point numbers")
    if not p.data.flags.writeable:
        raise ValueError(f"{name_of(k, p)} is in memory that cannot be written; give it a copy: p.data = p.data.copy()")


def positive(name, value):
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value!r}; give a number above 0")
