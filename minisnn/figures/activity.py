"""What happens inside a network on a few samples, kept for figures.

Axes: T time steps, N batch, C channels, H height, W width.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..engine import Tensor
from ..models import ResNet21
from ..nn import Attention, Module, Neurons, evaluating, listen

__all__ = ["Activity", "watch", "potentials"]


class Activity:
    """What ``watch`` saw: dictionaries from dotted names to arrays.

    Attributes:
        currents, spikes: input and output of every LIF layer, [T, N, C, H, W]; without maps [T, N, F].
        joins: {stage from 0: the output of its join}, [T, N, C, H, W].
        scores: of every attention module, [N, T] for "t", [N, C] for "c", [N, H, W] for "s".
        neurons: {name: the LIF layer's options}.
    """

    def __init__(self) -> None:
        self.currents: dict[str, np.ndarray] = {}
        self.spikes: dict[str, np.ndarray] = {}
        self.joins: dict[int, np.ndarray] = {}
        self.scores: dict[str, np.ndarray] = {}
        self.neurons: dict[str, Mapping[str, Any]] = {}


def watch(net: Module, x: Any) -> Activity:
    """Run ``net`` on x [T, N, C, H, W] in evaluation mode and keep what happened in every layer; returns Activity.

    Memory: two arrays for each layer, so give a few samples only.
    """
    activity = Activity()
    with contextlib.ExitStack() as stack:
        for name, module in net.named_layers():
            if isinstance(module, Neurons):
                activity.neurons[name] = module.options if module.potentials_of_lif else {}
                stack.enter_context(listen(module, functools.partial(keep_neurons, activity, name)))
                stack.enter_context(apart(module))
            elif isinstance(module, Attention):
                at = name.removesuffix(".attention")
                stack.enter_context(listen(module, functools.partial(keep_scores, activity, at, module)))
        for k, stage in enumerate(net.stages if isinstance(net, ResNet21) else ()):
            stack.enter_context(listen(stage.join, functools.partial(keep_joined, activity, k)))
            if stage.shortcut is None:
                stack.enter_context(listen(stage.main, functools.partial(keep_joined, activity, k)))
        stack.enter_context(evaluating(net))
        net(x if isinstance(x, Tensor) else Tensor(x, dtype=net.config.dtype))
    return activity


@contextlib.contextmanager
def apart(neurons):
    """Within the ``with`` statement the neurons run as a separate operation, not fused with what precedes them."""
    neurons.after = functools.partial(Neurons.after, neurons)
    try:
        yield
    finally:
        del neurons.after


def keep_neurons(activity, name, inputs, output):
    activity.currents[name], activity.spikes[name] = inputs[0].data, output.data


def keep_joined(activity, stage, inputs, output):
    activity.joins[stage] = output.data


def keep_scores(activity, name, module, inputs, output):
    activity.scores[name] = module.scores(*inputs).data


def potentials(
    current: np.ndarray,
    tau: float = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    decay_input: bool = True,
    **_: Any,
) -> np.ndarray:
    """Membrane potential u[t] before the spike, for currents [T, ...]: Eq. 2 (``ops.lif``) in plain NumPy."""
    rest = 0.0 if v_reset is None else v_reset
    h, u = np.full(current.shape[1:], rest), np.empty(current.shape)
    for t, I in enumerate(current):
        u[t] = h + I / (tau if decay_input else 1.0) - (h - rest) / tau
        fired = u[t] >= v_threshold
        h = np.where(fired, u[t] - v_threshold if v_reset is None else v_reset, u[t])
    return u
