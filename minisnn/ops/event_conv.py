"""Convolution of spikes by additions only: a neuron that fired adds its weights, one that did not costs nothing.

B images (T time steps x N samples), H height, W width, Cin and Cout channels; kh, kw kernel height and width;
Ho, Wo output height and width. i, j run over kernel rows and columns, c over input channels, k over output channels.

    X  [B, H, W, Cin]       spikes, uint8 0 or 1
    Wt [kh, kw, Cin, Cout]  weights, so that one spike adds contiguous rows
    Y  [B, Ho, Wo, Cout]    output, Y[b, oh, ow] = initial + sum of Wt[i, j, c] over the spikes
                            X[b, oh * stride_h - pad_h + i, ow * stride_w - pad_w + j, c]

Both directions are the same inner loop, add_rows. Forward, an output pixel adds the weight rows of the spikes that
it sees. Backward, a weight row adds the output-gradient rows of the pixels at which its channel fired.
"""

from collections import namedtuple

import numba
import numpy as np

from ..jit import kernel, parallel_kernel, prange

__all__ = ["Events", "find_events", "spikes_per_image", "event_forward", "event_weight_gradient", "event_forward_loops",
           "event_weight_gradient_loops"]

LANES = 32  # output channels whose sums add_rows keeps in registers
FORWARD_BYTES = 768 << 10  # weights that a thread works on at a time; they should stay in its level-2 cache
BACKWARD_BYTES = 384 << 10  # output gradients, likewise
BACKWARD_PARTS = 2 << 20  # bytes of partial weight gradients, at most
BACKWARD_UNITS = 16  # pieces of work of the weight gradient: a function of the shape, never of the threads

Events = namedtuple("Events", "offsets positions channels spikes")

# For a byte whose bits are eight neighbouring spikes: the numbers of the set bits, in order; how many there are.
_BITS = np.zeros((256, 8), np.int32)
_COUNT = np.zeros(256, np.uint64)
for _byte in range(256):
    _set = [_bit for _bit in range(8) if _byte >> _bit & 1]
    _BITS[_byte, : len(_set)] = _set
    _COUNT[_byte] = len(_set)


# ---- the definition: two loops to read -------------------------------------------------------------------------------


@kernel
def event_forward_loops(Y, X, Wt, initial, stride_h, stride_w, pad_h, pad_w):
    B, H, W, Cin = X.shape
    kh, kw, _, Cout = Wt.shape
    additions = 0
    for b in range(B):
        for oh in range(Y.shape[1]):
            for ow in range(Y.shape[2]):
                for k in range(Cout):
                    Y[b, oh, ow, k] = initial[k]
                for i in range(kh):
                    for j in range(kw):
                        ih = oh * stride_h - pad_h + i
                        iw = ow * stride_w - pad_w + j
                        if 0 <= ih < H and 0 <= iw < W:
                            for c in range(Cin):
                                if X[b, ih, iw, c]:
                                    for k in range(Cout):
                                        Y[b, oh, ow, k] += Wt[i, j, c, k]
                                    additions += Cout
    return additions


@kernel
def event_weight_gradient_loops(dWt, dY, X, stride_h, stride_w, pad_h, pad_w):
    # forward: Y[b, oh, ow, k] += Wt[i, j, c, k] where X[b, ih, iw, c] fired
    B, H, W, Cin = X.shape
    kh, kw, _, Cout = dWt.shape
    dWt[:] = 0
    for b in range(B):
        for oh in range(dY.shape[1]):
            for ow in range(dY.shape[2]):
                for i in range(kh):
                    for j in range(kw):
                        ih = oh * stride_h - pad_h + i
                        iw = ow * stride_w - pad_w + j
                        if 0 <= ih < H and 0 <= iw < W:
                            for c in range(Cin):
                                if X[b, ih, iw, c]:
                                    for k in range(Cout):
                                        dWt[i, j, c, k] += dY[b, oh, ow, k]


# ---- where the spikes are --------------------------------------------------------------------------------------------


