"""Dense convolution over plain arrays: plain loops that define it, and fast paths made of matrix products.

Axes: B images (time steps x batch), H height, W width, C channels; images X[B,H,W,Cin], weights Wt[kh,kw,Cin,Cout],
outputs Y[B,Ho,Wo,Cout], all C-contiguous. `sh, sw` strides, `ph, pw` zero padding. d<name> is a gradient.

The fast paths copy small patches into a workspace and multiply matrices there (rows.product), inside one parallel loop per
call. Every output is one sum in a fixed order, whatever else is computed beside it: so an image's result does not depend on
its batch, nor anything on the number of threads, on any CPU.

3x3 convolutions of stride 1 in float32 take the path of fewer multiplications that has a page of its own, winograd.py. Its
error is near 3e-6 of the largest value that a tile of 6x6 pixels holds, so one pixel of 1e6 would drown its neighbors, and
one NaN would reach all 16 outputs of each of its tiles. Images that are not finite, or in which the largest value is more than
RANGE times the mean of those that are not 0, are convolved by the definition instead: each image by itself, so that its batch
has no say. Gradients, whose error matters against the largest value only, take the fast path as they are.
"""

import numba
import numpy as np

from ..jit import kernel, parallel_kernel, prange
from .rows import COLUMNS, add, copy, product, transpose
from .winograd import winograd_conv, winograd_fits

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient", "output_size", "dense_forward",
           "dense_input_gradient", "dense_weight_gradient"]


SMALL = 1000000  # multiplications of a product, about: its operands then lie in the second-level cache
GROUPS = 8  # of images, whose weight gradients are summed apart: a fixed number, whatever the number of threads
PIXELS = 512  # summed over by one product of a weight gradient
ROWS = 48  # of a weight gradient, per product
RANGE = 1000  # of the largest value of an image over the mean of its values, see above


def output_size(size, k, stride, pad):
    """Output pixels along one axis."""
    return (size + 2 * pad - k) // stride + 1


# ---------------------------------------------------------------------------------------------- the definition


@kernel
def conv_forward(y, x, wt, bias, sh, sw, ph, pw):
    # y[B,Ho,Wo,Cout] <- x[B,H,W,Cin], wt[kh,kw,Cin,Cout], bias[Cout]
    for b in range(y.shape[0]):
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                for co in range(y.shape[3]):
                    y[b, oy, ox, co] = bias[co]
                for ky in range(wt.shape[0]):
                    for kx in range(wt.shape[1]):
                        iy, ix = oy * sh + ky - ph, ox * sw + kx - pw
                        if 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2]:
                            for ci in range(x.shape[3]):
                                for co in range(y.shape[3]):
                                    y[b, oy, ox, co] += x[b, iy, ix, ci] * wt[ky, kx, ci, co]


@kernel
def conv_input_gradient(dx, dy, wt, sh, sw, ph, pw):
    # dx[B,H,W,Cin] <- dy[B,Ho,Wo,Cout], wt[kh,kw,Cin,Cout]
    dx[:] = 0
    for b in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for ky in range(wt.shape[0]):
                    for kx in range(wt.shape[1]):
                        iy, ix = oy * sh + ky - ph, ox * sw + kx - pw
                        if 0 <= iy < dx.shape[1] and 0 <= ix < dx.shape[2]:
                            # y[b,oy,ox,co] += x[b,iy,ix,ci] * wt[ky,kx,ci,co]
                            for ci in range(dx.shape[3]):
                                for co in range(dy.shape[3]):
                                    dx[b, iy, ix, ci] += dy[b, oy, ox, co] * wt[ky, kx, ci, co]


@kernel
def conv_weight_gradient(dwt, x, dy, sh, sw, ph, pw):
    # dwt[kh,kw,Cin,Cout] <- x[B,H,W,Cin], dy[B,Ho,Wo,Cout]
    dwt[:] = 0
    for b in range(dy.shape[0]):
        for oy in range(dy.shape[1]):
            for ox in range(dy.shape[2]):
                for ky in range(dwt.shape[0]):
                    for kx in range(dwt.shape[1]):
                        iy, ix = oy * sh + ky - ph, ox * sw + kx - pw
                        if 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2]:
                            # y[b,oy,ox,co] += x[b,iy,ix,ci] * wt[ky,kx,ci,co]
                            for ci in range(x.shape[3]):
                                for co in range(dy.shape[3]):
                                    dwt[ky, kx, ci, co] += x[b, iy, ix, ci] * dy[b, oy, ox, co]


