"""3x3 convolution of stride 1 and padding 1 by Winograd's F(4x4, 3x3): 36 multiplications for 4x4 output pixels, not 144.

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks". Axes and names as in dense_conv.py.

Along one axis, 4 outputs of a filter g of 3 taps over 6 inputs d are A^T [(G g) * (B^T d)], six multiplications, one
per interpolation point 0, P, -P, Q, -Q, infinity; in two dimensions 36 for 16 outputs. Summed over channels, each of
the 36 is a matrix product [tiles, K] x [K, N]. The points below are exact in binary and keep the error of float32
near 3e-6 of the largest value; 1 and 2, the usual choice, give 8e-6.
"""

import threading

import numba
import numpy as np

from ..jit import kernel, parallel_kernel, prange
from .rows import COLUMNS, OFFSET, STEP, copy, copy_plus, fill, product, transpose

__all__ = ["winograd_fits", "winograd_conv", "tile_points"]

P, Q = np.float32(0.75), np.float32(1.5)
P2, Q2 = P * P, Q * Q
P2Q2, P2_Q2 = P2 * Q2, P2 + Q2
G0, GP, GQ = 1 / P2Q2, 1 / (2 * P2 * (P2 - Q2)), 1 / (2 * Q2 * (Q2 - P2))
LANES = 64                 # channels per pass of a transform
STRIP = 6 * LANES          # floats of one column of pixels in a strip of an image
CAPACITY = 65536           # floats of one of the 36 matrices in a workspace
PLANE = CAPACITY + 2736    # floats from one matrix to the next; the excess spreads them over the sets of the cache
TILES = 64                 # tiles of a block, about: their 36 matrices then lie in the second-level cache
FILTER = 9 * COLUMNS + 16  # floats of one row of filters
RUN = 16 * COLUMNS + 16    # floats of 16 rows of transformed filters


@kernel
def _image_transform(out, o, out_step, d, a, step, n):
    # out[6, n] <- B^T d[6, n]; rows lie a step apart, the first at o or a
    o, a, out_step, step, n = o & OFFSET, a & OFFSET, out_step & STEP, step & STEP, n & STEP
    for c in range(n):
        d0, d1, d2 = d[a + c], d[a + step + c], d[a + 2 * step + c]
        d3, d4, d5 = d[a + 3 * step + c], d[a + 4 * step + c], d[a + 5 * step + c]
        ep, op, eq, oq = d4 - Q2 * d2, P * (d3 - Q2 * d1), d4 - P2 * d2, Q * (d3 - P2 * d1)
        out[o + c] = P2Q2 * d0 - P2_Q2 * d2 + d4
        out[o + out_step + c] = ep + op
        out[o + 2 * out_step + c] = ep - op
        out[o + 3 * out_step + c] = eq + oq
        out[o + 4 * out_step + c] = eq - oq
        out[o + 5 * out_step + c] = P2Q2 * d1 - P2_Q2 * d3 + d5


@kernel
def _output_transform(out, o, out_step, m, a, step, n):
    # out[4, n] <- A^T m[6, n]
    o, a, out_step, step, n = o & OFFSET, a & OFFSET, out_step & STEP, step & STEP, n & STEP
    for c in range(n):
        m0, m1, m2 = m[a + c], m[a + step + c], m[a + 2 * step + c]
        m3, m4, m5 = m[a + 3 * step + c], m[a + 4 * step + c], m[a + 5 * step + c]
        ep, op, eq, oq = m1 + m2, P * (m1 - m2), m3 + m4, Q * (m3 - m4)
        out[o + c] = m0 + ep + eq
        out[o + out_step + c] = op + oq
        out[o + 2 * out_step + c] = P2 * ep + Q2 * eq
        out[o + 3 * out_step + c] = P2 * op + Q2 * oq + m5


