"""Solutions to tutorial 6; each wrong_... is a mistake that is easy to make, and that the check rejects.

seen_at comes from the tutorial: in a notebook, paste a function over the empty one.
"""

import numpy as np


def additions_of(x, cout, kernel, stride, padding):
    windows = []  # along each axis: how many windows see a place
    for size in x.shape[1:]:
        outputs = (size + 2 * padding - kernel) // stride + 1
        windows.append([len(list(seen_at(i, kernel, stride, padding, outputs))) for i in range(size)])  # noqa: F821
    return cout * int((x.sum(0) * np.outer(*windows)).sum())


def wrong_additions_of(x, cout, kernel, stride, padding):
    return cout * int(x.sum()) * kernel**2 // stride**2  # right on average, and only far from the borders


def wrong_additions_of_2(x, cout, kernel, stride, padding):
    outputs = (x.shape[1] + 2 * padding - kernel) // stride + 1
    windows = [len(list(seen_at(i, kernel, stride, padding, outputs))) for i in range(x.shape[1])]  # noqa: F821
    return cout * sum(windows[iy] * windows[ix] for _, iy, ix in np.argwhere(x))  # square maps only


def event_weight_gradient(dy, x, w_shape, stride, padding):
    dw = np.zeros(w_shape)
    for ci, iy, ix in np.argwhere(x):
        for oy, ky in seen_at(iy, w_shape[2], stride, padding, dy.shape[1]):  # noqa: F821
            for ox, kx in seen_at(ix, w_shape[3], stride, padding, dy.shape[2]):  # noqa: F821
                dw[:, ci, ky, kx] += dy[:, oy, ox]
    return dw


def wrong_event_weight_gradient(dy, x, w_shape, stride, padding):
    dw = np.zeros(w_shape)
    for ci, iy, ix in np.argwhere(x):
        for ky, kx in np.ndindex(w_shape[2:]):
            oy, ox = (iy + padding - ky) // stride, (ix + padding - kx) // stride  # rounds where no window begins
            if 0 <= oy < dy.shape[1] and 0 <= ox < dy.shape[2]:
                dw[:, ci, ky, kx] += dy[:, oy, ox]
    return dw


def wrong_event_weight_gradient_2(dy, x, w_shape, stride, padding):
    room = np.pad(x, ((0, 0), (padding, padding), (padding, padding))).astype(float)
    dw = np.zeros(w_shape)
    for ky, kx in np.ndindex(w_shape[2:]):  # the right numbers, by products with 0 and 1
        seen = room[:, ky : ky + stride * dy.shape[1] : stride, kx : kx + stride * dy.shape[2] : stride]
        dw[:, :, ky, kx] = np.einsum("oyx,cyx->oc", dy, seen[:, : dy.shape[1], : dy.shape[2]])
    return dw


def wrong_event_weight_gradient_3(dy, x, w_shape, stride, padding):
    dw = np.zeros(w_shape)
    for ci, iy, ix in np.ndindex(x.shape):
        for oy, ky in seen_at(iy, w_shape[2], stride, padding, dy.shape[1]):  # noqa: F821
            for ox, kx in seen_at(ix, w_shape[3], stride, padding, dy.shape[2]):  # noqa: F821
                dw[:, ci, ky, kx] += dy[:, oy, ox] * x[ci, iy, ix]  # asks everybody, and multiplies
    return dw


def break_even_rate(timesteps):
    return 4.6 / (0.9 * timesteps)


def wrong_break_even_rate(timesteps):
    return 0.9 / (4.6 * timesteps)  # upside down
