"""Data parallel over MPI: ranks that each compute a share of every batch and together take the steps of one process.

Under ``mpiexec -n N minisnn train --mpi`` each of N processes, the ranks, holds the whole network and takes its share of each
batch. Three things cross over:

    batch norm, forward     count, mean and variance of each channel, from which every rank gets those of the whole batch
    batch norm, backward    the sums over the rows of dout and of dout * (x - mean)
    the gradients           all of them in one row, weighted by the rank's share of the batch

What is added is gathered first and then added in the order of the ranks, by every rank alike. So all ranks keep the same
parameters bit for bit, the same bits come out in every run with N ranks, and up to rounding they are those of one process.

Until ``begin`` is called there is one rank, and every function here returns at once. mpi4py is imported by ``begin``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from . import stopping
from .errors import UsageError

__all__ = ["begin", "end", "rank", "size", "launched", "speaks", "first", "agreed", "gathered", "share", "part", "Part"]

T = TypeVar("T")
# What an mpiexec tells its processes: (their number, this one's rank), of MPICH and its kin, and of Open MPI.
TOLD = (("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))
BLOCK = 1 << 14  # numbers that are added at a time
SPIN = 2e-4  # seconds of looking before the first nap
NAP = 5e-5 if os.name == "posix" else 0.0  # seconds; elsewhere a short sleep takes milliseconds, and one of 0 gives way
PATIENCE = 2.0  # seconds that rank 0 has to say what went wrong before another one does


class Part(NamedTuple):
    """A rank's share of a batch."""

    rows: slice  # of the batch, that this rank computes
    mine: int  # how many of them count: none where there are fewer samples than ranks, which then compute one in vain
    total: int  # samples of the batch


class _State:
    world: Any = None  # mpi4py's communicator of all ranks
    rank, size = 0, 1
    local = 1  # ranks on this machine
    part: Part | None = None  # of the batch that is being trained on


def launched() -> tuple[int, int]:
    """(number of processes that an mpiexec started, number of this one), by the environment; (1, 0) without one."""
    for count, number in TOLD:
        with contextlib.suppress(KeyError, ValueError):
            return max(1, int(os.environ[count])), int(os.environ[number])
    return 1, 0


def begin() -> None:
    """Join the other ranks.

    Raises:
        UsageError: mpi4py is missing, or belongs to another MPI than the mpiexec that started this process.
    """
    if _State.world is not None:
        return
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        raise UsageError(
            f"--mpi: mpi4py or its MPI library is missing ({str(error).splitlines()[0][:100]}); install both with: "
            "pip install 'minisnn[mpi]'"
        ) from None
    count, _ = launched()
    world = MPI.COMM_WORLD
    if world.size != count:
        raise UsageError(
            f"--mpi: mpiexec started {count} processes, which do not find each other: it belongs to another MPI than mpi4py. "
            f"Use the mpiexec beside this Python, in {os.path.dirname(sys.executable)}"
        )
    _State.world, _State.rank, _State.size = world, world.rank, world.size
    _State.local = world.Split_type(MPI.COMM_TYPE_SHARED).size


def end(status: int) -> None:
    """The process ends with this exit status; unless that is 0, so do all other ranks, wherever they are."""
    if _State.world is not None and status and _State.size > 1:
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
        if error is not None and not isinstance(error, SystemExit):
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        with contextlib.suppress(OSError):  # MPICH says a line of its own, which says nothing
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _State.world.Abort(status)


def rank() -> int:
    """The number of this rank, from 0."""
    return _State.rank


def size() -> int:
    """The number of ranks."""
    return _State.size


def local_ranks() -> int:
    """The number of ranks on this machine."""
    return _State.local


def speaks() -> bool:
    """Whether this process is to say what went wrong: rank 0 at once, another one only if rank 0 has not said it by then, and
    ended all. So what befalls all of them is said once.
    """
    number = _State.rank if _State.world is not None else launched()[1]
    if number and _State.world is not None:
        time.sleep(PATIENCE * (1 + 0.25 * number))  # rank 0 ends this process meanwhile, if the same befell it
        return True
    return not number


# ---- what the ranks tell each other ----------------------------------------------------------------------------------


def wait(request: Any) -> None:
    """Wait for the other ranks, but not longer than for a signal, which a call that blocks in MPI would not notice.

    At first by looking again and again: a nap takes longer than a message does. Then with naps, in which another rank or
    program has the core.
    """
    patient = time.perf_counter() + SPIN
    while not request.Test():
        stopping.check()
        if time.perf_counter() > patient:
            time.sleep(NAP)


def gather(row: np.ndarray) -> np.ndarray:
    """The rows of all ranks, [size, M]."""
    rows = np.empty((_State.size, row.size), row.dtype)
    wait(_State.world.Iallgather(np.ascontiguousarray(row), rows))
    return rows


def deal(rows: np.ndarray) -> np.ndarray:
    """Row k of ``rows`` [size, M] goes to rank k; returns what this rank got, [size, M], in the order of the ranks."""
    received = np.empty_like(rows)
    wait(_State.world.Ialltoall(rows, received))
    return received


