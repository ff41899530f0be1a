"""Dense convolution over plain arrays: plain loops that define it, and fast paths made of matrix products.

Axes: B images (time steps x batch), H height, W width, C channels; images X[B,H,W,Cin], weights Wt[kh,kw,Cin,Cout],
outputs Y[B,Ho,Wo,Cout], all C-contiguous. `sh, sw` strides, `ph, pw` zero padding. d<name> is a gradient.

The fast paths copy small patches into a workspace and multiply matrices there, inside one parallel loop per call, with
BLAS held at one thread (see threads.py). Blocks hold a fixed number of images or of rows, whatever the number of
threads, so a result never depends on that number.

3x3 convolutions of stride 1 and padding 1 in float32 go through Winograd's F(4x4, 3x3) instead: 36 multiplications per
4x4 output pixels in place of 144 (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks").
"""

import numba
import numpy as np

from minisnn.jit import kernel, parallel_kernel, prange

__all__ = ["conv_forward", "conv_input_gradient", "conv_weight_gradient", "output_size", "dense_forward",
           "dense_input_gradient", "dense_weight_gradient", "winograd_applies", "winograd_conv", "winograd_weights"]


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
def _multiply_patches(y, x, wt2, bias, taps, step_h, step_w, off_y, off_x, out_h, out_w, ho, wo, block, workers):
    # y[:, off_y::out_h, off_x::out_w] <- patches of x times wt2[taps*C, N], plus bias[N]; ho x wo pixels per image.
    n, k = wt2.shape[1], wt2.shape[0]
    per_image = (ho * wo + block - 1) // block
    for worker in prange(workers):
        rows = np.empty((block, k), x.dtype)
        out = np.empty((block, n), x.dtype)
        for task in range(worker, x.shape[0] * per_image, workers):
            b, first = task // per_image, task % per_image * block
            count = min(block, ho * wo - first)
            _patches(rows, x, taps, first, count, wo, step_h, step_w, b)
            np.dot(rows[:count], wt2, out[:count])
            for r in range(count):
                oy, ox = (first + r) // wo, (first + r) % wo
                target = y[b, off_y + oy * out_h, off_x + ox * out_w]
                for i in range(n):
                    target[i] = out[r, i] + bias[i]


def dense_forward(y, x, wt, bias, sh, sw, ph, pw):
    """Write the convolution of x with wt, plus bias, into y."""
    kh, kw, cin, cout = wt.shape
    if winograd_applies(wt.shape, x.shape, x.dtype, sh, sw, ph, pw):
        return winograd_conv(y, x, winograd_weights(wt, False), bias)
    taps = np.array([(ky - ph, kx - pw) for ky in range(kh) for kx in range(kw)], np.int64).reshape(-1, 2)
    _multiply_patches(y, x, wt.reshape(-1, cout), bias, taps, sh, sw, 0, 0, 1, 1, y.shape[1], y.shape[2], 256,
                      numba.get_num_threads())


