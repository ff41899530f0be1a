"""Where a step of training goes on many machines: parts that are measured here, and a model that adds them up.

A step of a batch of B samples on R ranks, of which each computes n = ceil(B / R) samples with k threads, takes

    compute      fixed + each n + (fixed_shared + each_shared n) / k
    statistics   the gathers of batch norm, two for each layer: forward and backward
    gradients    a deal and a gather of one row of G bytes, and the time to lay it out

where what r ranks on each of M machines send each other, R = M r, costs

    gather of m bytes from each rank   log2(r) latency + r (r - 1) m / bandwidth       within a machine
                                     + log2(M) latency + r (R - r) m / bandwidth       between machines
    deal of G bytes of each rank       the same with m = G / R

The constants of compute are fitted to steps of a few samples on one and on two threads while all cores are busy; latency and
bandwidth within a machine to gathers of several sizes between two ranks here. Those of a network between machines are the
caller's. What the model leaves out: ranks that wait for a slower one, and loops too short for many threads.

Ranks run in processes of their own, which ``Ranks`` asks for measurements and which sleep in between.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import ops, optim, parallel, threads
from .bench import SIZES, input_of, own_network
from .catalogue import CATALOGUE, PAPER
from .errors import UsageError
from .peer import Peer

__all__ = ["MACHINES", "Compute", "Exchange", "Link", "bench_scale", "fitted", "predicted", "predictions"]

MACHINES = (1, 4, 16, 64)
SIZED = ("digits", "full")  # of bench.SIZES
MESSAGES = (64, 1 << 10, 1 << 13, 1 << 16, 1 << 20, 1 << 23)  # bytes that each rank contributes
SAMPLES = CATALOGUE["mnist"].paper_samples  # the paper's schedule for MNIST (Table X), at the size "full"
EPOCHS, BATCH = PAPER.epochs, PAPER.batch_size
LARGER = 8  # times the paper's batch, to see what a larger one would gain


# ---- the model -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Compute:
    """Seconds of a step without any exchange: what does not depend on the samples and what each sample adds, both alone and
    as work that threads share.
    """

    fixed: float
    each: float
    fixed_shared: float
    each_shared: float

    def seconds(self, samples: float, count: int) -> float:
        """Of so many samples on ``count`` threads."""
        return self.fixed + self.each * samples + (self.fixed_shared + self.each_shared * samples) / count


@dataclasses.dataclass(frozen=True)
class Link:
    """What messages cost: latency in seconds, bandwidth in bytes a second."""

    latency: float
    bandwidth: float


NETWORKS = (Link(20e-6, 1.25e9), Link(2e-6, 12.5e9))  # Ethernet of 10 Gb/s, InfiniBand of 100


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What a rank gives to the others in a step.

    Attributes:
        gathers: bytes of each gather of batch norm's statistics.
        gradients: bytes of the row of all gradients.
        layout: seconds to lay the gradients out in a row and back, messages apart.
        backward: share of the compute that is the backward pass.
    """

    gathers: tuple[int, ...]
    gradients: int
    layout: float
    backward: float


def fitted(samples: Sequence[float], counts: Sequence[int], seconds: Sequence[float]) -> Compute:
    """The ``Compute`` nearest to measured steps in relative terms, none of whose constants is negative.

    Args:
        samples, counts, seconds: of each step: samples, threads, seconds.
    """
    n, k, t = (np.asarray(values, np.float64) for values in (samples, counts, seconds))
    columns = np.stack([np.ones_like(n), n, 1 / k, n / k], 1) / t[:, None]
    best, least = np.zeros(4), math.inf
    for some in itertools.chain.from_iterable(itertools.combinations(range(4), m) for m in range(1, 5)):
        found = np.linalg.lstsq(columns[:, some], np.ones_like(t), rcond=None)[0]
        off = float(np.sum((columns[:, some] @ found - 1) ** 2))
        if (found >= 0).all() and off < least * (1 - 1e-9):
            best, least = np.zeros(4), off
            best[list(some)] = found
    return Compute(*map(float, best))


