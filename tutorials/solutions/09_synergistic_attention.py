"""Solutions to tutorial 9; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def gate_gradient(d, x, w):
    passed = w.T[:, :, None, None, None] * x > 0  # where the ReLU lets through
    return (d * x * passed).sum((2, 3, 4)).T


def wrong_gate_gradient(d, x, w):
    return (d * x).sum((2, 3, 4)).T  # of Eq. 10 as printed, without the ReLU


def only_channel(channel, C):
    squeeze, excite = np.zeros((8, C)), np.zeros((C, 8))
    squeeze[0] = 1 / C  # the first hidden unit is the mean over the channels, 1
    excite[channel, 0] = 1.0  # once for the mean, once for the maximum: z = 2, just enough
    return squeeze, excite


def wrong_only_channel(channel, C):
    squeeze, excite = np.zeros((8, C)), np.zeros((C, 8))
    squeeze[0] = 1 / C
    excite[channel, 0] = 0.5  # z = 1 is the threshold, but one step from rest charges the neuron to z / tau only
    return squeeze, excite