@parallel_kernel
def _count_spikes(counts, X):
    for b in prange(X.shape[0]):
        x = X[b].reshape(-1)
        n = 0
        for p in range(x.size):
            n += np.int64(x[p])  # as plain Python too, where a sum of bytes would stay a byte
        counts[b] = n


@parallel_kernel
def _list_spikes(offsets, positions, X, first, bits, count):
    for b in prange(X.shape[0]):
        if X.shape[3] % 8 == 0:
            _list_words(offsets[b], positions, X[b].reshape(-1).view(np.uint64), np.uint64(first[b]), bits, count)
        else:
            _list_bytes(offsets[b], positions, X[b].reshape(-1), np.uint64(first[b]))


@kernel
def _list_words(offsets, positions, x, n, bits, count):
    # Eight spikes at a time and no branch: all eight places are written, and the next word overwrites the unused ones.
    H = offsets.shape[0]
    W = offsets.shape[1] - 1
    words = x.size // (H * W)
    p = np.uint64(0)
    for ih in range(H):
        position = np.int32(0)
        for iw in range(W):
            offsets[ih, iw] = n
            for _ in range(words):
                word = x[p]
                p += np.uint64(1)
                word |= word >> np.uint64(7)  # the low bits of the eight bytes gather in the lowest byte
                word |= word >> np.uint64(14)
                word |= word >> np.uint64(28)
                byte = word & np.uint64(255)
                p0, p1, p2, p3 = bits[byte, 0], bits[byte, 1], bits[byte, 2], bits[byte, 3]
                p4, p5, p6, p7 = bits[byte, 4], bits[byte, 5], bits[byte, 6], bits[byte, 7]
                positions[n] = p0 + position
                positions[n + np.uint64(1)] = p1 + position
                positions[n + np.uint64(2)] = p2 + position
                positions[n + np.uint64(3)] = p3 + position
                positions[n + np.uint64(4)] = p4 + position
                positions[n + np.uint64(5)] = p5 + position
                positions[n + np.uint64(6)] = p6 + position
                positions[n + np.uint64(7)] = p7 + position
                n += count[byte]
                position = np.int32(position + 8)
        offsets[ih, W] = n


@kernel
def _list_bytes(offsets, positions, x, n):
    H = offsets.shape[0]
    W = offsets.shape[1] - 1
    channels = x.size // (H * W)
    p = 0
    for ih in range(H):
        for iw in range(W):
            offsets[ih, iw] = n
            for c in range(channels):
                positions[n] = iw * channels + c
                n += np.uint64(x[p])
                p += 1
        offsets[ih, W] = n


def spikes_per_image(X):
    """How many of the bytes 0 or 1 of each image [B, ...] are 1: int64 [B]."""
    counts = np.empty(len(X), np.int64)
    _count_spikes(counts, X)
    return counts


def find_events(X):
    """List the spikes of every image, pixel by pixel; made once in the forward pass, used again in the backward.

    Args:
        X: spikes, uint8 or bool 0/1, [B, H, W, Cin], C-contiguous.

    Returns:
        Events(offsets, positions, channels, spikes). offsets, int64 [B, H, W + 1]: the events of row ih of image b in columns
        iw0 <= iw < iw1 are positions[offsets[b, ih, iw0] : offsets[b, ih, iw1]]. positions, int32: iw * Cin + c, in
        ascending order; between images there are 8 unused places. channels: Cin. spikes: how many there are.

    Raises:
        ValueError: X is no C-contiguous array of bytes with 4 axes.
    """
    if X.ndim != 4 or X.itemsize != 1 or not X.flags.c_contiguous:
        raise ValueError(f"spikes must be a C-contiguous uint8 array [B, H, W, Cin], not {X.dtype} {X.shape}")
    X = X.view(np.uint8)
    B, H, W, Cin = X.shape
    counts = spikes_per_image(X)
    first = np.cumsum(counts + 8) - (counts + 8)
    spikes = int(counts.sum())
    offsets = np.empty((B, H, W + 1), np.int64)
    positions = np.empty(spikes + 8 * B + 8, np.int32)
    _list_spikes(offsets, positions, X, first, _BITS, _COUNT)
    return Events(offsets, positions, Cin, spikes)


# ---- the inner loop of both directions -------------------------------------------------------------------------------


