"""3x3 convolution of stride 1 and padding 1 by Winograd's F(4x4, 3x3): 36 multiplications for 4x4 output pixels, not 144.

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks". Axes and names as in dense_conv.py; k channels are
summed over, and n (of `cols`) written: Cin and Cout, or vice versa for the input gradient.

Along one axis, 4 outputs of a filter g of 3 taps over 6 inputs d are A^T [(G g) * (B^T d)], six multiplications, one
per interpolation point 0, P, -P, Q, -Q, infinity; in two dimensions 36 for 16 outputs. Summed over channels, each of
the 36 is a matrix product [tiles, k] x [k, n]. The points below are exact in binary and keep the error of float32
near 3e-6 of the largest value; 1 and 2, the usual choice, give 8e-6.
"""

from __future__ import annotations

import math
import threading

import numba
import numpy as np

from ..jit import kernel, parallel_kernel, prange
from ..types import DType
from .layout import Window
from .rows import COLUMNS, OFFSET, STEP, copy, copy_plus, fill, product, transpose

__all__ = ["WINDOW", "winograd_fits", "winograd_conv", "tile_points"]

WINDOW = Window(kh=3, kw=3, stride_h=1, stride_w=1, pad_h=1, pad_w=1)  # the only one that this module computes
P, Q = np.float32(0.75), np.float32(1.5)
P2, Q2 = P * P, Q * Q
P2Q2, P2_Q2 = P2 * Q2, P2 + Q2
G0, GP, GQ = 1 / P2Q2, 1 / (2 * P2 * (P2 - Q2)), 1 / (2 * Q2 * (Q2 - P2))
CHANNELS = 64  # per pass of a transform
STRIP = 6 * CHANNELS  # floats of one column of pixels in a strip of an image
CAPACITY = 65536  # floats of one of the 36 matrices in a workspace
PLANE = CAPACITY + 2736  # floats from one matrix to the next; the excess spreads them over the sets of the cache
TILES = 64  # tiles of a block, about: their 36 matrices then fit in the second-level cache
FILTER = 9 * COLUMNS + 16  # floats of one row of filters
RUN = 16 * COLUMNS + 16  # floats of 16 rows of transformed filters

# The three matrices. The transforms below are products with them, in which the terms that +P and -P share are computed once.
B_T = np.array(
    [
        [P2Q2, 0, -P2_Q2, 0, 1, 0],
        [0, -P * Q2, -Q2, P, 1, 0],
        [0, P * Q2, -Q2, -P, 1, 0],
        [0, -P2 * Q, -P2, Q, 1, 0],
        [0, P2 * Q, -P2, -Q, 1, 0],
        [0, P2Q2, 0, -P2_Q2, 0, 1],
    ]
)
G = np.array(
    [[G0, 0, 0], [GP, P * GP, P2 * GP], [GP, -P * GP, P2 * GP], [GQ, Q * GQ, Q2 * GQ], [GQ, -Q * GQ, Q2 * GQ], [0, 0, 1]]
)
A_T = np.array([[1, 1, 1, 1, 1, 0], [0, P, -P, Q, -Q, 0], [0, P2, P2, Q2, Q2, 0], [0, P2 * P, -P2 * P, Q2 * Q, -Q2 * Q, 1]])


@kernel
def _image_transform(out, o, out_step, d, a, step, n):
    # out[6, n] <- B^T d[6, n]; rows are a step apart, the first at o or a
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
def _transform_filters(u, first, plane, g, wt, transposed, k0, n0, n):
    # u[36 planes from first][k, n] <- G g G^T: rows k0 to k0 + 16 of the block of columns n0:n0+n
    Cin, Cout = wt.shape[2:]
    weights = wt.reshape(-1)
    rows = min(16, (Cout if transposed else Cin) - k0)
    half = 16 * FILTER
    out = half + 18 * COLUMNS
    for t in range(9):
        if transposed:  # and rotated by 180 degrees
            transpose(g, t * COLUMNS, FILTER, weights, ((8 - t) * Cin + n0) * Cout + k0, Cout, n, rows)
        else:
            for k in range(rows):
                copy(g, k * FILTER + t * COLUMNS, weights, (t * Cin + k0 + k) * Cout + n0, n)
    for k in range(rows):
        for j in range(3):
            _filter_transform(g, half + j * COLUMNS, 3 * COLUMNS, g, k * FILTER + j * COLUMNS, 3 * COLUMNS, n)
        for i in range(6):
            _filter_transform(g, out + 6 * i * RUN + k * n, RUN, g, half + 3 * i * COLUMNS, COLUMNS, n)
    for i in range(36):
        copy(u, first + i * plane + k0 * n, g, out + i * RUN, rows * n)


