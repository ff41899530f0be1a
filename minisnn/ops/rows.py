"""Rows of numbers within flat arrays: copied, added, multiplied. The building blocks of the dense convolutions.

A row of ``n`` numbers begins at ``o`` in the array ``out`` that is written, and at ``a`` in the array ``x`` that is read.

The matrix product is written here, not taken from a BLAS: OpenBLAS has different kernels for each kind of CPU, and most of
them round a row differently depending on its position and on the number of rows in the product. Here every entry is one sum
over k in ascending order, whatever else is computed, so on no CPU can an image's convolution depend on its batch. It is as fast
as OpenBLAS: on one core 75 to 115 GFLOP/s against 83 to 115 with AVX-512, 80 to 100 against 48 to 69 with AVX2.
"""

import numpy as np

from ..jit import contracted_kernel, has_feature, kernel

__all__ = ["COLUMNS", "OFFSET", "STEP", "copy", "add", "copy_plus", "fill", "transpose", "store", "product", "product_loops"]

COLUMNS = 64  # columns per matrix product
# Masking proves to the compiler that an index is not negative; otherwise it does not vectorize a loop over it.
OFFSET, STEP = (1 << 47) - 1, (1 << 31) - 1


@kernel
def copy(out, o, x, a, n):
    o, a, n = o & OFFSET, a & OFFSET, n & STEP
    for c in range(n):
        out[o + c] = x[a + c]


@kernel
def add(out, o, x, a, n):
    o, a, n = o & OFFSET, a & OFFSET, n & STEP
    for c in range(n):
        out[o + c] += x[a + c]


@kernel
def copy_plus(out, o, x, a, bias, b, n):
    o, a, b, n = o & OFFSET, a & OFFSET, b & OFFSET, n & STEP
    for c in range(n):
        out[o + c] = x[a + c] + bias[b + c]


@kernel
def fill(out, o, value, n):
    o, n = o & OFFSET, n & STEP
    for c in range(n):
        out[o + c] = value


@kernel
def transpose(out, o, out_step, w, a, step, rows, cols):
    # out[cols, rows] <- w[rows, cols]
    o, a, out_step, step = o & OFFSET, a & OFFSET, out_step & STEP, step & STEP
    for r in range(rows):
        for c in range(cols):
            out[o + c * out_step + r] = w[a + r * step + c]


# ---- the matrix product ----------------------------------------------------------------------------------------------


@contracted_kernel
def product_loops(out, o, gap, x, a, row, step, w, b, width, m, k, n):
    # The definition: out[m, n] <- x[m, k] w[k, n]. Entry (i, l) of x is at a + i * row + l * step; rows of w begin at b, a
    # width apart, rows of out at o, a gap apart.
    for i in range(m):
        for j in range(n):
            total = out.dtype.type(0)
            for l in range(k):
                total += x[a + i * row + l * step] * w[b + l * width + j]
            out[o + i * gap + j] = total


@contracted_kernel
def _plus(s, f, w, b):
    # The 16 sums s, each plus f times its number of w. A tuple, since its entries are kept in one or two registers, whereas an
    # array would be written to memory; unsigned, since a signed index might be negative, and is checked.
    return (
        s[0] + f * w[b],
        s[1] + f * w[b + np.uint64(1)],
        s[2] + f * w[b + np.uint64(2)],
        s[3] + f * w[b + np.uint64(3)],
        s[4] + f * w[b + np.uint64(4)],
        s[5] + f * w[b + np.uint64(5)],
        s[6] + f * w[b + np.uint64(6)],
        s[7] + f * w[b + np.uint64(7)],
        s[8] + f * w[b + np.uint64(8)],
        s[9] + f * w[b + np.uint64(9)],
        s[10] + f * w[b + np.uint64(10)],
        s[11] + f * w[b + np.uint64(11)],
        s[12] + f * w[b + np.uint64(12)],
        s[13] + f * w[b + np.uint64(13)],
        s[14] + f * w[b + np.uint64(14)],
        s[15] + f * w[b + np.uint64(15)],
    )


@kernel
def store(out, o, s):
    out[o], out[o + np.uint64(1)], out[o + np.uint64(2)], out[o + np.uint64(3)] = s[0], s[1], s[2], s[3]
    out[o + np.uint64(4)], out[o + np.uint64(5)], out[o + np.uint64(6)], out[o + np.uint64(7)] = s[4], s[5], s[6], s[7]
    out[o + np.uint64(8)], out[o + np.uint64(9)], out[o + np.uint64(10)], out[o + np.uint64(11)] = s[8], s[9], s[10], s[11]
    out[o + np.uint64(12)], out[o + np.uint64(13)], out[o + np.uint64(14)], out[o + np.uint64(15)] = s[12], s[13], s[14], s[15]


@kernel
def _zeros(like):
    z = like.dtype.type(0)
    return (z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z)