@kernel
def add_rows(Y, y_first, y_step, start, start_first, start_step, table, rows, begin, end, shift, runs):
    # Y[run] = start[run] + sum of table[row] over the run's rows; each LANES wide. One vector load and addition per
    # 16 floats is all that an event costs, so the sums are 32 names, which a compiler keeps in registers. An array
    # of 32 it would write back to memory after every event, since it cannot know that no row overlaps it.
    for run in range(runs):
        s = np.uint64(start_first + run * start_step)
        y = np.uint64(y_first + run * y_step)
        a0, a1, a2, a3 = start[s], start[s + np.uint64(1)], start[s + np.uint64(2)], start[s + np.uint64(3)]
        a4, a5, a6, a7 = start[s + np.uint64(4)], start[s + np.uint64(5)], start[s + np.uint64(6)], start[s + np.uint64(7)]
        a8, a9, a10, a11 = start[s + np.uint64(8)], start[s + np.uint64(9)], start[s + np.uint64(10)], start[s + np.uint64(11)]
        a12, a13, a14, a15 = start[s + np.uint64(12)], start[s + np.uint64(13)], start[s + np.uint64(14)], start[s + np.uint64(15)]
        a16, a17, a18, a19 = start[s + np.uint64(16)], start[s + np.uint64(17)], start[s + np.uint64(18)], start[s + np.uint64(19)]
        a20, a21, a22, a23 = start[s + np.uint64(20)], start[s + np.uint64(21)], start[s + np.uint64(22)], start[s + np.uint64(23)]
        a24, a25, a26, a27 = start[s + np.uint64(24)], start[s + np.uint64(25)], start[s + np.uint64(26)], start[s + np.uint64(27)]
        a28, a29, a30, a31 = start[s + np.uint64(28)], start[s + np.uint64(29)], start[s + np.uint64(30)], start[s + np.uint64(31)]
        for e in range(begin[run], end[run]):
            r = np.int64(rows[e] + shift[run])
            a0, a1, a2, a3 = a0 + table[r + 0], a1 + table[r + 1], a2 + table[r + 2], a3 + table[r + 3]
            a4, a5, a6, a7 = a4 + table[r + 4], a5 + table[r + 5], a6 + table[r + 6], a7 + table[r + 7]
            a8, a9, a10, a11 = a8 + table[r + 8], a9 + table[r + 9], a10 + table[r + 10], a11 + table[r + 11]
            a12, a13, a14, a15 = a12 + table[r + 12], a13 + table[r + 13], a14 + table[r + 14], a15 + table[r + 15]
            a16, a17, a18, a19 = a16 + table[r + 16], a17 + table[r + 17], a18 + table[r + 18], a19 + table[r + 19]
            a20, a21, a22, a23 = a20 + table[r + 20], a21 + table[r + 21], a22 + table[r + 22], a23 + table[r + 23]
            a24, a25, a26, a27 = a24 + table[r + 24], a25 + table[r + 25], a26 + table[r + 26], a27 + table[r + 27]
            a28, a29, a30, a31 = a28 + table[r + 28], a29 + table[r + 29], a30 + table[r + 30], a31 + table[r + 31]
        Y[y], Y[y + np.uint64(1)], Y[y + np.uint64(2)], Y[y + np.uint64(3)] = a0, a1, a2, a3
        Y[y + np.uint64(4)], Y[y + np.uint64(5)], Y[y + np.uint64(6)], Y[y + np.uint64(7)] = a4, a5, a6, a7
        Y[y + np.uint64(8)], Y[y + np.uint64(9)], Y[y + np.uint64(10)], Y[y + np.uint64(11)] = a8, a9, a10, a11
        Y[y + np.uint64(12)], Y[y + np.uint64(13)], Y[y + np.uint64(14)], Y[y + np.uint64(15)] = a12, a13, a14, a15
        Y[y + np.uint64(16)], Y[y + np.uint64(17)], Y[y + np.uint64(18)], Y[y + np.uint64(19)] = a16, a17, a18, a19
        Y[y + np.uint64(20)], Y[y + np.uint64(21)], Y[y + np.uint64(22)], Y[y + np.uint64(23)] = a20, a21, a22, a23
        Y[y + np.uint64(24)], Y[y + np.uint64(25)], Y[y + np.uint64(26)], Y[y + np.uint64(27)] = a24, a25, a26, a27
        Y[y + np.uint64(28)], Y[y + np.uint64(29)], Y[y + np.uint64(30)], Y[y + np.uint64(31)] = a28, a29, a30, a31


