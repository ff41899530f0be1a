"""Solutions to tutorial 14; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def same_alone(f, z):
    return all(np.array_equal(f(z)[n], f(z[n : n + 1])[0]) for n in range(len(z)))


def wrong_same_alone(f, z):
    return np.array_equal(f(z)[0], f(z[:1])[0])  # the first sample has nobody in front of it


def or_join(main, short, x):
    a, b = main(x), short(x)
    return a + b - a * b


def wrong_or_join(main, short, x):
    a = main(x)
    return a + short(x) - a * short(x)  # one half mended
