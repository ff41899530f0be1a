"""Solutions to tutorial 3; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def half_width(alpha):
    return 2 / (np.pi * alpha)  # where (pi/2 alpha x)^2 = 1


def wrong_half_width(alpha):
    return 1 / alpha  # true of the triangle's base, not here


def ramp_derivative(x, alpha):
    return alpha * (np.abs(x) < 1 / (2 * alpha))


def wrong_ramp_derivative(x, alpha):
    return alpha * (np.abs(x) < 1 / alpha)  # the ramp runs from 0 to 1, half of it on each side


def is_stuck(w, alpha):
    return abs(w / 2 - 1) >= 1 / alpha  # the potential is w / tau


def wrong_is_stuck(w, alpha):
    return abs(w - 1) >= 1 / alpha  # forgets that the input is divided by tau


def wrong_is_stuck_2(w, alpha):
    return abs(w / 2 - 1) > 1 / alpha  # the slope is zero *at* that distance too


def wrong_is_stuck_3(w, alpha):
    return 1 - w / 2 >= 1 / alpha  # one can also be too far above the threshold
