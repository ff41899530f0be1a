"""Dense convolution over plain arrays: plain loops that define it, and fast paths made of matrix products.

Axes: B images (time steps x batch), H height, W width, C channels; images x[B,H,W,Cin], weights wt[kh,kw,Cin,Cout],
outputs y[B,Ho,Wo,Cout], all C-contiguous. An input pixel is (iy, ix) of channel ci, an output pixel (oy, ox) of channel co,
a tap of the kernel (ky, kx); the Window (layout.py) says which of them meet. d<name> is a gradient. event_conv.py and
winograd.py use the same notation.

The fast paths copy small patches into a workspace and multiply matrices there (rows.product), inside one parallel loop per
call. Every output is one sum in a fixed order, whatever else is computed, so on no CPU does an image's result depend on
its batch, or anything on the number of threads.

3x3 convolutions of stride 1 in float32 take a path with fewer multiplications, which has a module of its own, winograd.py. Its
error is near 3e-6 of the largest value that a tile of 6x6 pixels holds, so one pixel of 1e6 would drown its neighbors, and
one NaN would reach all 16 outputs of each of its tiles. Images that are not finite, or in which the largest value is more than
RANGE times the mean of those that are not 0, are convolved by the definition instead: this is decided for each image alone, so
that it does not depend on the batch. Gradients, whose error matters only relative to the largest value, always take the fast
path.
"""

from __future__ import annotations

import numba
import numpy as np

from ..jit import kernel, parallel_kernel, prange
from .layout import Window
from .rows import COLUMNS, add, copy, product, transpose
from .winograd import winograd_conv, winograd_fits

__all__ = [
    "conv_forward",
    "conv_input_gradient",
    "conv_weight_gradient",
    "dense_forward",
    "dense_input_gradient",
    "dense_weight_gradient",
]


BLOCK = 256  # rows of a product: enough to pay for reading its weights, few enough for the second-level cache
GROUPS = 8  # of images, whose weight gradients are summed separately: a fixed number, whatever the number of threads
PIXELS = 512  # summed over by one product of a weight gradient
ROWS = 48  # of a weight gradient, per product
RANGE = 1000  # of the largest value of an image over the mean of its values that are not 0, see above


# ---- the definition --------------------------------------------------------------------------------------------------


@kernel
def conv_forward(y, x, wt, bias, window):
    # y[B,Ho,Wo,Cout] <- x[B,H,W,Cin], wt[kh,kw,Cin,Cout], bias[Cout]
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
                                for co in range(y.shape[3]):
                                    y[b, oy, ox, co] += x[b, iy, ix, ci] * wt[ky, kx, ci, co]


@kernel
def conv_input_gradient(dx, dy, wt, window):
    # dx[B,H,W,Cin] <- dy[B,Ho,Wo,Cout], wt[kh,kw,Cin,Cout]
    dx[:] = 0
    for b in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for ky in range(window.kh):
                    for kx in range(window.kw):
                        iy, ix = oy * window.stride_h + ky - window.pad_h, ox * window.stride_w + kx - window.pad_w
                        if 0 <= iy < dx.shape[1] and 0 <= ix < dx.shape[2]:
                            # y[b,oy,ox,co] += x[b,iy,ix,ci] * wt[ky,kx,ci,co]
                            for ci in range(dx.shape[3]):
                                for co in range(dy.shape[3]):
                                    dx[b, iy, ix, ci] += dy[b, oy, ox, co] * wt[ky, kx, ci, co]


@kernel
def conv_weight_gradient(dwt, x, dy, window):
    # dwt[kh,kw,Cin,Cout] <- x[B,H,W,Cin], dy[B,Ho,Wo,Cout]
    dwt[:] = 0
    for b in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for ky in range(window.kh):
                    for kx in range(window.kw):
                        iy, ix = oy * window.stride_h + ky - window.pad_h, ox * window.stride_w + kx - window.pad_w
                        if 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2]:
                            # y[b,oy,ox,co] += x[b,iy,ix,ci] * wt[ky,kx,ci,co]
                            for ci in range(x.shape[3]):
                                for co in range(dy.shape[3]):
                                    dwt[ky, kx, ci, co] += x[b, iy, ix, ci] * dy[b, oy, ox, co]


# ---- output and input gradient: one matrix product for each tap ------------------------------------------------------