def dense_input_gradient(dx, dy, wt, sh, sw, ph, pw):
    """Write the gradient by the convolution's input into dx."""
    kh, kw, cin, cout = wt.shape
    h, w = dx.shape[1:3]
    no_bias = np.zeros(cin, dx.dtype)
    if winograd_applies(wt.shape, dy.shape, dy.dtype, sh, sw, ph, pw):
        return winograd_conv(dx, dy, winograd_weights(wt, True), no_bias)
    for py in range(min(sh, h)):
        for px in range(min(sw, w)):
            # Input pixels iy = py + sh*i meet the taps ky = iy + ph - sh*oy, all of one residue modulo sh.
            pairs = [(ky, kx) for ky in range((py + ph) % sh, kh, sh) for kx in range((px + pw) % sw, kw, sw)]
            if not pairs:
                dx[:, py::sh, px::sw] = 0
                continue
            taps = np.array([((py + ph - ky) // sh, (px + pw - kx) // sw) for ky, kx in pairs], np.int64)
            wt2 = np.concatenate([wt[ky, kx].T for ky, kx in pairs])
            _multiply_patches(dx, dy, wt2, no_bias, taps, 1, 1, py, px, sh, sw, (h - py + sh - 1) // sh,
                              (w - px + sw - 1) // sw, 256, numba.get_num_threads())


@parallel_kernel
def _weight_gradient_parts(parts, x, dy, taps, sh, sw, images):
    # parts[G, taps*Cin, Cout] <- sums over groups of images
    ho, wo, n = dy.shape[1], dy.shape[2], dy.shape[3]
    k = parts.shape[1]
    for g in prange(parts.shape[0]):
        rows = np.empty((ho * wo, k), x.dtype)
        product = np.empty((k, n), x.dtype)
        part = parts[g]
        part[:] = 0
        for b in range(g * images, min((g + 1) * images, x.shape[0])):
            _patches(rows, x, taps, 0, ho * wo, wo, sh, sw, b)
            np.dot(rows.T, dy[b].reshape(ho * wo, n), product)
            for i in range(k):
                for j in range(n):
                    part[i, j] += product[i, j]


def dense_weight_gradient(dwt, x, dy, sh, sw, ph, pw):
    """Write the gradient by the convolution's weights into dwt."""
    kh, kw, cin, cout = dwt.shape
    taps = np.array([(ky - ph, kx - pw) for ky in range(kh) for kx in range(kw)], np.int64).reshape(-1, 2)
    images = (x.shape[0] + 7) // 8
    parts = np.empty((8, kh * kw * cin, cout), dwt.dtype)
    _weight_gradient_parts(parts, x, dy, taps, sh, sw, images)
    parts.sum(axis=0, out=dwt.reshape(-1, cout))


# ---------------------------------------------------------------------------------------------- Winograd F(4x4, 3x3)

# Interpolation points 0, +-P, +-Q and infinity. P and Q are exact in binary and keep errors near 3e-6 of the largest value.
P, Q = np.float32(0.75), np.float32(1.5)
P2, Q2 = P * P, Q * Q
P2Q2, P2_Q2 = P2 * Q2, P2 + Q2
WEIGHT_P, WEIGHT_Q, WEIGHT_0 = 1 / (2 * P2 * (P2 - Q2)), 1 / (2 * Q2 * (Q2 - P2)), 1 / (P2 * Q2)
LANES = 64            # channels per pass of a transform
COLUMNS = 64          # columns per matrix product
STRIP = 6 * LANES     # floats of one column of pixels in a strip
ROW = 9 * COLUMNS + 16 # floats of a row of filters
RUN = 16 * COLUMNS + 16  # floats of 16 rows of transformed filters
PLANE = 65536 + 2736  # floats from one of the 36 matrices of a workspace to the next; the odd part spreads them in the cache
# An index masked with these is visibly not negative, without which the compiler would not vectorise a loop over it.
OFFSET, STEP = (1 << 47) - 1, (1 << 31) - 1


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
def _weight_transform(out, o, out_step, w, a, step, n):
    # out[6, n] <- G w[3, n]
    o, a, out_step, step, n = o & OFFSET, a & OFFSET, out_step & STEP, step & STEP, n & STEP
    for c in range(n):
        w0, w1, w2 = w[a + c], w[a + step + c], w[a + 2 * step + c]
        ep, op, eq, oq = w0 + P2 * w2, P * w1, w0 + Q2 * w2, Q * w1
        out[o + c] = w0 * WEIGHT_0
        out[o + out_step + c] = (ep + op) * WEIGHT_P
        out[o + 2 * out_step + c] = (ep - op) * WEIGHT_P
        out[o + 3 * out_step + c] = (eq + oq) * WEIGHT_Q
        out[o + 4 * out_step + c] = (eq - oq) * WEIGHT_Q
        out[o + 5 * out_step + c] = w2


@kernel
def _copy(out, o, x, a, n):
    o, a, n = o & OFFSET, a & OFFSET, n & STEP
    for c in range(n):
        out[o + c] = x[a + c]


@kernel
def _copy_plus(out, o, x, a, bias, b, n):
    o, a, b, n = o & OFFSET, a & OFFSET, b & OFFSET, n & STEP
    for c in range(n):
        out[o + c] = x[a + c] + bias[b + c]


@kernel
def _zero(out, o, n):
    o, n = o & OFFSET, n & STEP
    for c in range(n):
        out[o + c] = 0


@kernel
def _gather_weights(g, wt, transposed, cin, cout, k0, k1, n0, n1):
    # g[k1-k0][9][COLUMNS] <- the 3x3 filters from input k to output n, transposed and turned by 180 degrees or not
    for t in range(9):
        if transposed:
            for c in range(n1 - n0):
                a, o, n = (((8 - t) * cin + n0 + c) * cout + k0) & OFFSET, t * COLUMNS + c, (k1 - k0) & STEP
                for k in range(n):
                    g[o + k * ROW] = wt[a + k]
        else:
            for k in range(k0, k1):
                _copy(g, (k - k0) * ROW + t * COLUMNS, wt, (t * cin + k) * cout + n0, n1 - n0)


@kernel
def _transform_weights(u, plane, g, wt, transposed, cin, cout, k0, k1, n0, n1):
    # u[36][K, N in blocks of COLUMNS columns] <- G w G^T for rows k0:k1 of the block of columns n0:n1
    rows = cout if transposed else cin
    n = n1 - n0
    half = 16 * ROW
    out = half + 18 * COLUMNS
    _gather_weights(g, wt, transposed, cin, cout, k0, k1, n0, n1)
    for k in range(k0, k1):
        for j in range(3):
            _weight_transform(g, half + j * COLUMNS, 3 * COLUMNS, g, (k - k0) * ROW + j * COLUMNS, 3 * COLUMNS, n)
        for i in range(6):
            _weight_transform(g, out + 6 * i * RUN + (k - k0) * n, RUN, g, half + 3 * i * COLUMNS, COLUMNS, n)
    for i in range(36):
        _copy(u, i * plane + n0 * rows + k0 * n, g, out + i * RUN, (k1 - k0) * n)


@parallel_kernel
def _all_weights(u, plane, wt, transposed, cin, cout):
    rows, cols = (cout, cin) if transposed else (cin, cout)
    row_tasks = (rows + 15) // 16
    for task in prange(row_tasks * ((cols + COLUMNS - 1) // COLUMNS)):
        g = np.empty(16 * ROW + 18 * COLUMNS + 36 * RUN, wt.dtype)
        k0, n0 = task % row_tasks * 16, task // row_tasks * COLUMNS
        _transform_weights(u, plane, g, wt, transposed, cin, cout, k0, min(k0 + 16, rows), n0, min(n0 + COLUMNS, cols))


@kernel
def _tile_count(size, i):
    # Tiles along an axis that need point i. A last tile of 3 outputs does without infinity, which only the 4th output
    # reads; one of 1 or 2 is placed one pixel early, so that they are its 2nd and 3rd output, which read neither 0.
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
def _transform_images(v, strip, raw, x, h, w, k, b0, b1, t0, t1):
    # v[36][rows, K] <- B^T d B for the tile rows t0:t1 of images b0:b1; row = (tile column, tile row, image)
    tiles = _tile_count(w, 1)
    columns = _tile_start(w, tiles - 1) + 7
    for s in range(columns):
        if s < 2 or s >= w + 2:
            _zero(strip, s * STRIP, STRIP)
    for b in range(b0, b1):
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
                                _copy(raw, r * LANES, x, a + r * w * k, n)
                            else:
                                _zero(raw, r * LANES, n)
                        _image_transform(strip, (s + 2) * STRIP, LANES, raw, 0, LANES, n)
                for i in range(6):
                    rows = min(t1, _tile_count(h, i)) - t0
                    if t - t0 < rows:
                        for tx in range(tiles):
                            row = (tx * rows + t - t0) * (b1 - b0) + b - b0
                            _image_transform(v, 6 * i * PLANE + row * k + k0, PLANE,
                                             strip, (_tile_start(w, tx) + 1) * STRIP + i * LANES, STRIP, n)


@kernel
def _transform_back(y, m, half, raw, bias, h, w, cols, b0, b1, t0, t1, n0, n1):
    # y[b0:b1, ..., n0:n1] <- A^T m A + bias[n0:n1];  m[36][rows, n1-n0]
    n = n1 - n0
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
                for j in range(4 * tx - left, min(4, w - left)):
                    _output_transform(raw, 0, COLUMNS, half, j * COLUMNS, 4 * COLUMNS, n)
                    for r in range(4 * t - top, min(4, h - top)):
                        _copy_plus(y, ((b * h + top + r) * w + left + j) * cols + n0, raw, r * COLUMNS, bias, n0, n)


@kernel
def _winograd_block(y, x, u, plane, bias, v, m, strip, half, raw, h, w, k, cols, b0, b1, t0, t1):
    _transform_images(v, strip, raw, x, h, w, k, b0, b1, t0, t1)
    for n0 in range(0, cols, COLUMNS):
        n = min(COLUMNS, cols - n0)
        for i in range(6):
            for j in range(6):
                rows = (min(t1, _tile_count(h, i)) - t0) * _tile_count(w, j) * (b1 - b0)
                if rows > 0:
                    a, o = (6 * i + j) * PLANE, (6 * i + j) * plane + n0 * k
                    np.dot(v[a:a + rows * k].reshape((rows, k)), u[o:o + k * n].reshape((k, n)),
                           m[a:a + rows * n].reshape((rows, n)))
        _transform_back(y, m, half, raw, bias, h, w, cols, b0, b1, t0, t1, n0, n0 + n)


@parallel_kernel
def _winograd(y, x, u, plane, bias, batch, h, w, k, cols, images, tile_rows, workers):
    all_rows = _tile_count(h, 1)
    strips = (all_rows + tile_rows - 1) // tile_rows
    tasks = (batch + images - 1) // images * strips
    for worker in prange(workers):
        v = np.empty(36 * PLANE, x.dtype)
        m = np.empty(36 * PLANE, x.dtype)
        strip = np.empty((w + 9) * STRIP, x.dtype)
        half = np.empty(24 * COLUMNS, x.dtype)
        raw = np.empty(max(6 * LANES, 4 * COLUMNS), x.dtype)
        for task in range(worker, tasks, workers):
            b0, t0 = task // strips * images, task % strips * tile_rows
            _winograd_block(y, x, u, plane, bias, v, m, strip, half, raw, h, w, k, cols, b0, min(b0 + images, batch), t0,
                            min(t0 + tile_rows, all_rows))


ROWS = {64: 49, 128: 32, 256: 16, 512: 22}


def winograd_applies(weight_shape, image_shape, dtype, sh, sw, ph, pw):
    """Whether `winograd_conv` can serve a convolution: float32, 3x3, stride 1, padding 1."""
    return dtype == np.float32 and tuple(weight_shape[:2]) == (3, 3) and (sh, sw, ph, pw) == (1, 1, 1, 1)


_SCRATCH = np.empty(0, np.float32)
def winograd_weights(wt, transposed):
    global _SCRATCH
    plane = wt.shape[2] * wt.shape[3] + 1040
    if _SCRATCH.size<36 * plane: _SCRATCH = np.empty(36 * plane, wt.dtype)
    u=_SCRATCH[:36*plane]
    _all_weights(u, plane, wt.reshape(-1), transposed, wt.shape[2], wt.shape[3])
    return u


def winograd_conv(y, x, u, bias):
    b, h, w, k = x.shape
    th, tw = (h + 3) // 4, (w + 3) // 4
    target = max(1, (ROWS.get(k) or 4096 // k) // tw)
    tile_rows = min(th, target)
    tile_rows = -(-th // -(-th // tile_rows))
    images = max(1, target // th)
    _winograd(y.reshape(-1), x.reshape(-1), u, u.size // 36, bias, b, h, w, k, y.shape[3], images, tile_rows, numba.get_num_threads())
