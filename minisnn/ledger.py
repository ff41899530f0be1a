"""What really happened: operations write down the spikes they emit and the additions and products they do.

Nothing is counted unless somebody asks:

    with ledger() as entries:
        net(x)
    sum(entry.ac for entry in entries)

Modules name the entries while they run (see nn/module.py), so that a report can say which layer did what. Each thread has a
ledger of its own.
"""

import contextlib
import dataclasses
import threading

__all__ = ["Entry", "ledger", "is_open", "record", "scope"]


@dataclasses.dataclass
class Entry:
    """What one call of one operation did, summed over all time steps and samples of the call."""

    layer: str  # dotted name of the module that called, "" outside any
    op: str  # "conv2d", "lif", "linear", ...
    spikes: int = 0  # emitted
    neurons: int = 0  # neuron-steps: T * N * C * H * W of the spikes' shape
    ac: int = 0  # accumulations: additions of a weight for a spike
    mac: int = 0  # multiply-accumulates


class _Asked(threading.local):
    entries = None  # where this thread's operations are written down; None while nobody asks

    def __init__(self):
        self.names = []  # of the modules that are running, outermost first


_asked = _Asked()


@contextlib.contextmanager
def ledger():
    """Collect the entries of this thread into the list that the ``with`` statement names. Ledgers nest: only the innermost
    one records."""
    before, _asked.entries = _asked.entries, []
    try:
        yield _asked.entries
    finally:
        _asked.entries = before


def is_open():
    """Whether anybody is asking."""
    return _asked.entries is not None


def record(op, **counts):
    """Write down one call of an operation, if anybody is asking."""
    if _asked.entries is not None:
        _asked.entries.append(Entry(_asked.names[-1] if _asked.names else "", op, **counts))


@contextlib.contextmanager
def scope(name, inner=False):
    """Entries made within carry this name, or, with ``inner``, the present name with this one behind it."""
    names = _asked.names
    names.append(f"{names[-1]}.{name}" if inner and names and names[-1] else name)
    try:
        yield
    finally:
        names.pop()