@kernel
def _transform_images(v, strip, edge, x, b0, b1, first, last, t0, t1):
    # v[36][rows, k] <- B^T d B for tile rows t0:t1 of images first:last; row = (tile column, tile row, image of b0:b1)
    _, H, W, k = x.shape
    pixels = x.reshape(-1)
    tiles = _tile_count(W, 1)
    for s in range(_tile_start(W, tiles - 1) + 7):  # column s of the strip is pixel s - 2; those outside are zeros
        if s < 2 or s >= W + 2:
            fill(strip, s * STRIP, 0, STRIP)
    for b in range(first, last):
        for t in range(t0, t1):
            top = _tile_start(H, t) - 1
            for k0 in range(0, k, CHANNELS):
                n = min(CHANNELS, k - k0)
                for ix in range(W):
                    a = ((b * H + top) * W + ix) * k + k0
                    if top >= 0 and top + 6 <= H:
                        _image_transform(strip, (ix + 2) * STRIP, CHANNELS, pixels, a, W * k, n)
                    else:
                        for r in range(6):
                            if 0 <= top + r < H:
                                copy(edge, r * CHANNELS, pixels, a + r * W * k, n)
                            else:
                                fill(edge, r * CHANNELS, 0, n)
                        _image_transform(strip, (ix + 2) * STRIP, CHANNELS, edge, 0, CHANNELS, n)
                for i in range(6):
                    rows = min(t1, _tile_count(H, i)) - t0
                    if t - t0 < rows:
                        for tx in range(tiles):
                            row = (tx * rows + t - t0) * (b1 - b0) + b - b0
                            _image_transform(
                                v,
                                6 * i * PLANE + row * k + k0,
                                PLANE,
                                strip,
                                (_tile_start(W, tx) + 1) * STRIP + i * CHANNELS,
                                STRIP,
                                n,
                            )


@kernel
def _multiply(m, v, u, first, plane, k, n, H, W, images, t0, t1):
    # m[36][rows, n] <- v[36][rows, k] u[36][k, n]
    for i in range(6):
        for j in range(6):
            point = 6 * i + j
            rows = (min(t1, _tile_count(H, i)) - t0) * _tile_count(W, j) * images
            product(m, point * PLANE, n, v, point * PLANE, k, 1, u, first + point * plane, n, rows, k, n)


@kernel
def _transform_back(y, m, half, bias, b0, b1, t0, t1, n0, n):
    # y[b0:b1, ..., n0:n0+n] <- A^T m A + bias[n0:n0+n]
    _, H, W, cols = y.shape
    outputs = y.reshape(-1)
    column = 24 * COLUMNS
    for t in range(t0, t1):
        top = _tile_start(H, t)
        for tx in range(_tile_count(W, 1)):
            left = _tile_start(W, tx)
            for b in range(b0, b1):
                for i in range(6):
                    rows = min(t1, _tile_count(H, i)) - t0
                    if t - t0 < rows:
                        row = (tx * rows + t - t0) * (b1 - b0) + b - b0
                        _output_transform(half, 4 * i * COLUMNS, COLUMNS, m, 6 * i * PLANE + row * n, PLANE, n)
                # What the points omitted by _tile_count would contribute is outside these ranges.
                for j in range(4 * tx - left, min(4, W - left)):
                    _output_transform(half, column, COLUMNS, half, j * COLUMNS, 4 * COLUMNS, n)
                    for r in range(4 * t - top, min(4, H - top)):
                        pixel = (b * H + top + r) * W + left + j
                        copy_plus(outputs, pixel * cols + n0, half, column + r * COLUMNS, bias, n0, n)