@kernel
def _aligned_empty(size, like):
    # A vector load that straddles two cache lines costs two loads, so tables begin at one.
    raw = np.empty(size + 64, like.dtype)
    skip = (-raw.ctypes.data) % 64 // raw.itemsize
    return raw[skip : skip + size]


# ---- forward ---------------------------------------------------------------------------------------------------------


@kernel
def _rows_of_output_row(rows, begin, offsets, positions, oh, Wo, kh, kw, Cin, stride_h, stride_w, pad_h, pad_w):
    # For each output pixel of row oh the weight rows, i * kw * Cin + j * Cin + c, of the spikes that it sees. Input
    # columns under the kernel are neighbours in the list: kh pieces of it, whatever kw.
    H = offsets.shape[0]
    W = offsets.shape[1] - 1
    n = np.uint64(0)
    for ow in range(Wo):
        begin[ow] = n
        left = ow * stride_w - pad_w
        iw0, iw1 = max(left, 0), min(left + kw, W)
        if iw0 < iw1:
            for i in range(kh):
                ih = oh * stride_h - pad_h + i
                if 0 <= ih < H:
                    e0, e1 = np.uint64(offsets[ih, iw0]), np.uint64(offsets[ih, iw1])
                    shift = np.int32((i * kw - left) * Cin)
                    after = n + (e1 - e0)
                    for e in range(e0, e1, 8):  # up to 7 too many, overwritten by the next piece
                        p0, p1 = positions[e], positions[e + np.uint64(1)]
                        p2, p3 = positions[e + np.uint64(2)], positions[e + np.uint64(3)]
                        p4, p5 = positions[e + np.uint64(4)], positions[e + np.uint64(5)]
                        p6, p7 = positions[e + np.uint64(6)], positions[e + np.uint64(7)]
                        rows[n] = (p0 + shift) * LANES
                        rows[n + np.uint64(1)] = (p1 + shift) * LANES
                        rows[n + np.uint64(2)] = (p2 + shift) * LANES
                        rows[n + np.uint64(3)] = (p3 + shift) * LANES
                        rows[n + np.uint64(4)] = (p4 + shift) * LANES
                        rows[n + np.uint64(5)] = (p5 + shift) * LANES
                        rows[n + np.uint64(6)] = (p6 + shift) * LANES
                        rows[n + np.uint64(7)] = (p7 + shift) * LANES
                        n += np.uint64(8)
                    n = after
    begin[Wo] = n
    return np.int64(n)


