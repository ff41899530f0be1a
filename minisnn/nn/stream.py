"""A network that answers frame by frame: time steps come in as they happen, and the neurons keep what they carry."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from .. import states
from ..engine import Tensor
from .layers import Neurons
from .listening import all_evaluating
from .module import Module

__all__ = ["Stream"]


class Stream:
    """A network whose neurons remember between calls, for input that arrives step by step, such as a camera's.

        stream = nn.Stream(net)
        for frame in camera:                # [N, C, H, W]
            scores = stream(frame[None])    # [N, classes]: the mean over all steps so far
        stream.reset()                      # another recording

    T steps in one call, T calls of one step and ``net.eval()(x)`` give the same scores to the bit: a pass over the network
    takes one time step in evaluation mode, in which no layer depends on any other step but through its neurons. Gradients are
    not recorded.

    Three kinds of layers keep a state: those of ``nn.Neurons``, ``nn.Recurrent``, and the operations of neurons (``ops.lif``
    and its kin) called from a ``forward``. Any other layer is taken to treat each step apart. A layer that combines steps in
    another way says so with ``needs_all_steps = True``, as attention does, which pools over time in each of its dimensions. A
    Function of one's own that returns spikes is refused, unless it says ``stateless = True`` or belongs to a layer of
    ``nn.Neurons`` that takes ``h0`` and ``return_state``.

    Args:
        net: from [T, N, ...] to scores, [N, classes] if it averages over T itself, or [T, N, classes]; with the layers that it
            has now.

    Raises:
        ValueError: a layer cannot stream; it is named.
    """

    def __init__(self, net: Module) -> None:
        for name, module in net.named_modules():
            what = f"{name or 'the network'} ({type(module).__name__})"
            if module.needs_all_steps:
                raise ValueError(f"Stream: {what} needs all time steps at once; build the network without it")
            takes = inspect.signature(module.forward).parameters
            if isinstance(module, Neurons) and not {"h0", "return_state"} <= set(takes):
                raise ValueError(f"Stream: {what} cannot continue from a state; its forward needs h0=None, return_state=False")
        self.net, self.modules = net.name_parts(), net.modules()  # listed once: a step takes milliseconds
        self.dtype = next((p.dtype for p in net.parameters()), None)
        self.reset()

    def reset(self) -> None:
        """Forget all steps so far: the next one is the first."""
        self.steps = 0  # so far
        self.kept: dict[Any, Any] = {}
        self.total: Any = None
        self.shape: tuple[int, ...] = ()

    def __call__(self, x: Any) -> Tensor:
        """Take further time steps.

        Args:
            x: [t, N, ...], t >= 1: an array or a Tensor.

        Returns:
            Tensor [N, classes]: the mean over all steps since the last ``reset``.

        Raises:
            ValueError: no steps or samples, or another number or size of samples than before. Whatever the network raises.
            The stream is then where it was before this call.
        """
        x = x if isinstance(x, Tensor) else Tensor(np.asarray(x), dtype=self.dtype)
        if x.ndim < 2 or 0 in x.shape:
            raise ValueError(f"Stream: the new steps have shape {x.shape}; give [t, N, ...], with t of at least 1")
        if self.steps and x.shape[1:] != self.shape:
            raise ValueError(
                f"Stream: the new steps have shape {x.shape}, but the {self.steps} before them were of [t, "
                f"{', '.join(map(str, self.shape))}]; call reset() to begin anew"
            )
        kept, total = states.States(dict(self.kept)), self.total
        with all_evaluating(self.modules), states.run_with(kept):
            for t in range(len(x)):
                kept.begin()
                scores = self.net(x[t : t + 1]).data
                scores = scores[0] if scores.ndim > 2 else scores
                total = scores.copy() if total is None else total + scores
        self.kept, self.total, self.shape, self.steps = kept.kept, total, x.shape[1:], self.steps + len(x)
        return Tensor(total / total.dtype.type(self.steps))
