"""Compile ahead: every loop for the types that a training run calls it with, in several processes at once.

Numba compiles a loop when it is first called, one after another, under one lock for the whole process. A first start would
wait for all of them while the other cores are idle. Other processes can fill the cache on disk meanwhile, if they know what
will be called. ``rehearse`` finds out: it goes through a training step and an evaluation of a network as small as they come,
with every loop as plain Python, and notes for each loop the types of its arguments. No type depends on a shape, so these are
the types of any network.

``minisnn compile`` works through the list in as many processes as there are threads. ``Helpers`` begin at its end, with the
backward pass, as soon as anything has to be compiled, so that a first training run finds compiled what it comes to last.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import energy, jit, locks, models, nn, ops, optim
from .engine import Tensor, no_grad
from .jit import recording
from .ops import winograd
from .ops.linear import multiply_in_parts
from .types import Path

__all__ = ["rehearse", "compile_all", "Turns", "Helpers"]

T, N, SIZE, WIDTH = 2, 1, 4, 16  # as small as they come: of 16 channels, from which on convolutions are by Winograd


def small_network():
    """Every kind of layer of the networks once: stem, a unit with attention, a stage with attention on its shortcut, head."""
    make: dict[str, Any] = dict(rng=np.random.default_rng(0), dtype="float32")

    def unit(i, o, kernel=3, stride=1, spiking=None):
        gate = None if spiking is None else nn.Attention("t", T, o, spiking, **make)
        return models.Unit(i, o, kernel, stride, gate, nn.LIF(), make)

    main = nn.Sequential(unit(WIDTH, WIDTH, stride=2, spiking=False), unit(WIDTH, WIDTH))
    stage = models.Stage(main, unit(WIDTH, WIDTH, 1, 2, spiking=True), nn.Join("or"), None, unit(WIDTH, WIDTH))
    net = nn.Sequential(unit(1, WIDTH), unit(WIDTH, WIDTH), stage)
    return net, nn.Linear(WIDTH, 10, **make)


def training_run():
    """A step and an evaluation, as ``minisnn train`` does them."""
    net, head = small_network()
    x, target = np.random.default_rng(0).random((T, N, 1, SIZE, SIZE), np.float32) * 4, ops.one_hot([0], 10)
    large = Tensor(np.zeros(optim.SMALL, np.float32), requires_grad=True)  # which moves on all threads
    large.grad = large.data
    optimizer = optim.Adam([*net.parameters(), *head.parameters(), large])

    class Whole(nn.Module):
        def forward(self, x):
            return head(ops.global_avg_pool2d(net(x))).mean(0)

    ops.mse_loss(Whole().forward(Tensor(x)), target).backward()
    optimizer.step()
    net.eval()
    energy.measure(net, Tensor(x))


def further():
    """What only some options, data sets or sizes call."""
    make: dict[str, Any] = dict(rng=np.random.default_rng(0), dtype="float32")
    numbers = lambda *shape: make["rng"].normal(0, 2, shape).astype(np.float32)  # noqa: E731
    for dim in "tcs":
        maps = Tensor(numbers(T, N, WIDTH, 2, 2), requires_grad=True)
        gate = nn.Attention(dim, T, WIDTH, True, **make)
        ops.mse_loss(gate(maps).reshape(-1), np.zeros(maps.size, np.float32)).backward()
        nn.LIF().after(nn.BatchNorm2d(WIDTH), gate, maps).backward(maps.data)
    maps = Tensor(numbers(T, N, WIDTH, SIZE, SIZE), requires_grad=True)
    for neurons in (*(kind() for kind in nn.NEURONS.values()), nn.LIF(np.full(WIDTH, 2.0)), nn.LIF(smooth=True)):
        out = neurons(maps)
        out.backward(out.data)
    for part in (
        nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, **make),
        nn.Conv2d(WIDTH, 8, 3, 2, 1, **make),
        nn.BatchNorm2d(WIDTH),
        nn.LIF(),
    ):
        out = part(maps)
        (ops.join(out, out, "add") if part is not None else out).backward(out.data)
    for pool in (nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)):
        out = pool(maps)
        out.backward(out.data)
    features = Tensor(numbers(T, N, WIDTH), requires_grad=True)
    for layer in (nn.Linear(WIDTH, 8, **make), nn.Recurrent(nn.Linear(WIDTH, WIDTH, **make), nn.LIF())):
        for given in (features, nn.LIF()(features)):
            out = layer(given)
            out.backward(out.data)
    flat, table = numbers(WIDTH), numbers(1, WIDTH)
    multiply_in_parts(np.empty((WIDTH, WIDTH), np.float32), flat, 1, 1, table)  # as wide layers are multiplied
    fired = nn.LIF()(maps)
    with no_grad():
        nn.MaxPool2d(3, 2, 1)(fired)
        nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, method="dense", **make)(fired)
    scores = Tensor(numbers(2, 3), requires_grad=True)
    ops.cross_entropy(scores, [0, 1]).backward()
    large = Tensor(np.zeros(optim.SMALL, np.float32), requires_grad=True)
    large.grad = large.data
    optim.SGD([scores, large]).step()
    images, wt = numbers(1, SIZE, SIZE, WIDTH), numbers(3, 3, WIDTH, WIDTH)  # as layers of very many channels are convolved
    planes = [np.empty((1, 36 * winograd.PLANE), np.float32) for _ in range(2)]
    filters = np.empty((1, 36, WIDTH * winograd.COLUMNS + 1040), np.float32)
    for transposed in (False, True):
        winograd._winograd_by_columns(np.empty_like(images), images, wt, wt[0, 0, 0], transposed, filters, *planes)


@functools.cache
def rehearse(everything: bool = False) -> list[tuple[Any, tuple]]:
    """[(loop, types of its arguments)] of a training run, in the order of the first calls; with ``everything`` also what only
    some options call.
    """

    def go_through():
        with recording() as calls:
            training_run()
            if everything:
                further()
        return list(calls)

    with concurrent.futures.ThreadPoolExecutor(1) as own:  # a thread in which no_grad is not in force, and no ledger open
        return own.submit(go_through).result()


def compile_one(k, everything):
    """Compile loop number ``k`` of the rehearsal unless it is on disk; (name, seconds)."""
    loop, types = rehearse(everything)[k]
    start = time.perf_counter()
    loop.compile(types)
    return loop.py_func.__name__, time.perf_counter() - start


def compile_all(processes: int, tell: Callable[[int, int, str], None] = lambda done, total, name: None) -> dict[str, float]:
    """Compile whatever a training run with any options may call, and keep it on disk.

    Args:
        processes: how many to work in.
        tell: called after each loop with the number of those done, of all, and the name.

    Returns:
        {name of the loop: seconds}, those found on disk included.
    """
    total, seconds = len(rehearse(True)), dict[str, float]()
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=spawned) as pool:
        waiting = [pool.submit(compile_one, k, True) for k in reversed(range(total))]
        for done, future in enumerate(concurrent.futures.as_completed(waiting), 1):
            name, taken = future.result()
            seconds[name] = seconds.get(name, 0.0) + taken
            tell(done, total, name)
    return seconds


@functools.cache
def mark_of(loop, types):
    """A name that every process has for a loop with these types; kept, since who waits asks a hundred times a second."""
    name = f"{loop.py_func.__module__}.{loop.py_func.__qualname__}{types}"
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


class Turns:
    """No loop of a training run is compiled by two processes at once: each marks with a folder what it has begun, and holds
    the folder while it compiles. Who needs a loop that another holds compiles one that nobody has begun meanwhile, and then
    finds the other's on disk.

    Args:
        folder: that the processes share.
    """

    patience = 60.0  # seconds: if the other takes longer, it may have been stopped

    def __init__(self, folder: Path) -> None:
        self.folder, self.busy = pathlib.Path(folder), False

    def place(self, loop: Any, types: Any) -> pathlib.Path:
        """The folder of a loop for these types of arguments."""
        return self.folder / mark_of(loop, types)

    def not_begun(self) -> Iterator[tuple[Any, tuple]]:
        """The loops of the rehearsal that nobody has begun, as long as there are any, the last ones first."""
        return ((loop, types) for loop, types in rehearse()[::-1] if not self.place(loop, types).exists())

    def take(self, place: pathlib.Path) -> int | None:
        """A handle that holds the folder until it is closed, None where another process holds it."""
        place.mkdir(exist_ok=True)
        try:
            return locks.take(place)
        except OSError as error:
            if error.errno in locks.HELD:
                return None
            raise

    @contextlib.contextmanager
    def __call__(self, loop: Any, types: Any) -> Iterator[None]:
        """Within the ``with`` statement the loop, and all that it calls, is this process's to compile."""
        if self.busy:  # with a loop that calls this one
            yield
            return
        handle, end = None, time.monotonic() + self.patience
        with contextlib.suppress(OSError):
            while (handle := self.take(self.place(loop, types))) is None and time.monotonic() < end:
                for other, own_types in self.not_begun():
                    other.compile(own_types)
                    break
                else:
                    time.sleep(0.01)
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            if handle is not None:
                os.close(handle)


