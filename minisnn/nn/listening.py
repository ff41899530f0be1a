"""Observing a network while it runs: what goes into a module and what comes out, without changing either."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..engine import no_grad

__all__ = ["listen", "heard", "evaluating", "all_evaluating"]


class _Listening(threading.local):
    callbacks: tuple[tuple[Any, Callable], ...] = ()  # (module, callback) of this thread, in order of registration


_listening = _Listening()


def heard() -> tuple[tuple[Any, Callable], ...]:
    """(module, callback) pairs of this thread."""
    return _listening.callbacks


@contextlib.contextmanager
def listen(module: Any, callback: Callable[[tuple, Any], Any]) -> Iterator[None]:
    """Within the ``with`` statement, every call of ``module`` in this thread also calls ``callback(inputs, output)``."""
    before = _listening.callbacks
    _listening.callbacks = (*before, (module, callback))
    try:
        yield
    finally:
        _listening.callbacks = before


def evaluating(net: Any) -> contextlib.AbstractContextManager:
    """Within the ``with`` statement: evaluation mode and no tape; afterwards every part returns to its own mode."""
    return all_evaluating(net.modules())


@contextlib.contextmanager
def all_evaluating(modules: Sequence[Any]) -> Iterator[None]:
    """The same for modules that have been listed already, of which the parts are among them."""
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        with no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes):
            module.training = mode
