"""How the cost of a training step grows with width, time steps, batch, side of the map and firing rate, beside what bounds it.

The bound adds up what no implementation of this kind can avoid, each at the rate that this machine reaches at nothing else:

    additions   the weight rows of every spike, forward, and the same number again in the weight gradient, by add_rows
    products    of the dense input gradient, by the matrix product; Winograd's saving is not counted, so it can beat its bound
    bytes       PASSES times every number of a layer's output, by a copy

so time over bound says how much there is to gain, and the parts of the bound say where.
"""

from __future__ import annotations

import contextlib
import math
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import ledger, models, ops, optim, train
from .bench import counted, learn, median_seconds, set_bias
from .engine import Tensor, no_grad
from .jit import parallel_kernel, prange
from .ops import dense_conv
from .ops.event_conv import LANES, add_rows
from .ops.rows import COLUMNS, product
from .ops.spikes import taps_inside

__all__ = ["AXES", "bench_growth", "machine_rates", "slope"]

BASE = dict(width=16, timesteps=4, batch=16, side=16, bias=0.0)
AXES: dict[str, tuple[float, ...]] = {
    "width": (8, 16, 32, 64),
    "timesteps": (2, 4, 8, 16),
    "batch": (4, 8, 16, 32),
    "side": (8, 16, 24, 32),
    "bias": (-0.6, -0.2, 0.2, 0.6, 1.0),  # of all batch norms, which sets the firing rate
}
# Every number of a layer's output is written by the convolution, read for mean and variance, for attention's features and by
# the neurons; backward it and its gradient are read and written by neurons and batch norm (6), and the gradient is read by both
# gradients of the convolution.
PASSES = 12


@parallel_kernel
def _add_many(y, table, rows, begin, shift):
    for task in prange(y.shape[0]):
        add_rows(y[task], 0, LANES, y[task], 0, LANES, table, rows, begin, begin[1:], shift, begin.size - 1, LANES)


@parallel_kernel
def _multiply_many(out, x, w, m, k):
    for task in prange(out.shape[0]):
        product(out[task], 0, COLUMNS, x, 0, k, 1, w, 0, COLUMNS, m, k, COLUMNS)


@parallel_kernel
def _copy_many(out, x):
    for task in prange(out.shape[0]):
        out[task] = x[task]


def machine_rates(repeat: int = 7) -> dict[str, float]:
    """Additions, products (multiply-adds) and bytes moved (read and written) in a second, on the threads in use."""
    tasks, runs, events, m, k = 64, 64, 32, 64, 256
    rng = np.random.default_rng(0)
    y, table = np.zeros((tasks, runs * LANES), np.float32), rng.random(512 * LANES, np.float32)
    rows = (rng.integers(0, 512, runs * events) * LANES).astype(np.uint32)
    begin, shift = np.arange(0, runs * events + 1, events, dtype=np.uint64), np.zeros(runs, np.uint32)
    out, x, w = np.empty((tasks, m * COLUMNS), np.float32), rng.random(m * k, np.float32), rng.random(k * COLUMNS, np.float32)
    large = rng.random((tasks, 1 << 16), np.float32)
    copied = np.empty_like(large)
    return {
        "additions": tasks * runs * events * LANES / median_seconds(lambda: _add_many(y, table, rows, begin, shift), repeat),
        "products": tasks * m * k * COLUMNS / median_seconds(lambda: _multiply_many(out, x, w, m, k), repeat),
        "bytes": 2 * large.nbytes / median_seconds(lambda: _copy_many(copied, large), repeat),
    }


@contextlib.contextmanager
def counting_input_gradients() -> Iterator[list[int]]:
    """Within the ``with`` statement, the products of every dense input gradient are appended to the list."""
    counts: list[int] = []
    plain = dense_conv.dense_input_gradient

    def counted(dx, dy, wt, window):
        B, H, W, Cin = dx.shape
        counts.append(B * taps_inside(H, W, window) * Cin * dy.shape[3])
        plain(dx, dy, wt, window)

    dense_conv.dense_input_gradient = counted
    try:
        yield counts
    finally:
        dense_conv.dense_input_gradient = plain


def measured(case, repeat, seed):
    """One case: seconds, megabytes that arrays take at most, firing rate, and the counts of a step."""
    net = models.build("digits", width=case["width"], timesteps=case["timesteps"], seed=seed, **models.SYSTEMS["syna-t"])
    train.set_gain(net, 1.7)
    set_bias(net, case["bias"])
    rng = np.random.default_rng(seed)
    x = Tensor(rng.random((case["timesteps"], case["batch"], 1, case["side"], case["side"]), np.float32))
    y = ops.one_hot(rng.integers(0, 10, case["batch"]), 10)
    optimizer = optim.Adam(net.parameters(), 1e-9)  # which leaves the weights, and so the firing rate, as they are
    state = net.state_dict()
    with no_grad():
        entries = counted(net, x)
    net.load_state_dict(state)
    learn(net, optimizer, x, y)  # whatever has to be compiled first
    with counting_input_gradients() as products:
        tracemalloc.start()
        learn(net, optimizer, x, y)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return dict(
        seconds=median_seconds(lambda: learn(net, optimizer, x, y), repeat),
        memory_mb=peak,
        firing_rate=ledger.firing_rate(entries),
        additions=2 * sum(e.ac for e in entries if e.kind == "conv"),
        products=sum(products),
        bytes=PASSES * 4 * sum(e.neurons for e in entries if e.kind == "neurons"),
    )


def bench_growth(
    repeat: int = 5,
    seed: int = 0,
    axes: dict[str, tuple[float, ...]] = AXES,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Time and memory of a training step of SynA-T along each axis, the others held at ``BASE``.

    Args:
        repeat: counted runs of each; medians are taken.
        seed: of weights and input.
        axes: {name in ``BASE``: values}.
        say: called with each row.

    Returns:
        dict: rates (``machine_rates``), slopes ({axis: {seconds, memory_mb}}, exponents of the best power law; of the bias,
        against the firing rate), and rows: axis, value, seconds, memory_mb, firing_rate, additions, products, bytes of a step,
        and bound, the seconds that they take at the machine's rates.
    """
    rates, rows = machine_rates(), []
    for axis, values in axes.items():
        for value in values:
            row = dict(axis=axis, value=value, **measured(BASE | {axis: value}, repeat, seed))
            row["bound"] = sum(row[name] / rate for name, rate in rates.items())
            rows.append(row)
            say(row)
    slopes = {axis: slopes_of([row for row in rows if row["axis"] == axis]) for axis in axes}
    return dict(rates=rates, slopes=slopes, rows=rows)


def slopes_of(rows):
    along = [row["firing_rate"] if row["axis"] == "bias" else row["value"] for row in rows]
    return {name: slope(along, [row[name] for row in rows]) for name in ("seconds", "memory_mb", "bound")}


def slope(along: Sequence[float], values: Sequence[float]) -> float:
    """The exponent p of values ~ along^p, by least squares of the logarithms; NaN for a single value."""
    if len(along) < 2:
        return math.nan
    return float(np.polyfit(np.log(along), np.log(values), 1)[0])
