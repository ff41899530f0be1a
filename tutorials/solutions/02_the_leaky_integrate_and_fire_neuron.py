"""Solutions to tutorial 2; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def half_life(tau):
    return np.log(0.5) / np.log(1 - 1 / tau)


def wrong_half_life(tau):
    return tau * np.log(2)  # of Eq. 1, in continuous time; steps of one lose more at once


def soft_reset_lif(x, tau=2.0, v_threshold=1.0):
    s, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u = h + (x[t] - h) / tau
        s[t] = u >= v_threshold
        h = u - v_threshold * s[t]
    return s


def wrong_soft_reset_lif(x, tau=2.0, v_threshold=1.0):
    s, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u = h + (x[t] - h) / tau
        s[t] = u >= v_threshold
        h = u - v_threshold  # subtracts from silent neurons too
    return s


def wrong_soft_reset_lif_2(x, tau=2.0, v_threshold=1.0):
    s, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u = h + (x[t] - h) / tau
        s[t] = u > v_threshold  # at the threshold it fires too
        h = u - v_threshold * s[t]
    return s


def wrong_soft_reset_lif_3(x, tau=2.0, v_threshold=1.0):
    s, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u = h + (x[t] - h) / tau
        s[t] = u >= v_threshold
        h = u - s[t]  # the threshold is 1 in this course, but not for every caller
    return s


def wrong_soft_reset_lif_4(x, tau=2.0, v_threshold=1.0):
    s, h = np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u = h + (x[t] - h) / tau
        s[t] = u >= v_threshold
        h = u * (1 - s[t])  # the hard reset: the overshoot is lost
    return s


def current_for(n, tau):
    return 1 / (1 - (1 - 1 / tau) ** n)


def wrong_current_for(n, tau):
    return 1 / (1 - np.exp(-n / tau))  # the continuous solution, not the one of steps