def in_order(rows: np.ndarray) -> np.ndarray:
    """The sum of rows [size, M], added one after another in float64; of their dtype."""
    total = np.empty_like(rows[0])
    for at in range(0, total.size, BLOCK):  # the block stays in the cache
        block = rows[0, at : at + BLOCK].astype(np.float64)
        for row in rows[1:]:
            block += row[at : at + BLOCK]
        total[at : at + BLOCK] = block
    return total


def gathered(value: T) -> list[T]:
    """A small object of each rank, in their order: [value] with one rank."""
    if _State.size == 1:
        return [value]
    wait(_State.world.Ibarrier())
    return _State.world.allgather(value)


def agreed(decide: Callable[[], T]) -> T:
    """What rank 0 decides; the others wait for it."""
    if _State.size == 1:
        return decide()
    found = gathered(decide() if _State.rank == 0 else None)
    return found[0]  # type: ignore[return-value]


def first(act: Callable[[], T]) -> T:
    """``act()`` of each rank, rank 0's before all others', so that they find what it has downloaded or written."""
    found = act() if _State.rank == 0 else None
    gathered(None)
    return found if _State.rank == 0 else act()  # type: ignore[return-value]


def command(line: str) -> str:
    """A command line of training, as it continues with as many ranks."""
    if _State.size == 1:
        return line
    return f"mpiexec -n {_State.size} " + line.replace(" train ", " train --mpi ", 1)


def share(count: int) -> slice:
    """The rows of ``count`` that this rank takes; the first ranks take one more where they do not come out even."""
    each, more = divmod(count, _State.size)
    start = _State.rank * each + min(_State.rank, more)
    return slice(start, start + each + (_State.rank < more))


# ---- a step of training ----------------------------------------------------------------------------------------------


def rows_of(count: int) -> Part:
    """This rank's share of a batch of ``count`` samples."""
    rows = share(count)
    mine = rows.stop - rows.start
    return Part(rows if mine else slice(0, 1), mine, count)


@contextlib.contextmanager
def part(count: int) -> Iterator[Part]:
    """Within the ``with`` statement a batch of ``count`` samples is trained on, of which this rank has a share."""
    before, _State.part = _State.part, rows_of(count)
    try:
        yield _State.part
    finally:
        _State.part = before


def whole_batch(count: int) -> tuple[int, slice]:
    """(samples of the whole batch, this rank's rows of it), if this rank has ``count`` of them."""
    if _State.size == 1 or _State.part is None:
        return count, slice(0, count)
    return _State.part.total, _State.part.rows


def weight() -> float:
    """Share of the batch that this rank computes: what its mean loss counts for in that of the whole batch."""
    return 1.0 if _State.part is None else _State.part.mine / _State.part.total


def idle() -> bool:
    """Whether nothing that this rank computes counts."""
    return _State.part is not None and not _State.part.mine


def moments(mean: np.ndarray, var: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(mean, variance, rows) of the whole batch from those of each rank's rows; mean, var: [C], float64."""
    if _State.size == 1 or _State.part is None:
        return mean, var, rows
    found = gather(np.concatenate([[0.0 if idle() else rows], mean, var]))
    counts, means, variances = found[:, :1], found[:, 1 : 1 + mean.size], found[:, 1 + mean.size :]
    total = in_order(counts)
    mean = in_order(counts * means) / total
    var = in_order(counts * (variances + (means - mean) ** 2)) / total
    return mean, var, int(total[0])


def sums(parts: np.ndarray, rows: int) -> tuple[np.ndarray, int]:
    """(sums, rows) of the whole batch from those of each rank's rows; parts: float64 of any shape."""
    if _State.size == 1 or _State.part is None:
        return parts, rows
    row = np.concatenate([[float(rows)], parts.reshape(-1)])
    total = in_order(gather(np.zeros_like(row) if idle() else row))
    return total[1:].reshape(parts.shape), int(total[0])


def shaped(row: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A view of a row as an array of the shape of ``like``, in whose memory order the numbers follow each other."""
    order = np.argsort([-stride for stride in like.strides], kind="stable")
    return row.reshape([like.shape[axis] for axis in order]).transpose(np.argsort(order))


def add_gradients(parameters: Sequence[Any]) -> None:
    """Replace each parameter's gradient by the sum of all ranks' gradients. A parameter without one on every rank keeps none.

    All of them travel as one row, in the widest dtype of a parameter, of which each rank adds up a part, in float64: twice as
    many bytes as parameters, whatever the number of ranks.
    """
    if _State.size == 1:
        return
    dtype, length = np.result_type(*(p.dtype for p in parameters)), sum(p.size for p in parameters) + len(parameters)
    rows = np.empty((_State.size, -(-length // _State.size)), dtype)
    row, at = rows.reshape(-1), len(parameters)
    row[:at] = [p.grad is not None for p in parameters]
    row[length:] = 0
    for p in parameters:
        shaped(row[at : at + p.size], p.data)[...] = 0 if p.grad is None or idle() else p.grad
        at += p.size
    total = gather(in_order(deal(rows))).reshape(-1)  # row k of what is dealt: rank k's part of what this rank adds up
    at = len(parameters)
    for p, has in zip(parameters, total[:at]):
        p.grad = shaped(total[at : at + p.size], p.data).astype(p.dtype, copy=False) if has else None
        at += p.size