class Helpers:
    """Processes that compile the loops of a training run from the last one backwards, once ``begin`` is called and until the
    ``with`` statement ends. What they have finished by then is on disk.

    Args:
        number: of processes.
    """

    def __init__(self, number: int) -> None:
        self.number, self.processes = number, list[subprocess.Popen]()
        self.everything = contextlib.ExitStack()

    def begin(self) -> None:
        """Start them."""
        if self.number < 1:
            return
        folder = self.everything.enter_context(tempfile.TemporaryDirectory(prefix="minisnn-", ignore_cleanup_errors=True))
        jit.turns = Turns(folder)
        self.everything.callback(setattr, jit, "turns", jit.at_once)
        # Each is handed the path on which this process found its modules; it ends when its standard input does.
        say = f"import sys; sys.path[:] = {sys.path!r}; from minisnn import rehearsal; rehearsal.help_out({folder!r})"
        for _ in range(self.number):
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", say],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the program that is being used
                )
            )

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.terminate()
            process.communicate()
        self.everything.close()


def help_out(folder):
    """What each helper does."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)
    jit.turns = turns = Turns(folder)
    for loop, types in turns.not_begun():
        loop.compile(types)


def end_with_parent():
    sys.stdin.read()  # nothing is ever written there
    os._exit(0)
