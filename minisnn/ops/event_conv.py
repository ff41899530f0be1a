"""Convolution of spikes by additions only: a neuron that fired adds its weights, one that did not costs nothing.

Axes and names as in dense_conv.py: images x[B,H,W,Cin], here spikes, bytes 0 or 1; weights wt[kh,kw,Cin,Cout], so that what
one spike adds is contiguous rows; outputs y[B,Ho,Wo,Cout].

    y[b, oy, ox] = bias + sum of wt[ky, kx, ci] over the spikes x[b, iy, ix, ci],
                   iy = oy * stride_h + ky - pad_h,    ix = ox * stride_w + kx - pad_w

The module is a ladder: each rung adds one idea to the one below it. The tests check, on whole numbers, where no
sum is rounded, that the fast loops equal the plain ones that define them, and the top rung the bottom one.

1. event_forward_loops, event_weight_gradient_loops: the definition. Every output pixel asks each input that it sees whether it
   fired.
2. Ask once. spikes.find_events lists the spikes of each image in memory order, so the input columns under a row of the kernel
   are one piece of the list. gather_rows_loops turns the kh pieces that an output pixel sees into a list of the
   weight rows that it adds.
3. One inner loop for both directions, add_rows_loops. Forward, an output pixel adds the weight rows of the spikes that it
   sees. Backward, a weight row adds the output-gradient rows of the pixels at which its channel fired, for which _sort_block
   sorts the spikes by channel.
4. Sums in registers: add_rows, where the 32 sums are the entries of tuples, and in narrow layers only 16 (`lanes`).
5. Rows in the cache: only so many channels are added at a time, from a table into which _pack_channels copied them, close
   together. FORWARD_BYTES and BACKWARD_BYTES are the table's size, unless not even those channels, or one image, fit.
6. No branches: list_spikes_by_words and gather_rows write eight numbers at a time, needed or not; the next eight overwrite
   those that were not.
7. Threads: forward, each takes a share of the rows of output pixels. Backward, each takes a share of the channels of groups of
   images, and the groups are added up at the end; they depend only on the shapes, so no sum depends on the threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from ..jit import kernel, parallel_kernel, prange
from .layout import Window
from .rows import store
from .spikes import Events

__all__ = ["lanes_for", "event_forward", "event_weight_gradient", "event_forward_loops", "event_weight_gradient_loops"]

LANES = 32  # output channels whose sums add_rows keeps in registers; half of them where there are no more channels
FORWARD_BYTES = 768 << 10  # weights that a thread works on at a time; they should stay in its level-2 cache
BACKWARD_BYTES = 384 << 10  # output gradients, likewise
PARTIAL_BYTES = 2 << 20  # of partial weight gradients, at most
BACKWARD_UNITS = 16  # pieces of work of the weight gradient: a function of the shape, never of the threads


def lanes_for(Cout: int) -> int:
    """How many output channels are added at a time."""
    return LANES // 2 if Cout <= LANES // 2 else LANES


# ---- the definition --------------------------------------------------------------------------------------------------


@kernel
def event_forward_loops(y, x, wt, bias, window):
    # y[B,Ho,Wo,Cout] <- x[B,H,W,Cin], wt[kh,kw,Cin,Cout], bias[Cout]; returns the number of additions
    additions = 0
    for b in range(y.shape[0]):
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                for co in range(y.shape[3]):
                    y[b, oy, ox, co] = bias[co]
                for ky in range(window.kh):
                    for kx in range(window.kw):
                        iy, ix = oy * window.stride_h + ky - window.pad_h, ox * window.stride_w + kx - window.pad_w
                        if 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2]:
                            for ci in range(x.shape[3]):
                                if x[b, iy, ix, ci]:
                                    for co in range(y.shape[3]):
                                        y[b, oy, ox, co] += wt[ky, kx, ci, co]
                                    additions += y.shape[3]
    return additions


@kernel
def event_weight_gradient_loops(dwt, dy, x, window):
    # dwt[kh,kw,Cin,Cout] <- dy[B,Ho,Wo,Cout], x[B,H,W,Cin]
    dwt[:] = 0
    for b in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for ky in range(window.kh):
                    for kx in range(window.kw):
                        iy, ix = oy * window.stride_h + ky - window.pad_h, ox * window.stride_w + kx - window.pad_w
                        if 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2]:
                            # y[b,oy,ox,co] += wt[ky,kx,ci,co] where x[b,iy,ix,ci] fired
                            for ci in range(x.shape[3]):
                                if x[b, iy, ix, ci]:
                                    for co in range(dy.shape[3]):
                                        dwt[ky, kx, ci, co] += dy[b, oy, ox, co]


# ---- the inner loop of both directions -------------------------------------------------------------------------------


@kernel
def add_rows_loops(y, y_first, y_step, base, base_first, base_step, table, rows, begin, end, shift, runs, lanes):
    # The definition: y[run] <- base[run] + sum of table[rows[e] + shift[run]] over begin[run] <= e < end[run], `lanes` numbers
    # wide. The numbers of run r begin at y_first + r * y_step in y, and at base_first + r * base_step in base.
    for run in range(runs):
        for lane in range(lanes):
            total = base[base_first + run * base_step + lane]
            for e in range(begin[run], end[run]):
                total += table[rows[e] + shift[run] + np.uint32(lane)]
            y[y_first + run * y_step + lane] = total


@kernel
def _load(x, a):
    # 16 numbers as a tuple, which the compiler keeps in one or two vector registers
    return (
        x[a],
        x[a + np.uint64(1)],
        x[a + np.uint64(2)],
        x[a + np.uint64(3)],
        x[a + np.uint64(4)],
        x[a + np.uint64(5)],
        x[a + np.uint64(6)],
        x[a + np.uint64(7)],
        x[a + np.uint64(8)],
        x[a + np.uint64(9)],
        x[a + np.uint64(10)],
        x[a + np.uint64(11)],
        x[a + np.uint64(12)],
        x[a + np.uint64(13)],
        x[a + np.uint64(14)],
        x[a + np.uint64(15)],
    )


@kernel
def _plus(s, x, a):
    return (
        s[0] + x[a],
        s[1] + x[a + np.uint64(1)],
        s[2] + x[a + np.uint64(2)],
        s[3] + x[a + np.uint64(3)],
        s[4] + x[a + np.uint64(4)],
        s[5] + x[a + np.uint64(5)],
        s[6] + x[a + np.uint64(6)],
        s[7] + x[a + np.uint64(7)],
        s[8] + x[a + np.uint64(8)],
        s[9] + x[a + np.uint64(9)],
        s[10] + x[a + np.uint64(10)],
        s[11] + x[a + np.uint64(11)],
        s[12] + x[a + np.uint64(12)],
        s[13] + x[a + np.uint64(13)],
        s[14] + x[a + np.uint64(14)],
        s[15] + x[a + np.uint64(15)],
    )


@kernel
def add_rows(y, y_first, y_step, base, base_first, base_step, table, rows, begin, end, shift, runs, lanes):
    # The sums of a run are tuples, which the compiler keeps in registers: an event costs only one vector load and addition
    # per 16 floats. An array would be written back to memory after every event, since the compiler cannot know that no
    # row overlaps it: measured, that takes 4 to 8 times as long.
    half = np.uint64(16)
    for run in range(runs):
        b, o = np.uint64(base_first + run * base_step), np.uint64(y_first + run * y_step)
        s = _load(base, b)
        if lanes == 16:
            for e in range(begin[run], end[run]):
                s = _plus(s, table, np.uint64(rows[e] + shift[run]))
        else:
            t = _load(base, b + half)
            for e in range(begin[run], end[run]):
                r = np.uint64(rows[e] + shift[run])
                s, t = _plus(s, table, r), _plus(t, table, r + half)
            store(y, o + half, t)
        store(y, o, s)


@kernel
def _aligned_empty(size, like):
    # A vector load that straddles two cache lines costs two loads, so tables begin at a cache line.
    raw = np.empty(size + 64, like.dtype)
    skip = (-raw.ctypes.data) % 64 // raw.itemsize
    return raw[skip : skip + size]


@kernel
def _pack_channels(table, first, source, row0, rows, width, co, lanes):
    # Channels co to co + lanes of source's rows, close together in table; if there are fewer, the rest stays as it is.
    channels = min(lanes, width - co)
    for r in range(rows):
        to = table[first + r * lanes :][:lanes]
        row = source[(row0 + r) * width + co :][:lanes]
        for lane in range(channels):
            to[lane] = row[lane]


# ---- forward ---------------------------------------------------------------------------------------------------------


@kernel
def gather_rows_loops(rows, begin, offsets, positions, oy, Cin, window, lanes):
    # The definition: rows[begin[ox]:begin[ox + 1]] <- where the weight rows that output pixel (oy, ox) adds begin in a table
    # of rows of `lanes` numbers. Spike (iy, ix, ci) adds row (ky * kw + kx) * Cin + ci. In the list it is ix * Cin + ci, so
    # all spikes of a piece are shifted by the same number. Returns how many rows there are.
    n = np.uint64(0)
    for ox in range(begin.size - 1):
        begin[ox] = n
        left = ox * window.stride_w - window.pad_w
        ix0, ix1 = max(left, 0), min(left + window.kw, offsets.shape[1] - 1)
        for ky in range(window.kh):
            iy = oy * window.stride_h + ky - window.pad_h
            if 0 <= iy < offsets.shape[0] and ix0 < ix1:
                for e in range(offsets[iy, ix0], offsets[iy, ix1]):
                    rows[n] = (positions[e] + (ky * window.kw - left) * Cin) * lanes
                    n += np.uint64(1)
    begin[begin.size - 1] = n
    return np.int64(n)


@kernel
def gather_rows(rows, begin, offsets, positions, oy, Cin, window, lanes):
    # Like gather_rows_loops, eight at a time: up to 7 too many, which the next piece overwrites.
    H, W = offsets.shape[0], offsets.shape[1] - 1
    n = np.uint64(0)
    for ox in range(begin.size - 1):
        begin[ox] = n
        left = ox * window.stride_w - window.pad_w
        ix0, ix1 = max(left, 0), min(left + window.kw, W)
        if ix0 < ix1:
            for ky in range(window.kh):
                iy = oy * window.stride_h + ky - window.pad_h
                if 0 <= iy < H:
                    e0, e1 = np.uint64(offsets[iy, ix0]), np.uint64(offsets[iy, ix1])
                    shift = np.int32((ky * window.kw - left) * Cin)
                    after = n + (e1 - e0)
                    for e in range(e0, e1, 8):
                        p0, p1 = positions[e], positions[e + np.uint64(1)]
                        p2, p3 = positions[e + np.uint64(2)], positions[e + np.uint64(3)]
                        p4, p5 = positions[e + np.uint64(4)], positions[e + np.uint64(5)]
                        p6, p7 = positions[e + np.uint64(6)], positions[e + np.uint64(7)]
                        rows[n] = (p0 + shift) * lanes
                        rows[n + np.uint64(1)] = (p1 + shift) * lanes
                        rows[n + np.uint64(2)] = (p2 + shift) * lanes
                        rows[n + np.uint64(3)] = (p3 + shift) * lanes
                        rows[n + np.uint64(4)] = (p4 + shift) * lanes
                        rows[n + np.uint64(5)] = (p5 + shift) * lanes
                        rows[n + np.uint64(6)] = (p6 + shift) * lanes
                        rows[n + np.uint64(7)] = (p7 + shift) * lanes
                        n += np.uint64(8)
                    n = after
    begin[begin.size - 1] = n
    return np.int64(n)


@kernel
def _forward_share(t, threads, y, offsets, positions, wt, start, group, window, lanes):
    # A thread packs the weights of a group of chunks, `lanes` channels each, and takes its rows of y through them.
    B, Ho, Wo, Cout = y.shape
    Cin = wt.shape[2]
    R = window.kh * window.kw * Cin
    chunks = start.size // lanes
    units = (chunks + group - 1) // group * B * Ho
    outputs = y.reshape(-1)
    weights = wt.reshape(-1)
    table = _aligned_empty(group * R * lanes, wt)
    table[:] = 0
    rows = np.empty(Wo * R + 8, np.uint32)
    begin = np.empty(Wo + 1, np.uint64)
    shift = np.zeros(Wo, np.uint32)
    last = np.empty(Wo * lanes, wt.dtype)
    same = np.int64(0)  # a literal 0 would be compiled as a type of its own
    packed = -1
    added = 0
    for unit in range(t * units // threads, (t + 1) * units // threads):
        g = unit // (B * Ho)
        b = unit // Ho - g * B
        oy = unit - (g * B + b) * Ho
        chunk0, chunk1 = g * group, min(chunks, g * group + group)
        if packed != g:
            for chunk in range(chunk0, chunk1):
                _pack_channels(table, (chunk - chunk0) * R * lanes, weights, same, R, Cout, chunk * lanes, lanes)
            packed = g
        n = gather_rows(rows, begin, offsets[b], positions, oy, Cin, window, lanes)
        added += n * (min(Cout, chunk1 * lanes) - chunk0 * lanes)
        pixel = (b * Ho + oy) * Wo
        for chunk in range(chunk0, chunk1):
            co = chunk * lanes
            chunk_table = table[(chunk - chunk0) * R * lanes :]
            whole = co + lanes <= Cout
            to, first, step = (outputs, pixel * Cout + co, Cout) if whole else (last, 0, lanes)
            add_rows(to, first, step, start, co, same, chunk_table, rows, begin, begin[1:], shift, Wo, lanes)
            if not whole:
                for ox in range(Wo):
                    for lane in range(Cout - co):
                        outputs[(pixel + ox) * Cout + co + lane] = last[ox * lanes + lane]
    return added


@parallel_kernel
def _forward(additions, y, offsets, positions, wt, start, group, window, lanes):
    threads = additions.size
    for t in prange(threads):
        additions[t] = _forward_share(np.int64(t), threads, y, offsets, positions, wt, start, group, window, lanes)


def event_forward(y: np.ndarray, events: Events, wt: np.ndarray, bias: np.ndarray, window: Window) -> int:
    """Convolve spikes: every output pixel adds the weight rows of the spikes that it sees, in ascending order.

    Args:
        y: receives the output, [B,Ho,Wo,Cout], C-contiguous.
        events: what find_events(x) returned.
        wt: weights [kh,kw,Cin,Cout], C-contiguous, of y's dtype.
        bias: [Cout], the value from which each output pixel starts.
        window: Window.

    Returns:
        The number of additions: rows added times Cout; nothing is added beyond the border.
    """
    _check(events, y, wt, window)
    Cout = wt.shape[3]
    lanes = lanes_for(Cout)
    chunks = -(-Cout // lanes)
    start = np.zeros(chunks * lanes, wt.dtype)
    start[:Cout] = bias
    # As many chunks at a time as have weights that fit in the cache, in groups of about equal size.
    groups = -(-chunks // max(1, FORWARD_BYTES // (wt.nbytes // Cout * lanes)))
    additions = np.empty(numba.get_num_threads(), np.int64)
    _forward(additions, y, events.offsets, events.positions, wt, start, -(-chunks // groups), window, lanes)
    return int(additions.sum())


# ---- weight gradient -------------------------------------------------------------------------------------------------
#
# The events of a few images (a block) are sorted by channel. Under tap (ky, kx) a spike at (iy, ix) reaches output pixel
# ((iy + pad_h - ky) / stride_h, (ix + pad_w - kx) / stride_w) where both divide evenly. Spikes of equal iy % stride_h and
# ix % stride_w (a class) divide under the same taps, and reach iy // stride_h + down and ix // stride_w + right: a fixed
# shift. So one list per class and channel serves the whole kernel, and the spikes of the list are, in order, those of each
# input row of the class. Output columns that do not exist are zeros in the table; output rows that do not exist are cut from
# the list.


class Table(NamedTuple):
    """Layout of the output gradients of a block of images: rows of `lanes` numbers, one for each pixel, zeros around them."""

    lanes: int  # numbers of a row
    block: int  # images
    heights: int  # input rows of a class
    width: int  # pixels of a row, the columns of zeros included
    left: int  # columns of zeros before a row's first pixel
    above: int  # pixels of zeros before the first row


def _table_for(x_shape, y_shape, window, itemsize):
    # As many zeros left, right and above as the shifts reach, as many images as the cache holds.
    (B, H, W), (_, Ho, Wo, Cout) = x_shape, y_shape
    lanes = lanes_for(Cout)
    left = max(0, (window.kw - 1 - window.pad_w) // window.stride_w)
    width = left + max(Wo, -(-W // window.stride_w) + (window.pad_w + window.stride_w - 1) // window.stride_w)
    above = max(0, (window.kh - 1 - window.pad_h) // window.stride_h) * width
    block = int(min(B, max(1, BACKWARD_BYTES // (Ho * width * lanes * itemsize))))
    return Table(lanes, block, -(-H // window.stride_h), width, left, above)


@kernel
def _sort_block(rows, bound, offsets, positions, b0, b1, Cin, Ho, at, window):
    # rows <- where the pixel of each spike of images b0:b1 is in the table, sorted by class, channel and input row; bound <-
    # where in rows each of those begins. A counting sort: count the keys, add up the counts, put each spike in its place.
    H, W = offsets.shape[1], offsets.shape[2] - 1
    key_of = np.empty(W * Cin, np.int64)
    column_of = np.empty(W * Cin, np.int64)
    for ix in range(W):
        for ci in range(Cin):
            key_of[ix * Cin + ci] = (ix % window.stride_w * Cin + ci) * at.heights
            column_of[ix * Cin + ci] = ix // window.stride_w
    row_keys = window.stride_w * Cin * at.heights
    bound[:] = 0
    for b in range(b0, b1):
        for iy in range(H):
            key = np.uint64(iy % window.stride_h * row_keys + iy // window.stride_h + 1)
            for e in range(np.uint64(offsets[b, iy, 0]), np.uint64(offsets[b, iy, W])):
                bound[key + np.uint64(key_of[np.uint64(positions[e])])] += np.uint64(1)
    bound[0] = offsets[b0, 0, 0]
    for key in range(1, bound.size):
        bound[key] += bound[key - 1]
    place = bound[:-1].copy()
    for b in range(b0, b1):
        for iy in range(H):
            key = np.uint64(iy % window.stride_h * row_keys + iy // window.stride_h)
            row = ((b - b0) * Ho + iy // window.stride_h) * at.width
            for e in range(np.uint64(offsets[b, iy, 0]), np.uint64(offsets[b, iy, W])):
                position = np.uint64(positions[e])
                own = key + np.uint64(key_of[position])
                rows[place[own]] = (row + column_of[position]) * at.lanes
                place[own] += np.uint64(1)


@parallel_kernel
def _sort_events(rows, bounds, offsets, positions, Cin, Ho, at, window):
    for n in prange(bounds.shape[0]):
        b0 = n * at.block
        _sort_block(rows, bounds[n], offsets, positions, b0, min(offsets.shape[0], b0 + at.block), Cin, Ho, at, window)


@kernel
def _reach(first, last, shift, own, Ho, at, window):
    # Per tap: which input rows of class `own` reach an output row, first to last, and how far their pixels are shifted.
    for tap in range(first.size):
        over_h = own // window.stride_w + window.pad_h - tap // window.kw
        over_w = own % window.stride_w + window.pad_w - tap % window.kw
        first[tap] = last[tap] = shift[tap] = 0
        if over_h % window.stride_h == 0 and over_w % window.stride_w == 0:
            down, right = over_h // window.stride_h, over_w // window.stride_w
            h0, h1 = max(0, -down), min(at.heights, Ho - down)
            if h0 < h1:
                first[tap], last[tap] = h0, h1
                shift[tap] = (at.above + down * at.width + at.left + right) * at.lanes


@kernel
def _write_sums(dwt, sums, taps, Cin, Cout, co, lanes):
    # Channels co to co + lanes of dwt[taps * Cin * Cout] <- sums[Cin][taps][lanes]
    for tap in range(taps):
        for ci in range(Cin):
            to = dwt[(tap * Cin + ci) * Cout + co :][: min(lanes, Cout - co)]
            own = sums[(ci * taps + tap) * lanes :]
            for lane in range(to.size):
                to[lane] = own[lane]


@kernel
def _gradient_share(t, threads, dwt, dy, rows, bounds, at, window):
    # dwt[groups,kh,kw,Cin,Cout]: groups of images are summed separately and added up by the caller.
    groups, Cin, Cout = dwt.shape[0], dwt.shape[3], dwt.shape[4]
    B, Ho, Wo, _ = dy.shape
    taps = window.kh * window.kw
    blocks = bounds.shape[0]
    lanes = np.int64(at.lanes)
    chunks = (Cout + lanes - 1) // lanes
    units = groups * chunks
    gradients = dy.reshape(-1)
    table = _aligned_empty((at.above + at.block * Ho * at.width) * lanes, dy)
    table[:] = 0
    sums = _aligned_empty(Cin * taps * lanes, dy)
    begin = np.empty(taps, np.uint64)
    end = np.empty(taps, np.uint64)
    shift = np.empty(taps, np.uint32)
    first = np.empty(taps, np.int64)
    last = np.empty(taps, np.int64)
    for unit in range(t * units // threads, (t + 1) * units // threads):
        g = unit // chunks
        co = (unit - g * chunks) * lanes
        sums[:] = 0
        for n in range(g * blocks // groups, (g + 1) * blocks // groups):
            b0, b1 = n * at.block, min(B, n * at.block + at.block)
            for r in range((b1 - b0) * Ho):
                _pack_channels(
                    table, (at.above + r * at.width + at.left) * lanes, gradients, (b0 * Ho + r) * Wo, Wo, Cout, co, lanes
                )
            for own in range(window.stride_h * window.stride_w):
                _reach(first, last, shift, own, Ho, at, window)
                for ci in range(Cin):
                    bound = bounds[n, (own * Cin + ci) * at.heights :]
                    for tap in range(taps):
                        begin[tap] = bound[first[tap]]
                        end[tap] = bound[last[tap]]
                    own_sums = ci * taps * lanes
                    add_rows(sums, own_sums, lanes, sums, own_sums, lanes, table, rows, begin, end, shift, taps, lanes)
        _write_sums(dwt[g].reshape(-1), sums, taps, Cin, Cout, co, lanes)


@parallel_kernel
def _weight_gradient(threads, dwt, dy, rows, bounds, at, window):
    for t in prange(threads):
        _gradient_share(np.int64(t), threads, dwt, dy, rows, bounds, at, window)


def event_weight_gradient(dwt: np.ndarray, dy: np.ndarray, events: Events, window: Window) -> None:
    """Weight gradient of event_forward: every weight row adds the output gradients that its spikes reached.

    The order of summation depends on the shapes and the spikes, not on the number of threads.

    Args:
        dwt: receives the gradient, [kh,kw,Cin,Cout], C-contiguous.
        dy: gradient of the output, [B,Ho,Wo,Cout], C-contiguous, of dwt's dtype.
        events: what find_events(x) returned for the forward pass.
        window: as in the forward pass.
    """
    B, H, W = _check(events, dy, dwt, window)
    _, _, Cin, Cout = dwt.shape
    at = _table_for((B, H, W), dy.shape, window, dy.itemsize)
    blocks = -(-B // at.block)
    groups = min(blocks, -(-BACKWARD_UNITS // -(-Cout // at.lanes)), max(1, PARTIAL_BYTES // dwt.nbytes))
    rows = np.empty(events.positions.size, np.uint32)
    bounds = np.empty((blocks, window.stride_h * window.stride_w * Cin * at.heights + 1), np.uint64)
    _sort_events(rows, bounds, events.offsets, events.positions, Cin, dy.shape[1], at, window)
    parts = dwt[None] if groups == 1 else np.empty((groups, *dwt.shape), dwt.dtype)
    _weight_gradient(numba.get_num_threads(), parts, dy, rows, bounds, at, window)
    if groups > 1:
        np.sum(parts, axis=0, out=dwt)


def _check(events, y, wt, window):
    # Returns the shape of the images, (B, H, W).
    B, H, W = events.offsets.shape[0], events.offsets.shape[1], events.offsets.shape[2] - 1
    kh, kw, Cin, Cout = wt.shape
    if (kh, kw) != (window.kh, window.kw):
        raise ValueError(f"the weights have a kernel of {kh}x{kw}, the window one of {window.kh}x{window.kw}")
    if Cin != events.channels:
        raise ValueError(f"the weights have {Cin} input channels, the spikes {events.channels}")
    shape = (B, *window.output_shape(H, W), Cout)
    if y.shape != shape:
        raise ValueError(f"the output of this convolution is {shape}, the array for it is {y.shape}")
    if y.dtype != wt.dtype or not (y.flags.c_contiguous and wt.flags.c_contiguous):
        raise ValueError(f"weights ({wt.dtype}) and output ({y.dtype}) must be C-contiguous and of the same dtype")
    return B, H, W