@kernel
def _filter_transform(out, o, out_step, g, a, step, n):
    # out[6, n] <- G g[3, n]
    o, a, out_step, step, n = o & OFFSET, a & OFFSET, out_step & STEP, step & STEP, n & STEP
    for c in range(n):
        g0, g1, g2 = g[a + c], g[a + step + c], g[a + 2 * step + c]
        ep, op, eq, oq = g0 + P2 * g2, P * g1, g0 + Q2 * g2, Q * g1
        out[o + c] = g0 * G0
        out[o + out_step + c] = (ep + op) * GP
        out[o + 2 * out_step + c] = (ep - op) * GP
        out[o + 3 * out_step + c] = (eq + oq) * GQ
        out[o + 4 * out_step + c] = (eq - oq) * GQ
        out[o + 5 * out_step + c] = g2


@kernel
def _tile_count(size, i):
    # Tiles along an axis that need point i. A last tile of 3 outputs does without infinity, which only the 4th output
    # reads. One of 1 or 2 outputs begins a pixel early, so that they are its 2nd and 3rd, which do without 0 as well.
    full, rest = size // 4, size % 4
    if i == 5:
        return full
    if i == 0:
        return full + (1 if rest == 3 else 0)
    return full + (1 if rest > 0 else 0)


@kernel
def _tile_start(size, t):
    return 4 * t - 1 if 0 < size - 4 * t < 3 else 4 * t


@kernel
def _transform_filters(u, first, plane, g, wt, transposed, cin, cout, k0, n0, n):
    # u[36 planes from first][K, n] <- G g G^T: rows k0 to k0 + 16 of the block of columns n0:n0+n
    rows = min(16, (cout if transposed else cin) - k0)
    half = 16 * FILTER
    out = half + 18 * COLUMNS
    for t in range(9):
        if transposed:  # and turned by 180 degrees
            transpose(g, t * COLUMNS, FILTER, wt, ((8 - t) * cin + n0) * cout + k0, cout, n, rows)
        else:
            for k in range(rows):
                copy(g, k * FILTER + t * COLUMNS, wt, (t * cin + k0 + k) * cout + n0, n)
    for k in range(rows):
        for j in range(3):
            _filter_transform(g, half + j * COLUMNS, 3 * COLUMNS, g, k * FILTER + j * COLUMNS, 3 * COLUMNS, n)
        for i in range(6):
            _filter_transform(g, out + 6 * i * RUN + k * n, RUN, g, half + 3 * i * COLUMNS, COLUMNS, n)
    for i in range(36):
        copy(u, first + i * plane + k0 * n, g, out + i * RUN, rows * n)


@kernel
def _transform_images(v, strip, edge, x, h, w, k, b0, b1, first, last, t0, t1):
    # v[36][rows, K] <- B^T d B for tile rows t0:t1 of images first:last; row = (tile column, tile row, image of b0:b1)
    tiles = _tile_count(w, 1)
    for s in range(_tile_start(w, tiles - 1) + 7):  # column s of the strip is pixel s - 2; those outside are zeros
        if s < 2 or s >= w + 2:
            fill(strip, s * STRIP, 0, STRIP)
    for b in range(first, last):
        for t in range(t0, t1):
            top = _tile_start(h, t) - 1
            for k0 in range(0, k, LANES):
                n = min(LANES, k - k0)
                for s in range(w):
                    a = ((b * h + top) * w + s) * k + k0
                    if top >= 0 and top + 6 <= h:
                        _image_transform(strip, (s + 2) * STRIP, LANES, x, a, w * k, n)
                    else:
                        for r in range(6):
                            if 0 <= top + r < h:
                                copy(edge, r * LANES, x, a + r * w * k, n)
                            else:
                                fill(edge, r * LANES, 0, n)
                        _image_transform(strip, (s + 2) * STRIP, LANES, edge, 0, LANES, n)
                for i in range(6):
                    rows = min(t1, _tile_count(h, i)) - t0
                    if t - t0 < rows:
                        for tx in range(tiles):
                            row = (tx * rows + t - t0) * (b1 - b0) + b - b0
                            _image_transform(v, 6 * i * PLANE + row * k + k0, PLANE,
                                             strip, (_tile_start(w, tx) + 1) * STRIP + i * LANES, STRIP, n)


