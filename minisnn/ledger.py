"""What actually happened: operations record the spikes that they emit and the additions and products that they perform.

Nothing is counted unless a ledger is open:

    with ledger() as entries:
        net(x)
    sum(entry.ac for entry in entries)

Modules name the entries while they run (see nn/module.py), so that a report can say which layer did what. Each thread has a
ledger of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

__all__ = ["E_MAC", "E_AC", "Entry", "ledger", "is_open", "entries_so_far", "record", "scope", "only", "firing_rate"]

E_MAC, E_AC = 4.6, 0.9  # energy of a multiply-accumulate and of an accumulate, pJ, 45 nm


@dataclasses.dataclass
class Entry:
    """What one call of one operation did, summed over all time steps and samples of the call."""

    layer: str  # name of the layer that called (Module.named_layers), "" outside any
    op: str  # "conv2d", "lif", "linear", ...
    kind: str  # how a report classifies it: "conv", "linear", "norm", "neurons", "attention" with all that belongs to it, or
    #            "unknown": an operation that does not say what it does
    spikes: int = 0  # emitted
    neurons: int = 0  # neuron-steps: T * N * C * H * W of the spikes' shape
    ac: int = 0  # accumulations: additions of a weight for a spike
    mac: int = 0  # multiply-accumulates


class _Asked(threading.local):
    entries: list[Entry] | None = None  # where this thread's operations are recorded; None while no ledger is open
    layer: str = ""  # name of the module that is running
    layer_of: dict[str, str] = {}  # noqa: RUF012  # other names for some kinds of entries
    kind: str | None = None  # of all entries, if ``only`` sets it


_asked = _Asked()


@contextlib.contextmanager
def ledger() -> Iterator[list[Entry]]:
    """Collect the entries of this thread into the list that the ``with`` statement names. Ledgers nest: only the innermost
    one records.
    """
    before, _asked.entries = _asked.entries, []
    try:
        yield _asked.entries
    finally:
        _asked.entries = before


def is_open() -> bool:
    """Whether a ledger is open in this thread."""
    return _asked.entries is not None


def entries_so_far() -> int:
    """How many entries the open ledger has; 0 if there is none."""
    return 0 if _asked.entries is None else len(_asked.entries)


def record(op: str, kind: str, **counts: int) -> None:
    """Record one call of an operation, if a ledger is open."""
    if _asked.entries is not None:
        kind = _asked.kind or kind
        _asked.entries.append(Entry(_asked.layer_of.get(kind, _asked.layer), op, kind, **counts))


@contextlib.contextmanager
def scope(layer: str, **layer_of: str) -> Iterator[None]:
    """Entries made within the ``with`` statement carry this layer's name, or, if ``layer_of`` has another name for their
    kind, that one: an operation may do the work of several layers at once.
    """
    before = _asked.layer, _asked.layer_of
    _asked.layer, _asked.layer_of = layer, layer_of
    try:
        yield
    finally:
        _asked.layer, _asked.layer_of = before


@contextlib.contextmanager
def only(kind: str) -> Iterator[None]:
    """Entries made within the ``with`` statement are of this kind: the small layers and neurons of attention are part of it."""
    before, _asked.kind = _asked.kind, kind
    try:
        yield
    finally:
        _asked.kind = before


def firing_rate(entries: list[Entry]) -> float:
    """Spikes per neuron and step, over all neurons that fired or could have."""
    return sum(entry.spikes for entry in entries) / max(1, sum(entry.neurons for entry in entries))
