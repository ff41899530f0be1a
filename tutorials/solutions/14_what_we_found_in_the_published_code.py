"""Solutions to tutorial 14; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def same_alone(f, z):
    return all(np.array_equal(f(z)[n], f(z[n : n + 1])[0]) for n in range(len(z)))


def wrong_same_alone(f, z):
    return np.array_equal(f(z)[0], f(z[:1])[0])  # the first sample has nobody in front of it


def wrong_same_alone_2(f, z):
    return np.array_equal(f(z[::-1])[::-1], f(z))  # order is one way to depend on the batch; its mean is another


def wrong_same_alone_3(f, z):
    order = np.random.default_rng(0).permutation(len(z))
    return np.array_equal(f(z[order]), f(z)[order])


def wrong_same_alone_4(f, z):
    return all(np.array_equal(f(z)[n], f(z[[n]])[0]) for n in (0, -1))  # the first and the last are not all


def wrong_same_alone_5(f, z):
    half = len(z) // 2
    return np.array_equal(f(z)[:half], f(z[:half])) and np.array_equal(f(z)[half:], f(z[half:]))  # half a batch is a batch


def or_join(main, short, x):
    a, b = main(x), short(x)
    return a + b - a * b


def wrong_or_join(main, short, x):
    a = main(x)
    return a + short(x) - a * short(x)  # one half mended


def wrong_or_join_2(main, short, x):
    return main(x) + short(x)  # ADD: 2 where both fire