@kernel
def _multiply(m, v, u, first, plane, k, n, h, w, images, t0, t1):
    # m[36][rows, n] <- v[36][rows, K] u[36][K, n]
    for i in range(6):
        for j in range(6):
            point = 6 * i + j
            rows = (min(t1, _tile_count(h, i)) - t0) * _tile_count(w, j) * images
            product(m, point * PLANE, n, v, point * PLANE, k, 1, u, first + point * plane, n, rows, k, n)


@kernel
def _transform_back(y, m, half, bias, h, w, cols, b0, b1, t0, t1, n0, n):
    # y[b0:b1, ..., n0:n0+n] <- A^T m A + bias[n0:n0+n]
    column = 24 * COLUMNS
    for t in range(t0, t1):
        top = _tile_start(h, t)
        for tx in range(_tile_count(w, 1)):
            left = _tile_start(w, tx)
            for b in range(b0, b1):
                for i in range(6):
                    rows = min(t1, _tile_count(h, i)) - t0
                    if t - t0 < rows:
                        row = (tx * rows + t - t0) * (b1 - b0) + b - b0
                        _output_transform(half, 4 * i * COLUMNS, COLUMNS, m, 6 * i * PLANE + row * n, PLANE, n)
                # What the points left out by _tile_count would have given lies outside these ranges.
                for j in range(4 * tx - left, min(4, w - left)):
                    _output_transform(half, column, COLUMNS, half, j * COLUMNS, 4 * COLUMNS, n)
                    for r in range(4 * t - top, min(4, h - top)):
                        pixel = (b * h + top + r) * w + left + j
                        copy_plus(y, pixel * cols + n0, half, column + r * COLUMNS, bias, n0, n)