@parallel_kernel
def _all_filters(u, wt, transposed):
    # u: [36, plane]
    plane, transformed = u.shape[1], u.reshape(-1)
    k, cols = (wt.shape[3], wt.shape[2]) if transposed else (wt.shape[2], wt.shape[3])
    runs = (k + 15) // 16
    for task in prange(runs * ((cols + COLUMNS - 1) // COLUMNS)):
        g = np.empty(16 * FILTER + 18 * COLUMNS + 36 * RUN, wt.dtype)
        k0, n0 = task % runs * 16, task // runs * COLUMNS
        _transform_filters(transformed, n0 * k, plane, g, wt, transposed, k0, n0, min(COLUMNS, cols - n0))


@parallel_kernel
def _winograd_by_tiles(y, x, bias, u, v, m, images, tile_rows):
    # Each worker takes blocks of tiles, `images` images by `tile_rows` rows of tiles, through all columns.
    # u: [36, plane], all filters; v, m: [workers, 36 * PLANE]
    batch, H, W, k = x.shape
    cols, plane, transformed, workers = y.shape[3], u.shape[1], u.reshape(-1), m.shape[0]
    all_rows = _tile_count(H, 1)
    strips = (all_rows + tile_rows - 1) // tile_rows
    for worker in prange(workers):
        strip = np.empty((W + 9) * STRIP, x.dtype)
        scratch = np.empty(28 * COLUMNS, x.dtype)
        for task in range(worker, (batch + images - 1) // images * strips, workers):
            b0, t0 = task // strips * images, task % strips * tile_rows
            b1, t1 = min(b0 + images, batch), min(t0 + tile_rows, all_rows)
            _transform_images(v[worker], strip, scratch, x, b0, b1, b0, b1, t0, t1)
            for n0 in range(0, cols, COLUMNS):
                n = min(COLUMNS, cols - n0)
                _multiply(m[worker], v[worker], transformed, n0 * k, plane, k, n, H, W, b1 - b0, t0, t1)
                _transform_back(y, m[worker], scratch, bias, b0, b1, t0, t1, n0, n)


@parallel_kernel
def _winograd_by_columns(y, x, wt, bias, transposed, u, v, m):
    # Few tiles and large weights: each worker takes all tiles through blocks of columns, whose filters it transforms
    # just before, so that the 36 matrices of all columns are never in memory at once.
    # u: [workers, 36, plane]; v: [1, 36 * PLANE]; m: [workers, 36 * PLANE]
    batch, H, W, k = x.shape
    cols, plane, transformed, workers = y.shape[3], u.shape[2], u.reshape(-1), m.shape[0]
    all_rows = _tile_count(H, 1)
    for b in prange(batch):
        strip = np.empty((W + 9) * STRIP, x.dtype)
        scratch = np.empty(6 * CHANNELS, x.dtype)
        _transform_images(v[0], strip, scratch, x, 0, batch, b, b + 1, 0, all_rows)
    for worker in prange(workers):
        g = np.empty(16 * FILTER + 18 * COLUMNS + 36 * RUN, x.dtype)
        scratch = np.empty(28 * COLUMNS, x.dtype)
        first = worker * 36 * plane
        for n0 in range(worker * COLUMNS, cols, workers * COLUMNS):
            n = min(COLUMNS, cols - n0)
            for k0 in range(0, k, 16):
                _transform_filters(transformed, first, plane, g, wt, transposed, k0, n0, n)
            _multiply(m[worker], v[0], transformed, first, plane, k, n, H, W, batch, 0, all_rows)
            _transform_back(y, m[worker], scratch, bias, 0, batch, 0, all_rows, n0, n)


_workspaces = threading.local()  # two threads that convolve at once must not share one


def workspace(name, shape):
    """A float32 scratch array that is kept from call to call: fresh memory costs as much as the transforms that fill it."""
    size = math.prod(shape)
    kept = getattr(_workspaces, name, None)
    if kept is None or kept.size < size:
        kept = np.empty(size, np.float32)
        setattr(_workspaces, name, kept)
    return kept[:size].reshape(shape)


def winograd_fits(W: int, Cin: int, Cout: int, window: Window, dtype: DType) -> bool:
    """Whether it is float32, 3x3, stride 1, padding 1, with enough channels to pay for the transforms and a row of tiles that
    fits in the workspace.
    """
    return (
        dtype == np.float32 and window == WINDOW and min(Cin, Cout) >= 16 and (W + 3) // 4 * max(Cin, Cout, COLUMNS) <= CAPACITY
    )


def tile_points(size: int) -> int:
    """Multiplications along an axis, for each pair of channels."""
    return sum(_tile_count(size, i) for i in range(6))


def winograd_conv(y: np.ndarray, x: np.ndarray, wt: np.ndarray, bias: np.ndarray, transposed: bool) -> None:
    """Write a 3x3 convolution of stride 1 and padding 1 into y, by F(4x4, 3x3); Lavin and Gray 2016.

    Args:
        y: [B,H,W,n] result, float32.
        x: [B,H,W,k] images, float32.
        wt: [3,3,Cin,Cout] weights.
        bias: [n].
        transposed: False for the convolution itself, k = Cin and n = Cout; True for its input gradient, where x is
            the gradient of the output, y that of the input, k = Cout and n = Cin.
    """
    B, H, W, k = x.shape
    cols = y.shape[3]
    workers = numba.get_num_threads()
    th, tw = (H + 3) // 4, (W + 3) // 4
    m = workspace("products", (workers, 36 * PLANE))
    if B * th * tw * max(k, COLUMNS) <= CAPACITY and k * cols >= 1 << 17:
        u = workspace("filters", (workers, 36, k * COLUMNS + 1040))
        _winograd_by_columns(y, x, wt, bias, transposed, u, workspace("images", (1, 36 * PLANE)), m)
    else:
        u = workspace("filters", (36, k * cols + 1040))
        _all_filters(u, wt, transposed)
        target = max(1, min(TILES, CAPACITY // max(k, COLUMNS)) // tw)  # tile rows
        tile_rows = -(-th // -(-th // min(th, target)))
        images = max(1, target // th)
        _winograd_by_tiles(y, x, bias, u, workspace("images", (workers, 36 * PLANE)), m, images, tile_rows)
