"""What really happened: operations write down the spikes they emit and the additions and products they do.

Nothing is counted unless somebody asks:

    with ledger() as entries:
        net(x)
    sum(entry.ac for entry in entries)

Modules name the entries while they run (see nn/module.py), so that a report can say which layer did what.
"""

import contextlib
import dataclasses

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


_entries = None
_names = []


@contextlib.contextmanager
def ledger():
    """Collect entries into the list that the ``with`` statement names; a ledger inside another takes over meanwhile."""
    global _entries
    before, _entries = _entries, []
    try:
        yield _entries
    finally:
        _entries = before


def is_open():
    """Whether anybody is asking."""
    return _entries is not None


def record(op, **counts):
    """Write down one call of an operation, if anybody is asking."""
    if _entries is not None:
        _entries.append(Entry(_names[-1] if _names else "", op, **counts))


@contextlib.contextmanager
def scope(name, inner=False):
    """Entries made within carry this name, or, with ``inner``, the present name with this one behind it."""
    _names.append(f"{_names[-1]}.{name}" if inner and _names and _names[-1] else name)
    try:
        yield
    finally:
        _names.pop()