# ---------------------------------------------------------------------------------------------- matrix products


@kernel
def _patches(rows, x, taps, first, count, wo, step_h, step_w, b):
    # rows[count, taps*C] <- x[b]: pixel p = first + r of an output wo pixels wide reads, for tap t, the input pixel
    # (p // wo * step_h + taps[t,0], p % wo * step_w + taps[t,1]), or zeros outside the image.
    h, w, c = x.shape[1], x.shape[2], x.shape[3]
    for r in range(count):
        oy, ox = (first + r) // wo, (first + r) % wo
        for t in range(taps.shape[0]):
            iy, ix = oy * step_h + taps[t, 0], ox * step_w + taps[t, 1]
            row = rows[r, t * c:(t + 1) * c]
            if 0 <= iy < h and 0 <= ix < w:
                source = x[b, iy, ix]
                for i in range(c):
                    row[i] = source[i]
            else:
                for i in range(c):
                    row[i] = 0


@parallel_kernel
def _weight_panels(panels, wt, transposed, taps, cin, cout):
    # panels[tap][N in blocks of COLUMNS columns][K][columns] <- wt[tap][Cin, Cout], or its transpose
    k, n = (cout, cin) if transposed else (cin, cout)
    blocks = (n + COLUMNS - 1) // COLUMNS
    for task in prange(taps * blocks):
        tap, n0 = task // blocks, task % blocks * COLUMNS
        cols = min(COLUMNS, n - n0)
        o, a = tap * cin * cout + n0 * k, tap * cin * cout
        if transposed:
            for k0 in range(0, k, 16):
                transpose(panels, o + k0 * cols, cols, wt, a + n0 * k + k0, k, cols, min(16, k - k0))
        else:
            for r in range(k):
                copy(panels, o + r * cols, wt, a + r * n + n0, cols)


