"""Solutions to tutorial 15; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def mean_of_the_highest(values, shares, epochs):
    at_most = np.cumsum(shares) ** epochs
    return float(np.diff(at_most, prepend=0) @ values)


def wrong_mean_of_the_highest(values, shares, epochs):
    return float(values @ shares)  # of one score, however many there are


def wrong_mean_of_the_highest_2(values, shares, epochs):
    return float(max(values))  # of so many that the luckiest one is among them


def fitting(printed, denominators):
    return [n for n in denominators if all(min(abs(p - 100 * k / n) for k in range(n + 1)) < 0.01 for p in printed)]


def wrong_fitting(printed, denominators):
    return [n for n in denominators if any(min(abs(p - 100 * k / n) for k in range(n + 1)) < 0.01 for p in printed)]