@parallel_kernel
def _weight_panels(panels, wt, transposed):
    # panels[tap][n in blocks of COLUMNS columns][k][columns] <- wt[tap][Cin, Cout], or its transpose
    Cin, Cout = wt.shape[2:]
    taps = wt.shape[0] * wt.shape[1]
    k, n = (Cout, Cin) if transposed else (Cin, Cout)
    blocks = (n + COLUMNS - 1) // COLUMNS
    weights = wt.reshape(-1)
    for task in prange(taps * blocks):
        tap, n0 = task // blocks, task % blocks * COLUMNS
        cols = min(COLUMNS, n - n0)
        o, a = tap * Cin * Cout + n0 * k, tap * Cin * Cout
        if transposed:
            for k0 in range(0, k, 16):
                transpose(panels, o + k0 * cols, cols, weights, a + n0 * k + k0, k, cols, min(16, k - k0))
        else:
            for r in range(k):
                copy(panels, o + r * cols, weights, a + r * n + n0, cols)


@kernel
def _multiply_tap(target, source, panel, rows, out, pixels, backward, k, n, H, W, Ho, Wo, tap, p0, p1, window):
    # For output pixels p0:p1 and one tap: target pixel += source pixel times panel[k, n]. Forward, the target is the
    # output pixel and the source the input pixel that the tap meets; backward, they change places.
    down, right = tap // window.kw - window.pad_h, tap % window.kw - window.pad_w
    count = 0
    for p in range(p0, p1):
        b, oy, ox = p // (Ho * Wo), p // Wo % Ho, p % Wo
        iy, ix = oy * window.stride_h + down, ox * window.stride_w + right
        if 0 <= iy < H and 0 <= ix < W:
            q = (b * H + iy) * W + ix
            copy(rows, count * k, source, (p if backward else q) * k, k)
            pixels[count] = q if backward else p
            count += 1
    if count > 0:
        for n0 in range(0, n, COLUMNS):
            cols = min(COLUMNS, n - n0)
            product(out, 0, cols, rows, 0, k, 1, panel, n0 * k, cols, count, k, cols)
            for r in range(count):
                add(target, pixels[r] * n + n0, out, r * cols, cols)


@parallel_kernel
def _multiply_taps(target, source, panels, bias, backward, images, block, workers, window):
    # target[B,..,n] <- bias[n] and the products of source[B,..,k] with every tap's panel; `images` images to a task,
    # `block` output pixels to a product
    batch, k, n = source.shape[0], source.shape[3], target.shape[3]
    H, W = target.shape[1:3] if backward else source.shape[1:3]
    Ho, Wo = source.shape[1:3] if backward else target.shape[1:3]
    size = target.shape[1] * target.shape[2]
    results, operands = target.reshape(-1), source.reshape(-1)
    for worker in prange(workers):
        rows = np.empty(block * k, source.dtype)
        out = np.empty(block * min(n, COLUMNS), source.dtype)
        pixels = np.empty(block, np.int64)
        for b0 in range(worker * images, batch, workers * images):
            b1 = min(b0 + images, batch)
            for p in range(b0 * size, b1 * size):
                copy(results, p * n, bias, 0, n)
            for p0 in range(b0 * Ho * Wo, b1 * Ho * Wo, block):
                p1 = min(p0 + block, b1 * Ho * Wo)
                for tap in range(window.kh * window.kw):
                    _multiply_tap(
                        results,
                        operands,
                        panels[tap * k * n : (tap + 1) * k * n],
                        rows,
                        out,
                        pixels,
                        backward,
                        k,
                        n,
                        H,
                        W,
                        Ho,
                        Wo,
                        tap,
                        p0,
                        p1,
                        window,
                    )


