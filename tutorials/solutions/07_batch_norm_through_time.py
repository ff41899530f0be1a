"""Solutions to tutorial 7; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import math

import numpy as np


def fold(w, weight, bias, mean, var, eps=1e-5):
    a = weight / np.sqrt(var + eps)
    return w * a[:, None, None, None], bias - a * mean


def wrong_fold(w, weight, bias, mean, var, eps=1e-5):
    a = weight / np.sqrt(var + eps)
    return w * a[:, None, None, None], bias - mean  # the mean is scaled too


def wrong_fold_2(w, weight, bias, mean, var, eps=1e-5):
    a = weight / (np.sqrt(var) + eps)  # eps is added to the variance
    return w * a[:, None, None, None], bias - a * mean


def first_step_rate(weight, bias, tau=2.0):
    needed = tau * 1.0  # u = current / tau reaches the threshold
    return math.erfc((needed - bias) / weight / math.sqrt(2)) / 2


def wrong_first_step_rate(weight, bias, tau=2.0):
    return math.erfc((1.0 - bias) / weight / math.sqrt(2)) / 2  # forgets that the current is divided by tau


def wrong_first_step_rate_2(weight, bias, tau=2.0):
    return math.erfc((tau / weight - bias) / math.sqrt(2)) / 2  # the bias comes after the weight: it is divided too