def gather_seconds(size: float, machines: int, local: int, here: Link, network: Link) -> float:
    """Of a gather of ``size`` bytes from each of ``local`` ranks on each of so many machines."""
    ranks = machines * local
    within = math.ceil(math.log2(local)) * here.latency + local * (local - 1) * size / here.bandwidth
    between = math.ceil(math.log2(machines)) * network.latency + local * (ranks - local) * size / network.bandwidth
    return within + between


def predicted(
    compute: Compute, exchange: Exchange, batch: int, machines: int, local: int, count: int, here: Link, network: Link
) -> dict[str, float]:
    """The parts of a step in seconds: compute, statistics, gradients, and their sum, step.

    Args:
        compute, exchange: of the network.
        batch: samples of the whole batch.
        machines, local, count: machines, ranks on each, threads of each rank.
        here, network: the links within and between machines.
    """
    ranks = machines * local
    parts = dict(compute=compute.seconds(math.ceil(batch / ranks), count), statistics=0.0, gradients=0.0)
    if ranks > 1:
        parts["statistics"] = sum(gather_seconds(size, machines, local, here, network) for size in exchange.gathers)
        parts["gradients"] = exchange.layout + 2 * gather_seconds(exchange.gradients / ranks, machines, local, here, network)
    return parts | dict(step=sum(parts.values()))


