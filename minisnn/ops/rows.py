"""Rows of numbers within flat arrays, copied about: what the dense convolutions do between two matrix products.

A row of ``n`` numbers begins at ``o`` in the array ``out`` that is written, and at ``a`` in the array ``x`` that is read.
"""

from ..jit import kernel

__all__ = ["COLUMNS", "SMALL", "OFFSET", "STEP", "copy", "add", "copy_plus", "fill", "transpose"]

COLUMNS = 64  # columns per matrix product
# Multiplications of a product that OpenBLAS still does without packing its operands first, a quarter faster.
SMALL = 1000000
# An index masked with these is visibly not negative, without which the compiler would not vectorise a loop over it.
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
