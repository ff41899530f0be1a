"""What neurons carry from one call of a network to the next, while ``nn.Stream`` runs it.

Nothing is kept unless a stream is running in this thread: ``running()`` then has its States, and every layer of neurons looks
up where it left off. A layer is found again by itself and by how often it has been called in this pass over the network, so
that one that is used twice has two states.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["States", "running", "run_with"]


class States:
    """The states of all layers of neurons of a network between two time steps."""

    def __init__(self, kept: dict[Any, Any] | None = None) -> None:
        self.kept = {} if kept is None else kept  # (layer, number of its call): state
        self.calls: dict[Any, int] = {}  # of each layer in this pass
        self.held = 0  # above 0 while a layer is running whose state is kept here

    def begin(self) -> None:
        """Another pass over the network begins."""
        self.calls.clear()

    def step(self, layer: Any, run: Callable[[Any], tuple[Any, Any]]) -> Any:
        """The spikes of ``run(state)``, which returns (spikes, state); the state is None in the first pass.

        Args:
            layer: whose call this is.
            run: one pass of the layer from its state.
        """
        key = layer, self.calls.get(layer, 0)
        self.calls[layer] = key[1] + 1
        self.held += 1
        try:
            s, self.kept[key] = run(self.kept.get(key))
        finally:
            self.held -= 1
        return s


class _Running(threading.local):
    states: States | None = None


_running = _Running()


def running() -> States | None:
    """The States of the stream that runs in this thread, or None."""
    return _running.states


@contextlib.contextmanager
def run_with(states: States | None) -> Iterator[None]:
    """Within the ``with`` statement the neurons of this thread continue from these states, with None from none."""
    before, _running.states = _running.states, states
    try:
        yield
    finally:
        _running.states = before
