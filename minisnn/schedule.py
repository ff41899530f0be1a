"""What the paper's own training would take on this machine: steps of each data set's full configuration (Table X, width 64).

The inputs are drawn at random, since not every data set is at hand; a network that nothing has trained yet fires less than a
trained one, so its steps are the fastest.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from . import memory, models, ops, optim, threads, train
from .bench import learn
from .catalogue import CATALOGUE, NAMES
from .engine import Tensor

__all__ = ["PUBLISHED", "bench_paper"]

PUBLISHED = tuple(name for name in NAMES if CATALOGUE[name].paper)  # what the paper trains on
MODEL = "syna-t"
EVENTS = 0.1  # of a pixel in a time step, on average


def bench_paper(
    names: Sequence[str] | None = None, seed: int = 0, say: Callable[[dict[str, Any]], None] = lambda row: None, **changes: Any
) -> list[dict[str, Any]]:
    """Seconds, memory and hours of training SynA-T as Table X has it.

    Args:
        names: of the data sets, from ``PUBLISHED``; by default all of them.
        seed: of weights and input.
        say: called with each row.
        **changes: options of ``train.Options`` that take precedence over the recipe, such as a smaller ``width``.

    Returns:
        A list of dicts: dataset, timesteps, batch_size, epochs, width, steps (of the whole schedule), seconds (of the second of
        two steps), peak_mb (of a process that does nothing else; None if the system does not say) and hours (of all steps;
        evaluations come on top). seconds, peak_mb and hours are None where the process was killed, as systems do when memory
        runs out.
    """
    rows = []
    for name in names or PUBLISHED:
        o = options_for(name, seed, changes)
        steps = o.epochs * math.ceil(CATALOGUE[name].paper_samples / o.batch_size)
        found: dict[str, Any] = dict(seconds=None, peak_mb=None)
        own = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with own as process, contextlib.suppress(BrokenProcessPool):  # so that the peak is that of this data set
            found = process.submit(second_of_two, name, seed, changes, threads.get_num_threads()).result()
        hours = None if found["seconds"] is None else steps * found["seconds"] / 3600
        of = dict(timesteps=o.timesteps, batch_size=o.batch_size, epochs=o.epochs, width=o.width)
        rows.append(dict(dataset=name, **of, steps=steps, **found, hours=hours))
        say(rows[-1])
    return rows


def options_for(name, seed, changes):
    return train.Options(dataset=name, model=MODEL, recipe="paper", seed=seed, **changes)


def second_of_two(name, seed, changes, count):
    """Seconds of a second training step, and the most memory that the process held."""
    threads.set_num_threads(count)
    o, stem = options_for(name, seed, changes), CATALOGUE[name].stem
    net = models.from_config({"preset": name, **o.network()})
    train.set_gain(net, o.gain)
    optimizer = optim.Adam(net.parameters(), o.lr)
    rng = np.random.default_rng(seed)
    shape = (o.batch_size, stem.channels, stem.size, stem.size)
    if CATALOGUE[name].events:
        x = rng.poisson(EVENTS, (o.timesteps, *shape)).astype(np.float32)
    else:  # the same image at every step
        x = np.repeat(rng.random((1, *shape), np.float32), o.timesteps, axis=0)
    y = ops.one_hot(rng.integers(0, stem.classes, o.batch_size), stem.classes)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        learn(net, optimizer, Tensor(x), y)
        seconds = time.perf_counter() - start
    return dict(seconds=seconds, peak_mb=memory.peak_megabytes())