@kernel
def _multiply_tap(target, source, panel, rows, out, pixels, backward, k, n, h, w, ho, wo, ky, kx, sh, sw, p0, p1):
    # For output pixels p0:p1 and one tap: target pixel += source pixel times panel[K, N]. Forward the target is the
    # output pixel and the source the input pixel that the tap meets; backward they change places.
    count = 0
    for p in range(p0, p1):
        b, oy, ox = p // (ho * wo), p // wo % ho, p % wo
        iy, ix = oy * sh + ky, ox * sw + kx
        if 0 <= iy < h and 0 <= ix < w:
            q = (b * h + iy) * w + ix
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
def _multiply_taps(target, source, panels, bias, backward, batch, k, n, h, w, ho, wo, kh, kw, sh, sw, ph, pw, images,
                   block, workers):
    size = h * w if backward else ho * wo
    for worker in prange(workers):
        rows = np.empty(block * k, source.dtype)
        out = np.empty(block * min(n, COLUMNS), source.dtype)
        pixels = np.empty(block, np.int64)
        for b0 in range(worker * images, batch, workers * images):
            b1 = min(b0 + images, batch)
            for p in range(b0 * size, b1 * size):
                copy(target, p * n, bias, 0, n)
            for p0 in range(b0 * ho * wo, b1 * ho * wo, block):
                p1 = min(p0 + block, b1 * ho * wo)
                for tap in range(kh * kw):
                    _multiply_tap(target, source, panels[tap * k * n:(tap + 1) * k * n], rows, out, pixels, backward,
                                  k, n, h, w, ho, wo, tap // kw - ph, tap % kw - pw, sh, sw, p0, p1)


def _dense(target, source, wt, bias, backward, sh, sw, ph, pw):
    kh, kw, cin, cout = wt.shape
    image, output = (target, source) if backward else (source, target)
    h, w, ho, wo = *image.shape[1:3], *output.shape[1:3]
    k, n = source.shape[3], target.shape[3]
    if n <= COLUMNS and not backward:  # they lie so already
        panels = wt.reshape(-1)
    else:
        panels = np.empty(wt.size, wt.dtype)
        _weight_panels(panels, wt.reshape(-1), backward, kh * kw, cin, cout)
    block = min(SMALL // (k * min(n, COLUMNS)), 256)
    if block < 8:  # so few rows would not pay for reading the weights
        block = 256
    images = max(1, block // (ho * wo))
    block = min(block, images * ho * wo)
    _multiply_taps(target.reshape(-1), source.reshape(-1), panels, bias, backward, image.shape[0], k, n, h, w, ho, wo,
                   kh, kw, sh, sw, ph, pw, images, block, numba.get_num_threads())


@parallel_kernel
def _forward_by_image(y, x, wt, bias, sh, sw, ph, pw):
    # Matrix products of so few input channels would only move memory.
    for b in prange(x.shape[0]):
        conv_forward(y[b:b + 1], x[b:b + 1], wt, bias, sh, sw, ph, pw)


@kernel
def _is_wild(x):
    # x: [P, C]. Sums for each channel apart, which takes several channels at a time.
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
def _convolve_wild_images(y, x, wt, bias):
    for b in prange(x.shape[0]):
        if _is_wild(x[b].reshape((-1, x.shape[3]))):
            conv_forward(y[b:b + 1], x[b:b + 1], wt, bias, 1, 1, 1, 1)


def dense_forward(y, x, wt, bias, sh, sw, ph, pw, tame=False):
    """Write the convolution of x with wt, plus bias, into y. ``tame`` promises that no image needs the definition: spikes."""
    kh, kw, cin, cout = wt.shape
    if winograd_fits(x.shape[2], wt.shape, (sh, sw, ph, pw), x.dtype):
        winograd_conv(y, x, wt, bias, False)
        if not tame:
            _convolve_wild_images(y, x, wt, bias)
        return
    if cin < 8:
        return _forward_by_image(y, x, wt, bias, sh, sw, ph, pw)
    _dense(y, x, wt, bias, False, sh, sw, ph, pw)


def dense_input_gradient(dx, dy, wt, sh, sw, ph, pw):
    """Write the gradient by the convolution's input into dx."""
    kh, kw, cin, cout = wt.shape
    no_bias = np.zeros(cin, dx.dtype)
    if winograd_fits(dx.shape[2], wt.shape, (sh, sw, ph, pw), dx.dtype):
        return winograd_conv(dx, dy, wt, no_bias, True)
    _dense(dx, dy, wt, no_bias, True, sh, sw, ph, pw)


@parallel_kernel
def _weight_gradient_parts(parts, x, dy, taps, sh, sw, block):
    # parts[G, taps*Cin, Cout] <- sums over groups of images, `block` images to a product
    batch, ho, wo, n = dy.shape
    k, groups, pixels = parts.shape[1], parts.shape[0], dy.shape[1] * dy.shape[2]
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
                _patches(rows[(b - b0) * pixels:], x, taps, 0, pixels, wo, sh, sw, b)
            for i0 in range(0, k, ROWS):
                m = min(ROWS, k - i0)
                for n0 in range(0, n, COLUMNS):
                    cols = min(COLUMNS, n - n0)
                    product(out, 0, cols, rows.reshape(-1), i0, 1, k, gradient, b0 * pixels * n + n0, n, m, (b1 - b0) * pixels, cols)
                    for i in range(m):
                        add(part, (i0 + i) * n + n0, out, i * cols, cols)


def dense_weight_gradient(dwt, x, dy, sh, sw, ph, pw):
    """Write the gradient by the convolution's weights into dwt."""
    kh, kw, cin, cout = dwt.shape
    taps = np.array([(ky - ph, kx - pw) for ky in range(kh) for kx in range(kw)], np.int64).reshape(-1, 2)
    parts = np.empty((min(GROUPS, len(x)), kh * kw * cin, cout), dwt.dtype)
    # A product over few pixels would mostly wait for the weights' memory, one over many for the patches'.
    block = max(1, PIXELS // (dy.shape[1] * dy.shape[2]))
    _weight_gradient_parts(parts, x, dy, taps, sh, sw, block)
    parts.sum(axis=0, out=dwt.reshape(-1, cout))