def predictions(
    compute: Compute, exchange: Exchange, here: Link, network: Link, cores: int, machines: Sequence[int] = MACHINES
) -> list[dict[str, Any]]:
    """The paper's schedule on machines of so many cores, each with the number of ranks that is fastest.

    Returns:
        A list of dicts: machines, ranks (on each), threads (of each), the parts of a step, hours of the whole schedule, and the
        hours if one thing changed: overlap (the gradients travel while the backward pass computes), per_rank (statistics of
        each rank's own samples), larger (``LARGER`` times the batch, as many epochs).
    """
    rows = []
    for number in machines:

        def best(batch, number=number):
            choices = [n for n in range(1, cores + 1) if cores % n == 0 and n * number <= batch] or [1]
            parts = {n: predicted(compute, exchange, batch, number, n, cores // n, here, network) for n in choices}
            local = min(parts, key=lambda n: parts[n]["step"])
            return local, parts[local]

        local, parts = best(BATCH)
        steps = EPOCHS * math.ceil(SAMPLES / BATCH) / 3600
        hidden = min(parts["gradients"], exchange.backward * parts["compute"])
        rows.append(
            dict(machines=number, ranks=local, threads=cores // local, **parts, hours=steps * parts["step"])
            | dict(overlap=steps * (parts["step"] - hidden), per_rank=steps * (parts["step"] - parts["statistics"]))
            | dict(larger=steps / LARGER * best(LARGER * BATCH)[1]["step"])
        )
    return rows


# ---- what is measured ------------------------------------------------------------------------------------------------


def mpiexec() -> str:
    """The mpiexec beside this Python, or else the first on the path. Raises UsageError if there is none, or no mpi4py."""
    found = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        found = None
    if not found:
        raise UsageError("bench scale needs mpi4py and an mpiexec; install both with: pip install 'minisnn[mpi]'")
    return found


class Ranks(Peer):
    """So many processes that share a batch, or for 1 a single one without MPI. ``ask("name", ...)`` calls the function of that
    name in each of them, and returns what it returned in rank 0.
    """

    def __init__(self, count: int) -> None:
        line = [mpiexec(), "-n", str(count)] if count > 1 else []
        self.process: Any = subprocess.Popen(
            [*line, sys.executable, "-m", "minisnn.scaling"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )


def bench_scale(
    repeat: int = 7,
    sizes: Sequence[str] = SIZED,
    seed: int = 0,
    networks: Sequence[Link] | None = None,
    cores: int = 32,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Measure a step on one process and on two, fit the model, check it, and predict.

    Args:
        repeat: counted runs of each; medians are taken.
        sizes: names of ``bench.SIZES``.
        seed: of weights and input.
        networks: links between machines, for each of which to predict: assumptions; by default ``NETWORKS``.
        cores: of each machine: an assumption.
        say: called with each of the sizes' rows.

    Returns:
        dict: link (latency and bandwidth here), gathers ({bytes: seconds}), sizes (a list of dicts: size; steps, a list of
        (samples, threads, seconds, predicted); compute; exchange; one, two, ratio, one_predicted, two_predicted: a whole step
        of one process of two threads and of two ranks of one, and how many times as fast the latter is, the median over pairs;
        parts, what two ranks spend on what), predictions (of the size "full", if it is among the sizes: a list of dicts of
        latency, bandwidth and rows, what ``predictions`` returns).

    Raises:
        UsageError: MPI is missing, or this machine has a single core.
    """
    if threads.get_num_threads() < 2:
        raise UsageError("bench scale compares two ranks with two threads, and this process has one; give --threads 2")
    result: dict[str, Any] = {"sizes": []}
    with Ranks(1) as one, Ranks(2) as two:
        gathers = {size: two.ask("gathering", size=size) for size in MESSAGES}
        here = link_of(gathers)
        result |= dict(link=dataclasses.asdict(here), gathers=gathers)
        for name in sizes:
            row, compute, exchange = measured(name, one, two, repeat, seed, here)
            result["sizes"].append(row)
            say(row)
            if name == "full":
                result["predictions"] = [
                    dict(**dataclasses.asdict(link), rows=predictions(compute, exchange, here, link, cores))
                    for link in networks or NETWORKS
                ]
    return result


def link_of(gathers: dict[int, float]) -> Link:
    """Latency and bandwidth by gathers between two ranks, in which each gets what the other gives: the fastest, the largest."""
    latency = min(gathers.values())
    size, seconds = max(gathers.items())
    return Link(latency, 2 * size / max(seconds - latency, 1e-9))


def measured(name, one, two, repeat, seed, here):
    """One size: (row of ``bench_scale``, Compute, Exchange)."""
    batch = SIZES[name].batch_size
    for side in (one, two):
        side.ask("build", size=name, seed=seed)
    shares = [n for n in (1, 2, 4, 8, 16) if n <= batch // 2]
    steps = [(n, k, side.ask("alone", samples=n, repeat=repeat, count=k)) for n in shares for k, side in ((1, two), (2, one))]
    compute = fitted(*zip(*((n, k, found["seconds"]) for n, k, found in steps)))
    one.ask("together", count=2), two.ask("together", count=1)  # what has to be compiled or allocated first
    pairs = [(one.ask("together", count=2), two.ask("together", count=1)) for _ in range(repeat)]
    alone, shared = ({key: statistics.median(pair[k][key] for pair in pairs) for key in pairs[0][k]} for k in (0, 1))
    messages = two.ask("messages")
    exchange = Exchange(tuple(messages["gathers"]), messages["gradients"], shared["layout"], steps[-1][2]["backward"])
    whole = predicted(compute, exchange, batch, 1, 1, 2, here, here)
    both = predicted(compute, exchange, batch, 1, 2, 1, here, here)
    row = dict(
        size=name,
        batch=batch,
        steps=[(n, k, found["seconds"], compute.seconds(n, k)) for n, k, found in steps],
        compute=dataclasses.asdict(compute),
        exchange=dataclasses.asdict(exchange),
        one=alone["seconds"],
        one_predicted=whole["step"],
        two=shared["seconds"],
        two_predicted=both["step"],
        ratio=statistics.median(first["seconds"] / second["seconds"] for first, second in pairs),
        parts=shared,
        parts_predicted=both,
    )
    return row, compute, exchange


# ---- what runs in the ranks ------------------------------------------------------------------------------------------

_kept: dict[str, Any] = {}  # the network, its optimizer and its batch, from one request to the next


def build(size: str, seed: int) -> None:
    """The network of a size, and its batch."""
    net = own_network(SIZES[size], seed)
    x, y = input_of(SIZES[size], seed)
    _kept.update(net=net.train(), optimizer=optim.Adam(net.parameters(), 1e-9), x=x.data, y=y)


def learn(x, y, weight):
    """A step as training takes it; returns the seconds of its backward pass."""
    net, optimizer = _kept["net"], _kept["optimizer"]
    loss = ops.mse_loss(net(x), y)
    optimizer.zero_grad()
    start = time.perf_counter()
    (loss if weight == 1 else ops.mul(loss, weight)).backward()
    backward = time.perf_counter() - start
    if weight != 1:
        parallel.add_gradients(optimizer.parameters)
    optimizer.step()
    return backward


def alone(samples: int, repeat: int, count: int) -> dict[str, float]:
    """A step of so many samples on ``count`` threads, each rank for itself while the others do the same: the median of its
    seconds, and the backward pass's share.
    """
    threads.set_num_threads(count)
    own, times = slice(0, samples), []
    for _ in range(repeat + 1):
        meet()
        start = time.perf_counter()
        backward = learn(_kept["x"][:, own], _kept["y"][own], 1)
        times.append((time.perf_counter() - start, backward))
    seconds, backward = np.median(times[1:], 0)
    return dict(seconds=float(seconds), backward=float(backward / seconds))


def together(count: int) -> dict[str, float]:
    """A step of the whole batch over all ranks: its seconds; those spent on statistics and gradients, waiting included; and
    those of laying out the gradients.
    """
    threads.set_num_threads(count)
    spent: dict[str, float] = dict.fromkeys(("statistics", "gradients", "messages"), 0.0)
    meet()
    with parallel.part(len(_kept["y"])) as part, watched(spent):
        start = time.perf_counter()
        learn(_kept["x"][:, part.rows], _kept["y"][part.rows], parallel.weight())
        seconds = time.perf_counter() - start
    return dict(seconds=seconds, layout=spent["gradients"] - spent.pop("messages"), **spent)


class watched:  # noqa: N801 - used as a function
    """Within the ``with`` statement what crosses over adds to {what: seconds} of ``spent``; ``sizes`` lists its bytes."""

    def __init__(self, spent: dict[str, float], sizes: dict[str, list[int]] | None = None) -> None:
        self.spent, self.sizes = spent, sizes

    def __enter__(self):
        names = ("moments", "sums", "add_gradients", "gather", "deal")
        self.plain = {name: getattr(parallel, name) for name in names}
        self.flat = False  # whether the gradients are on their way
        for name, what in zip(names, ("statistics", "statistics", "gradients", "messages", "messages")):
            setattr(parallel, name, self.timed(self.plain[name], what))
        return self

    def __exit__(self, *error):
        for name, call in self.plain.items():
            setattr(parallel, name, call)

    def timed(self, call, what):
        def timed_call(*arguments):
            if what == "messages":
                if self.sizes is not None:
                    self.sizes["gradients" if self.flat else "gathers"].append(arguments[0].nbytes)
                if not self.flat:  # counted as statistics
                    return call(*arguments)
            start, before = time.perf_counter(), self.flat
            self.flat = before or what == "gradients"
            try:
                return call(*arguments)
            finally:
                self.flat = before
                self.spent[what] += time.perf_counter() - start

        return timed_call


def messages() -> dict[str, Any]:
    """Bytes of a step's gathers of statistics, each, and of its row of gradients."""
    sizes: dict[str, list[int]] = {"gathers": [], "gradients": []}
    with (
        parallel.part(len(_kept["y"])) as part,
        watched(dict.fromkeys(("statistics", "gradients", "messages"), 0.0), sizes),
    ):
        learn(_kept["x"][:, part.rows], _kept["y"][part.rows], parallel.weight())
    return dict(gathers=sizes["gathers"], gradients=sizes["gradients"][0])


def gathering(size: int) -> float:
    """Median seconds of a gather of so many bytes from each rank."""
    row, times = np.zeros(size // 8), []
    for _ in range(min(5000, (1 << 27) // size)):
        start = time.perf_counter()
        parallel.gather(row)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def meet() -> None:
    """Wait for all other ranks."""
    parallel.gathered(None)


def requests() -> Iterator[list[Any]]:
    """What rank 0 reads from standard input, in every rank. The others look for it now and then, and sleep."""
    world = parallel._State.world
    while True:
        if parallel.rank() == 0:
            line = sys.stdin.readline()
            request = json.loads(line) if line else None
            for other in range(1, parallel.size()):
                world.send(request, other)
        else:
            while not world.Iprobe(0):
                time.sleep(1e-3)
            request = world.recv(source=0)
        if request is None:
            return
        yield request


def main() -> None:
    """Answer requests until there are no more."""
    if parallel.launched()[0] > 1:
        parallel.begin()
    try:
        for name, arguments in requests():
            answer = globals()[name](**arguments)
            if parallel.rank() == 0:
                print(json.dumps(answer), flush=True)
    except BaseException:
        parallel.end(1)
        raise


if __name__ == "__main__":
    main()
