"""One way to write mine.py."""

import numpy as np


def linear(x, w):
    return x @ w


def linear_backward(d, x, w):
    return d @ w.T, x.T @ d  # y += x w: the same products, each factor in turn on the left


def neuron(x, tau=2.0):
    u, s, h = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u[t] = h + (x[t] - h) / tau
        s[t] = u[t] >= 1
        h = u[t] * (1 - s[t])
    return u, s


def surrogate(u, alpha=2.0):
    return alpha / 2 / (1 + (np.pi / 2 * alpha * (u - 1)) ** 2)


def neuron_backward(ds, u, s, tau=2.0):
    dx, dh = np.zeros_like(u), np.zeros_like(u[0])
    for t in range(len(u) - 1, -1, -1):
        du = ds[t] * surrogate(u[t]) + dh * (1 - s[t])
        dx[t], dh = du / tau, (1 - 1 / tau) * du
    return dx


def conv(x, w, stride=1, padding=0):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::stride, ::stride]  # [N, C, H', W', k, k]
    return np.einsum("ncyxij,ocij->noyx", windows, w, optimize=True)


def event_conv(x, w, stride=1, padding=0):
    k, (H, W) = w.shape[-1], x.shape[2:]
    y = np.zeros((len(x), len(w), (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1))
    additions = 0
    for n, c, iy, ix in np.argwhere(x):
        for ky, kx in np.ndindex(k, k):
            (oy, row), (ox, column) = divmod(iy + padding - ky, stride), divmod(ix + padding - kx, stride)
            if row == column == 0 and 0 <= oy < y.shape[2] and 0 <= ox < y.shape[3]:
                y[n, :, oy, ox] += w[:, c, ky, kx]
                additions += len(w)
    return y, additions


def batch_norm(x, weight, bias, eps=1e-5):
    over = (0, 1, 3, 4)
    xhat = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + eps)
    return weight[:, None, None] * xhat + bias[:, None, None]


def join(x, y):
    return x + y - x * y


def join_backward(d, x, y):
    return d * (1 - y), d * (1 - x)


def attention(x, squeeze, excite, spiking):
    z = sum(np.maximum(pooled @ squeeze.T, 0) @ excite.T for pooled in (x.mean((0, 3, 4)), x.max((0, 3, 4))))  # [N, C]
    w = neuron(z[None])[1][0] if spiking else 1 / (1 + np.exp(-z))
    return np.maximum(w[:, :, None, None] * x, 0)


def block(x, main, shortcut):
    def unit(x, parts):
        T, N = x.shape[:2]
        current = conv(x.reshape(-1, *x.shape[2:]), parts["w"], parts["stride"], parts["padding"])
        current = batch_norm(current.reshape(T, N, *current.shape[1:]), parts["weight"], parts["bias"])
        if "squeeze" in parts:
            current = attention(current, parts["squeeze"], parts["excite"], parts["spiking"])
        return neuron(current)[1]

    return join(unit(unit(x, main[0]), main[1]), unit(x, shortcut))