@kernel
def _forward_share(t, threads, Y, offsets, positions, Wt, initial, stride_h, stride_w, pad_h, pad_w):
    B, Ho, Wo, Cout = Y.shape
    kh, kw, Cin, _ = Wt.shape
    R = kh * kw * Cin
    chunks = (Cout + LANES - 1) // LANES
    # A thread packs the weights of a group of chunks, as many as its cache holds, and takes its rows of Y through them.
    group = min(chunks, max(1, FORWARD_BYTES // (R * LANES * Wt.itemsize)))
    groups = (chunks + group - 1) // group
    group = (chunks + groups - 1) // groups
    units = groups * B * Ho
    y = Y.reshape(-1)
    weights = Wt.reshape(-1)
    table = _aligned_empty(group * R * LANES, Wt)
    table[:] = 0
    rows = np.empty(Wo * R + 8, np.uint32)
    begin = np.empty(Wo + 1, np.uint64)
    shift = np.zeros(Wo, np.uint32)
    start = np.zeros(chunks * LANES, Wt.dtype)
    for k in range(Cout):
        start[k] = initial[k]
    last = np.empty(Wo * LANES, Wt.dtype)
    same = np.int64(0)  # a literal 0 would be compiled as a type of its own
    packed = -1
    added = 0
    for unit in range(t * units // threads, (t + 1) * units // threads):
        g = unit // (B * Ho)
        b = unit // Ho - g * B
        oh = unit - (g * B + b) * Ho
        chunk0, chunk1 = g * group, min(chunks, g * group + group)
        if packed != g:
            for chunk in range(chunk0, chunk1):
                _pack_chunk(table, (chunk - chunk0) * R * LANES, weights, same, R, Cout, chunk * LANES)
            packed = g
        n = _rows_of_output_row(rows, begin, offsets[b], positions, oh, Wo, kh, kw, Cin,
                                stride_h, stride_w, pad_h, pad_w)
        added += n * (min(Cout, chunk1 * LANES) - chunk0 * LANES)
        pixel = (b * Ho + oh) * Wo
        for chunk in range(chunk0, chunk1):
            k = chunk * LANES
            w = table[(chunk - chunk0) * R * LANES :]
            whole = k + LANES <= Cout
            to, first, step = (y, pixel * Cout + k, Cout) if whole else (last, 0, LANES)
            add_rows(to, first, step, start, k, same, w, rows, begin, begin[1:], shift, Wo)
            if not whole:
                for ow in range(Wo):
                    for lane in range(Cout - k):
                        y[(pixel + ow) * Cout + k + lane] = last[ow * LANES + lane]
    return added


@parallel_kernel
def _forward(additions, Y, offsets, positions, Wt, initial, stride_h, stride_w, pad_h, pad_w):
    threads = additions.size
    for t in prange(threads):
        additions[t] = _forward_share(np.int64(t), threads, Y, offsets, positions, Wt, initial,
                                      stride_h, stride_w, pad_h, pad_w)


@kernel
def _pack_chunk(table, first, source, row0, rows, width, k):
    # Channels k to k + LANES of source's rows, close together in table; where there are fewer, the rest stays as it is.
    channels = min(LANES, width - k)
    for r in range(rows):
        to = table[first + r * LANES :][:LANES]
        row = source[(row0 + r) * width + k :][:LANES]
        for lane in range(channels):
            to[lane] = row[lane]


def event_forward(Y, events, Wt, initial, stride_h=1, stride_w=1, pad_h=0, pad_w=0):
    """Convolve spikes: every output pixel adds the weight rows of the spikes that it sees, in ascending order.

    Args:
        Y: receives the output, [B, Ho, Wo, Cout], C-contiguous.
        events: what find_events(X) returned.
        Wt: weights [kh, kw, Cin, Cout], C-contiguous, of Y's dtype.
        initial: [Cout], what each output pixel starts from: zeros, or the bias of a folded batch norm.
        stride_h, stride_w, pad_h, pad_w: in pixels.

    Returns:
        The number of additions: rows added times Cout; nothing is added beyond the border.
    """
    B, H, W, Ho, Wo = _check(events, Y, Wt, stride_h, stride_w, pad_h, pad_w)
    additions = np.empty(numba.get_num_threads(), np.int64)
    _forward(additions, Y, events.offsets, events.positions, Wt, np.ascontiguousarray(initial, Wt.dtype),
             stride_h, stride_w, pad_h, pad_w)
    return int(additions.sum())


# ---- weight gradient -------------------------------------------------------------------------------------------------
#
# The events of a few images (a block) are sorted by channel. Under the kernel's row i and column j a spike at (ih, iw)
# reaches output pixel ((ih + pad_h - i) / stride_h, (iw + pad_w - j) / stride_w) where both divide evenly. Spikes of
# equal ih % stride_h and iw % stride_w (a class) divide under the same (i, j), and reach ih // stride_h + dh and
# iw // stride_w + dw: a fixed shift. So one list per class and channel serves the whole kernel. Output columns that
# do not exist are zeros in the table; rows that do not exist are cut off the list, which is sorted by ih.


@kernel
def _sort_block(rows, bound, offsets, positions, b0, b1, Cin, Ho, padded_w, stride_h, stride_w):
    H, W = offsets.shape[1], offsets.shape[2] - 1
    heights = (H + stride_h - 1) // stride_h
    key_of = np.empty(W * Cin, np.int64)
    column_of = np.empty(W * Cin, np.int64)
    for iw in range(W):
        for c in range(Cin):
            key_of[iw * Cin + c] = (iw % stride_w * Cin + c) * heights
            column_of[iw * Cin + c] = iw // stride_w
    bound[:] = 0
    for b in range(b0, b1):
        for ih in range(H):
            key = np.uint64(ih % stride_h * stride_w * Cin * heights + ih // stride_h + 1)
            for e in range(np.uint64(offsets[b, ih, 0]), np.uint64(offsets[b, ih, W])):
                bound[key + np.uint64(key_of[np.uint64(positions[e])])] += np.uint64(1)
    bound[0] = offsets[b0, 0, 0]
    for key in range(1, bound.size):
        bound[key] += bound[key - 1]
    place = bound[:-1].copy()
    for b in range(b0, b1):
        for ih in range(H):
            key = np.uint64(ih % stride_h * stride_w * Cin * heights + ih // stride_h)
            row = ((b - b0) * Ho + ih // stride_h) * padded_w
            for e in range(np.uint64(offsets[b, ih, 0]), np.uint64(offsets[b, ih, W])):
                position = np.uint64(positions[e])
                own = key + np.uint64(key_of[position])
                rows[place[own]] = (row + column_of[position]) * LANES
                place[own] += np.uint64(1)


@parallel_kernel
def _sort_events(rows, bounds, offsets, positions, block, Cin, Ho, padded_w, stride_h, stride_w):
    for n in prange(bounds.shape[0]):
        _sort_block(rows, bounds[n], offsets, positions, n * block, min(offsets.shape[0], n * block + block),
                    Cin, Ho, padded_w, stride_h, stride_w)


@kernel
def _gradient_share(t, threads, dWt, dY, rows, bounds, H, padded_w, left, above, block,
                    stride_h, stride_w, pad_h, pad_w):
    # dWt [groups, kh, kw, Cin, Cout]: groups of images are summed apart and added up by the caller.
    groups, kh, kw, Cin, Cout = dWt.shape
    B, Ho, Wo, _ = dY.shape
    taps = kh * kw
    heights = (H + stride_h - 1) // stride_h
    blocks = bounds.shape[0]
    chunks = (Cout + LANES - 1) // LANES
    units = groups * chunks
    gradients = dY.reshape(-1)
    weights = dWt.reshape(-1)
    table = _aligned_empty((above + block * Ho * padded_w) * LANES, dY)
    table[:] = 0
    lanes = np.int64(LANES)
    sums = _aligned_empty(Cin * taps * LANES, dY)
    begin = np.empty(taps, np.uint64)
    end = np.empty(taps, np.uint64)
    shift = np.empty(taps, np.uint32)
    first = np.empty(taps, np.int64)
    last = np.empty(taps, np.int64)
    for unit in range(t * units // threads, (t + 1) * units // threads):
        g = unit // chunks
        k = (unit - g * chunks) * LANES
        sums[:] = 0
        for n in range(g * blocks // groups, (g + 1) * blocks // groups):
            b0, b1 = n * block, min(B, n * block + block)
            for r in range((b1 - b0) * Ho):
                _pack_chunk(table, (above + r * padded_w + left) * LANES, gradients, (b0 * Ho + r) * Wo, Wo, Cout, k)
            for own in range(stride_h * stride_w):
                for tap in range(taps):
                    over_h = own // stride_w + pad_h - tap // kw
                    over_w = own % stride_w + pad_w - tap % kw
                    first[tap] = last[tap] = shift[tap] = 0
                    if over_h % stride_h == 0 and over_w % stride_w == 0:
                        dh, dw = over_h // stride_h, over_w // stride_w
                        h0, h1 = max(0, -dh), min(heights, Ho - dh)
                        if h0 < h1:
                            first[tap], last[tap] = h0, h1
                            shift[tap] = (above + dh * padded_w + left + dw) * LANES
                for c in range(Cin):
                    bound = bounds[n, (own * Cin + c) * heights :]
                    for tap in range(taps):
                        begin[tap] = bound[first[tap]]
                        end[tap] = bound[last[tap]]
                    own_sums = c * taps * LANES
                    add_rows(sums, own_sums, lanes, sums, own_sums, lanes, table, rows, begin, end, shift, taps)
        for tap in range(taps):
            for c in range(Cin):
                to = weights[((g * taps + tap) * Cin + c) * Cout + k :][: min(LANES, Cout - k)]
                own_sums = sums[(c * taps + tap) * LANES :]
                for lane in range(to.size):
                    to[lane] = own_sums[lane]


@parallel_kernel
def _weight_gradient(threads, dWt, dY, rows, bounds, H, padded_w, left, above, block, stride_h, stride_w, pad_h, pad_w):
    for t in prange(threads):
        _gradient_share(np.int64(t), threads, dWt, dY, rows, bounds, H, padded_w, left, above, block,
                        stride_h, stride_w, pad_h, pad_w)


def event_weight_gradient(dWt, dY, events, stride_h=1, stride_w=1, pad_h=0, pad_w=0):
    """Gradient of event_forward in its weights: every weight row adds the output gradients that its spikes reached.

    The order of summation depends on the shapes and the spikes, not on the number of threads.

    Args:
        dWt: receives the gradient, [kh, kw, Cin, Cout], C-contiguous.
        dY: gradient of the output, [B, Ho, Wo, Cout], C-contiguous, of dWt's dtype.
        events: what find_events(X) returned for the forward pass.
        stride_h, stride_w, pad_h, pad_w: as in the forward pass.
    """
    B, H, W, Ho, Wo = _check(events, dY, dWt, stride_h, stride_w, pad_h, pad_w)
    kh, kw, Cin, Cout = dWt.shape
    # Zero columns left and right of the table's rows, and rows above its first, as far as shifts reach.
    widths = -(-W // stride_w)
    heights = -(-H // stride_h)
    left = max(0, (kw - 1 - pad_w) // stride_w)
    above = max(0, (kh - 1 - pad_h) // stride_h)
    padded_w = left + max(Wo, widths + (pad_w + stride_w - 1) // stride_w)
    above *= padded_w
    block = int(min(B, max(1, BACKWARD_BYTES // (Ho * padded_w * LANES * dY.itemsize))))
    blocks = -(-B // block)
    groups = min(blocks, -(-BACKWARD_UNITS // -(-Cout // LANES)), max(1, BACKWARD_PARTS // dWt.nbytes))
    rows = np.empty(events.positions.size, np.uint32)
    bounds = np.empty((blocks, stride_h * stride_w * Cin * heights + 1), np.uint64)
    _sort_events(rows, bounds, events.offsets, events.positions, block, Cin, Ho, padded_w, stride_h, stride_w)
    parts = dWt[None] if groups == 1 else np.empty((groups, *dWt.shape), dWt.dtype)
    _weight_gradient(numba.get_num_threads(), parts, dY, rows, bounds, H, padded_w, left, above, block,
                     stride_h, stride_w, pad_h, pad_w)
    if groups > 1:
        np.sum(parts, axis=0, out=dWt)


def _check(events, Y, Wt, stride_h, stride_w, pad_h, pad_w):
    B, H, W = events.offsets.shape[0], events.offsets.shape[1], events.offsets.shape[2] - 1
    kh, kw, Cin, Cout = Wt.shape
    if Cin != events.channels:
        raise ValueError(f"the weights have {Cin} input channels, the spikes {events.channels}")
    Ho, Wo = (H + 2 * pad_h - kh) // stride_h + 1, (W + 2 * pad_w - kw) // stride_w + 1
    if Y.shape != (B, Ho, Wo, Cout):
        raise ValueError(f"the output of this convolution is {(B, Ho, Wo, Cout)}, the array for it is {Y.shape}")
    if Y.dtype != Wt.dtype or not (Y.flags.c_contiguous and Wt.flags.c_contiguous):
        raise ValueError(f"weights ({Wt.dtype}) and output ({Y.dtype}) must be C-contiguous and of the same dtype")
    return B, H, W, Ho, Wo
