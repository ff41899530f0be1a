"""Solutions to tutorial 4; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np

from minisnn.surrogate import ATan


def first_that_counts(s, late):
    before = np.flatnonzero(s[:late])
    return before[-1] + 1 if len(before) else 0


def wrong_first_that_counts(s, late):
    before = np.flatnonzero(s[: late + 1])  # the spike in question resets only what comes after it
    return before[-1] + 1 if len(before) else 0


def soft_reset_backward(ds, x, tau, v_threshold, detach_reset):
    u, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u[t] = h + (x[t] - h) / tau
        h = u[t] - v_threshold * (u[t] >= v_threshold)
    sg = ATan(2.0).derivative(u - v_threshold)
    dx, dh = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x) - 1, -1, -1):
        du = ds[t] * sg[t] + dh  # h by u: 1, whether it fired or not
        if not detach_reset:
            du -= dh * v_threshold * sg[t]  # h by s: -v_threshold
        dx[t] = du / tau
        dh = (1 - 1 / tau) * du
    return dx


def wrong_soft_reset_backward(ds, x, tau, v_threshold, detach_reset):
    u, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u[t] = h + (x[t] - h) / tau
        h = u[t] - v_threshold * (u[t] >= v_threshold)
    sg = ATan(2.0).derivative(u - v_threshold)
    dx, dh = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x) - 1, -1, -1):
        du = ds[t] * sg[t] + dh * (u[t] < v_threshold)  # a spike forgets everything only in the hard reset
        if not detach_reset:
            du -= dh * v_threshold * sg[t]
        dx[t] = du / tau
        dh = (1 - 1 / tau) * du
    return dx