@contracted_kernel
def _row(out, o, x, a, step, w, b, width, k):
    # out[16] <- x[k] w[k, 16]
    o, a, step, b, width = np.uint64(o), np.uint64(a), np.uint64(step), np.uint64(b), np.uint64(width)
    s = _zeros(out)
    for _ in range(k):
        s = _plus(s, x[a], w, b)
        a += step
        b += width
    store(out, o, s)


@contracted_kernel
def _four_rows(out, o, gap, x, a, row, step, w, b, width, k):
    # out[4, 16] <- x[4, k] w[k, 16]: 16 numbers of w, loaded once, serve four rows.
    o, gap, b, width = np.uint64(o), np.uint64(gap), np.uint64(b), np.uint64(width)
    a0, row, step = np.uint64(a), np.uint64(row), np.uint64(step)
    a1, a2, a3 = a0 + row, a0 + np.uint64(2) * row, a0 + np.uint64(3) * row
    s0 = s1 = s2 = s3 = _zeros(out)
    for _ in range(k):
        s0, s1 = _plus(s0, x[a0], w, b), _plus(s1, x[a1], w, b)
        s2, s3 = _plus(s2, x[a2], w, b), _plus(s3, x[a3], w, b)
        a0, a1, a2, a3 = a0 + step, a1 + step, a2 + step, a3 + step
        b += width
    store(out, o, s0)
    store(out, o + gap, s1)
    store(out, o + np.uint64(2) * gap, s2)
    store(out, o + np.uint64(3) * gap, s3)


@contracted_kernel
def _eight_rows(out, o, gap, x, a, row, step, w, b, width, k):
    # out[8, 16] <- x[8, k] w[k, 16]: as _four_rows, for CPUs with enough registers for that many sums.
    o, gap, b, width = np.uint64(o), np.uint64(gap), np.uint64(b), np.uint64(width)
    a0, row, step = np.uint64(a), np.uint64(row), np.uint64(step)
    a1, a2, a3, a4 = a0 + row, a0 + np.uint64(2) * row, a0 + np.uint64(3) * row, a0 + np.uint64(4) * row
    a5, a6, a7 = a4 + row, a4 + np.uint64(2) * row, a4 + np.uint64(3) * row
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = _zeros(out)
    for _ in range(k):
        s0, s1 = _plus(s0, x[a0], w, b), _plus(s1, x[a1], w, b)
        s2, s3 = _plus(s2, x[a2], w, b), _plus(s3, x[a3], w, b)
        s4, s5 = _plus(s4, x[a4], w, b), _plus(s5, x[a5], w, b)
        s6, s7 = _plus(s6, x[a6], w, b), _plus(s7, x[a7], w, b)
        a0, a1, a2, a3 = a0 + step, a1 + step, a2 + step, a3 + step
        a4, a5, a6, a7 = a4 + step, a5 + step, a6 + step, a7 + step
        b += width
    store(out, o, s0)
    store(out, o + gap, s1)
    store(out, o + np.uint64(2) * gap, s2)
    store(out, o + np.uint64(3) * gap, s3)
    store(out, o + np.uint64(4) * gap, s4)
    store(out, o + np.uint64(5) * gap, s5)
    store(out, o + np.uint64(6) * gap, s6)
    store(out, o + np.uint64(7) * gap, s7)


# Rows of a tile: as many as leave the sums in registers, of which AVX-512 has 32 of 16 floats, AVX2 16 of 8, Arm 32 of 4.
# No sum depends on this number.
TILE_ROWS, _tile = (8, _eight_rows) if has_feature("avx512f") else (4, _four_rows)


@kernel
def _tiles(out, o, gap, x, a, row, step, w, b, width, m, k, n):
    # The last tile of an axis overlaps the one before it rather than being smaller: it computes the same numbers again.
    for j in range(0, n, 16):
        j = min(j, n - 16)
        if m < TILE_ROWS:
            for i in range(m):
                _row(out, o + i * gap + j, x, a + i * row, step, w, b + j, width, k)
        else:
            for i in range(0, m, TILE_ROWS):
                i = min(i, m - TILE_ROWS)
                _tile(out, o + i * gap + j, gap, x, a + i * row, row, step, w, b + j, width, k)


@kernel
def product(out, o, gap, x, a, row, step, w, b, width, m, k, n):
    # Like product_loops, with the same sums in the same order, but a tile of rows and 16 columns at a time.
    if n >= 16:
        _tiles(out, o, gap, x, a, row, step, w, b, width, m, k, n)
    else:  # columns of zeros fill the tile
        panel, wide = np.zeros(k * 16, out.dtype), np.empty(m * 16, out.dtype)
        for r in range(k):
            copy(panel, r * 16, w, b + r * width, n)
        _tiles(wide, 0, 16, x, a, row, step, panel, 0, 16, m, k, 16)
        for i in range(m):
            copy(out, o + i * gap, wide, i * 16, n)
