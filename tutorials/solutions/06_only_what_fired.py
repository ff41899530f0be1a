"""Solutions to tutorial 6; each wrong_... is a mistake that is easy to make, and that the check rejects.

seen_at comes from the tutorial: in a notebook, paste a function over the empty one.
"""

import numpy as np


def additions_of(x, cout, kernel, stride, padding):
    windows = []  # along each axis: how many windows see a place
    for size in x.shape[1:]:
        outputs = (size + 2 * padding - kernel) // stride + 1
        windows.append([len(list(seen_at(p, kernel, stride, padding, outputs))) for p in range(size)])  # noqa: F821
    return cout * int((x.sum(0) * np.outer(*windows)).sum())


def wrong_additions_of(x, cout, kernel, stride, padding):
    return cout * int(x.sum()) * kernel**2 // stride**2  # right on average, and only far from the borders


def event_weight_gradient(dy, x, w_shape, stride, padding):
    dw = np.zeros(w_shape)
    for c, p, q in np.argwhere(x):
        for i, u in seen_at(p, w_shape[2], stride, padding, dy.shape[1]):  # noqa: F821
            for j, v in seen_at(q, w_shape[3], stride, padding, dy.shape[2]):  # noqa: F821
                dw[:, c, u, v] += dy[:, i, j]
    return dw


def wrong_event_weight_gradient(dy, x, w_shape, stride, padding):
    dw = np.zeros(w_shape)
    for c, p, q in np.argwhere(x):
        for u, v in np.ndindex(w_shape[2:]):
            i, j = (p + padding - u) // stride, (q + padding - v) // stride  # rounds where no window begins
            if 0 <= i < dy.shape[1] and 0 <= j < dy.shape[2]:
                dw[:, c, u, v] += dy[:, i, j]
    return dw


def break_even_rate(timesteps):
    return 4.6 / (0.9 * timesteps)


def wrong_break_even_rate(timesteps):
    return 0.9 / (4.6 * timesteps)  # upside down