def _dense(target, source, wt, bias, backward, window):
    n = target.shape[3]
    if n <= COLUMNS and not backward:  # they are in that order already
        panels = wt.reshape(-1)
    else:
        panels = np.empty(wt.size, wt.dtype)
        _weight_panels(panels, wt, backward)
    Ho, Wo = (source if backward else target).shape[1:3]
    images = max(1, BLOCK // (Ho * Wo))
    block = min(BLOCK, images * Ho * Wo)
    _multiply_taps(target, source, panels, bias, backward, images, block, numba.get_num_threads(), window)


@parallel_kernel
def _forward_by_image(y, x, wt, bias, window):
    # Matrix products over so few input channels would only move memory.
    for b in prange(x.shape[0]):
        conv_forward(y[b : b + 1], x[b : b + 1], wt, bias, window)


@kernel
def _is_wild(x):
    # x: [P, C]. Separate sums for each channel, so that the loop takes several channels at a time.
    real = x.dtype.type
    top, total, count = np.zeros((3, x.shape[1]), x.dtype)
    for p in range(x.shape[0]):
        for c in range(x.shape[1]):
            size = abs(x[p, c])
            top[c] = max(top[c], size)
            total[c] += size
            count[c] += real(size > 0)
    return not top.max() * count.sum() <= real(RANGE) * total.sum() < np.inf  # also where a sum is NaN


@parallel_kernel
def _convolve_wild_images(y, x, wt, bias, window):
    for b in prange(x.shape[0]):
        if _is_wild(x[b].reshape((-1, x.shape[3]))):
            conv_forward(y[b : b + 1], x[b : b + 1], wt, bias, window)


def dense_forward(y: np.ndarray, x: np.ndarray, wt: np.ndarray, bias: np.ndarray, window: Window, tame: bool = False) -> None:
    """Write the convolution of x with wt, plus bias, into y. ``tame``: no image needs the definition, as x holds spikes."""
    if winograd_fits(x.shape[2], wt.shape[2], wt.shape[3], window, x.dtype):
        winograd_conv(y, x, wt, bias, False)
        if not tame:
            _convolve_wild_images(y, x, wt, bias, window)
    elif wt.shape[2] < 8:
        _forward_by_image(y, x, wt, bias, window)
    else:
        _dense(y, x, wt, bias, False, window)


def dense_input_gradient(dx: np.ndarray, dy: np.ndarray, wt: np.ndarray, window: Window) -> None:
    """Write the gradient with respect to the convolution's input into dx."""
    no_bias = np.zeros(wt.shape[2], dx.dtype)
    if winograd_fits(dx.shape[2], wt.shape[2], wt.shape[3], window, dx.dtype):
        winograd_conv(dx, dy, wt, no_bias, True)
    else:
        _dense(dx, dy, wt, no_bias, True, window)


# ---- weight gradient: one matrix product over the pixels of a few images ---------------------------------------------


@kernel
def _patches(rows, x, Ho, Wo, window):
    # rows[Ho*Wo, kh*kw*Cin] <- x[H,W,Cin]: for each output pixel, what it sees under each tap, zeros outside the image
    H, W, Cin = x.shape
    for oy in range(Ho):
        for ox in range(Wo):
            seen = rows[oy * Wo + ox]
            for ky in range(window.kh):
                for kx in range(window.kw):
                    iy, ix = oy * window.stride_h + ky - window.pad_h, ox * window.stride_w + kx - window.pad_w
                    tap = ky * window.kw + kx
                    row = seen[tap * Cin : (tap + 1) * Cin]
                    if 0 <= iy < H and 0 <= ix < W:
                        source = x[iy, ix]
                        for ci in range(Cin):
                            row[ci] = source[ci]
                    else:
                        for ci in range(Cin):
                            row[ci] = 0


@parallel_kernel
def _weight_gradient_parts(parts, x, dy, block, window):
    # parts[G, taps*Cin, Cout] <- sums over groups of images, `block` images to a product
    batch, Ho, Wo, n = dy.shape
    groups, k = parts.shape[:2]
    pixels = Ho * Wo
    gradient = dy.reshape(-1)
    for g in prange(groups):
        rows = np.empty((block * pixels, k), x.dtype)
        out = np.empty(ROWS * COLUMNS, x.dtype)
        part = parts[g].reshape(-1)
        part[:] = 0
        last = batch * (g + 1) // groups
        for b0 in range(batch * g // groups, last, block):
            b1 = min(b0 + block, last)
            for b in range(b0, b1):
                _patches(rows[(b - b0) * pixels :], x[b], Ho, Wo, window)
            seen, summed = rows.reshape(-1), (b1 - b0) * pixels
            for i0 in range(0, k, ROWS):
                m = min(ROWS, k - i0)
                for n0 in range(0, n, COLUMNS):
                    cols = min(COLUMNS, n - n0)
                    product(out, 0, cols, seen, i0, 1, k, gradient, b0 * pixels * n + n0, n, m, summed, cols)
                    for i in range(m):
                        add(part, (i0 + i) * n + n0, out, i * cols, cols)


def dense_weight_gradient(dwt: np.ndarray, x: np.ndarray, dy: np.ndarray, window: Window) -> None:
    """Write the gradient with respect to the convolution's weights into dwt."""
    kh, kw, Cin, Cout = dwt.shape
    parts = np.empty((min(GROUPS, len(x)), kh * kw * Cin, Cout), dwt.dtype)
    # A product over few pixels would mostly wait for the weights from memory, one over many for the patches.
    block = max(1, PIXELS // (dy.shape[1] * dy.shape[2]))
    _weight_gradient_parts(parts, x, dy, block, window)
    parts.sum(axis=0, out=dwt.reshape(-1, Cout))