@parallel_kernel
def _all_filters(u, plane, wt, transposed, cin, cout):
    k, cols = (cout, cin) if transposed else (cin, cout)
    runs = (k + 15) // 16
    for task in prange(runs * ((cols + COLUMNS - 1) // COLUMNS)):
        g = np.empty(16 * FILTER + 18 * COLUMNS + 36 * RUN, wt.dtype)
        k0, n0 = task % runs * 16, task // runs * COLUMNS
        _transform_filters(u, n0 * k, plane, g, wt, transposed, cin, cout, k0, n0, min(COLUMNS, cols - n0))


@parallel_kernel
def _winograd_by_tiles(y, x, wt, bias, transposed, u, plane, v, m, batch, h, w, k, cols, images, tile_rows, workers):
    # Each worker takes blocks of tiles through all columns.
    all_rows = _tile_count(h, 1)
    strips = (all_rows + tile_rows - 1) // tile_rows
    for worker in prange(workers):
        strip = np.empty((w + 9) * STRIP, x.dtype)
        scratch = np.empty(28 * COLUMNS, x.dtype)
        for task in range(worker, (batch + images - 1) // images * strips, workers):
            b0, t0 = task // strips * images, task % strips * tile_rows
            b1, t1 = min(b0 + images, batch), min(t0 + tile_rows, all_rows)
            _transform_images(v[worker], strip, scratch, x, h, w, k, b0, b1, b0, b1, t0, t1)
            for n0 in range(0, cols, COLUMNS):
                n = min(COLUMNS, cols - n0)
                _multiply(m[worker], v[worker], u, n0 * k, plane, k, n, h, w, b1 - b0, t0, t1)
                _transform_back(y, m[worker], scratch, bias, h, w, cols, b0, b1, t0, t1, n0, n)


@parallel_kernel
def _winograd_by_columns(y, x, wt, bias, transposed, u, plane, v, m, batch, h, w, k, cols, images, tile_rows, workers):
    # Few tiles and large weights: each worker takes all tiles through blocks of columns, whose filters it transforms
    # just before, so that the 36 matrices of all columns never lie in memory.
    all_rows = _tile_count(h, 1)
    cin, cout = (cols, k) if transposed else (k, cols)
    for b in prange(batch):
        strip = np.empty((w + 9) * STRIP, x.dtype)
        scratch = np.empty(6 * LANES, x.dtype)
        _transform_images(v[0], strip, scratch, x, h, w, k, 0, batch, b, b + 1, 0, all_rows)
    for worker in prange(workers):
        g = np.empty(16 * FILTER + 18 * COLUMNS + 36 * RUN, x.dtype)
        scratch = np.empty(28 * COLUMNS, x.dtype)
        for n0 in range(worker * COLUMNS, cols, workers * COLUMNS):
            n = min(COLUMNS, cols - n0)
            for k0 in range(0, k, 16):
                _transform_filters(u, worker * 36 * plane, plane, g, wt, transposed, cin, cout, k0, n0, n)
            _multiply(m[worker], v[0], u, worker * 36 * plane, plane, k, n, h, w, batch, 0, all_rows)
            _transform_back(y, m[worker], scratch, bias, h, w, cols, 0, batch, 0, all_rows, n0, n)


_workspaces = threading.local()  # two threads that convolve at once must not write into one


def workspace(name, size):
    """A float32 scratch array that is kept from call to call: fresh memory costs as much as the transforms that fill it."""
    kept = getattr(_workspaces, name, None)
    if kept is None or kept.size < size:
        kept = np.empty(size, np.float32)
        setattr(_workspaces, name, kept)
    return kept[:size]


def winograd_fits(width, w_shape, window, dtype):
    """float32, 3x3, stride 1, padding 1, enough channels to pay for the transforms, and a row of tiles that fits the
    workspace."""
    kh, kw, cin, cout = w_shape
    return (dtype == np.float32 and (kh, kw) == (3, 3) and tuple(window) == (1, 1, 1, 1) and min(cin, cout) >= 16
            and (width + 3) // 4 * max(cin, cout, COLUMNS) <= CAPACITY)


def tile_points(size):
    """Multiplications along an axis, for each pair of channels."""
    return sum(_tile_count(size, i) for i in range(6))


def winograd_conv(y, x, wt, bias, transposed):
    """Write a 3x3 convolution of stride 1 and padding 1 into y, by F(4x4, 3x3); Lavin and Gray 2016.

    Args:
        y: [B,H,W,N] result, float32.
        x: [B,H,W,K] images, float32.
        wt: [3,3,Cin,Cout] weights.
        bias: [N].
        transposed: False for the convolution itself, K = Cin and N = Cout; True for its input gradient, where x is
            the gradient by the output, y that by the input, K = Cout and N = Cin.
    """
    b, h, w, k = x.shape
    cols = y.shape[3]
    workers = numba.get_num_threads()
    th, tw = (h + 3) // 4, (w + 3) // 4
    by_columns = b * th * tw * max(k, COLUMNS) <= CAPACITY and k * cols >= 1 << 17
    if by_columns:
        images, tile_rows, plane = b, th, k * COLUMNS + 1040
        u = workspace("filters", workers * 36 * plane)
    else:
        target = max(1, min(TILES, CAPACITY // max(k, COLUMNS)) // tw)  # tile rows
        tile_rows = -(-th // -(-th // min(th, target)))
        images = max(1, target // th)
        plane = k * cols + 1040
        u = workspace("filters", 36 * plane)
        _all_filters(u, plane, wt.reshape(-1), transposed, *wt.shape[2:])
    v = workspace("images", (1 if by_columns else workers) * 36 * PLANE).reshape(-1, 36 * PLANE)
    m = workspace("products", workers * 36 * PLANE).reshape(-1, 36 * PLANE)
    run = _winograd_by_columns if by_columns else _winograd_by_tiles
    run(y.reshape(-1), x.reshape(-1), wt.reshape(-1), bias, transposed, u, plane, v, m, b, h, w, k, cols, images,
        tile_rows, workers)
