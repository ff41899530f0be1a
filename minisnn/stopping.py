"""Ctrl-C, and the signals that ask a process to end: each stops the program once, in an orderly way, with one line.

A second Ctrl-C must not interrupt what the first one started, such as the removal of a half-written file. And Python raises
KeyboardInterrupt wherever it happens to be, even where a library swallows it; so loops call ``check`` now and then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

__all__ = ["Stopped", "SIGNALS", "begin", "end", "listening", "deaf_children", "check"]

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
IMPATIENT = 3  # after that many signals the process ends at once


class Stopped(KeyboardInterrupt):
    """The program was asked to end. ``status`` is its exit status: 128 and the signal's number, so 130 for Ctrl-C."""

    def __init__(self, text: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.status = 128 + int(number)


class _Asked:
    times = 0
    number: int | None = None


def _stop(number, frame):
    _Asked.times += 1
    _Asked.number = number
    if _Asked.times == 1:
        raise Stopped(number=number)
    if _Asked.times >= IMPATIENT:
        os._exit(128 + number)


def begin() -> None:
    """From now on the first of the signals raises Stopped. A signal that is ignored (``nohup``) stays ignored."""
    _Asked.times, _Asked.number = 0, None
    for number in SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _stop)
    # A callback from C, such as LLVM's while it compiles, cannot pass an exception on, and Python would report it: ``check``
    # raises it later.
    report = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if isinstance(lost.exc_value, Stopped) else report(lost)


def end() -> None:
    """The process ends now. If a signal asked it to, it ignores further ones: Python removes its handlers before it
    exits, and a second Ctrl-C would then count as the cause of death.
    """
    if _Asked.times:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Within the ``with`` statement the signals raise Stopped, as after ``begin``, and then what they did before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is not threading.main_thread() or _stop in before.values():  # only it may; or done before
        yield
        return
    report = sys.unraisablehook
    begin()
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        sys.unraisablehook = report


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started within the ``with`` statement have the signals blocked: the parent receives them, and ends the
    processes. A signal that arrives meanwhile reaches the parent at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check() -> None:
    """Raise Stopped if a signal asked for it and a library swallowed the exception."""
    if _Asked.times:
        raise Stopped(number=_Asked.number or signal.SIGINT)
