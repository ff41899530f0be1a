"""Solutions to tutorial 11; each wrong_... is a mistake that is easy to make, and that the check rejects."""


def share_inside(n, k):
    half = k // 2
    lost = half * (half + 1)  # along one axis: half taps at the first pixel, half - 1 at the next, ..., at both ends
    return ((n * k - lost) / (n * k)) ** 2


def wrong_share_inside(n, k):
    return (n - k + 1) ** 2 / n**2  # share of the pixels that are no border: the border does part of the work


def highest_rate(T):
    return min(1.0, 4.6 / (0.9 * T))


def wrong_highest_rate(T):
    return 4.6 / 0.9 / T  # 5.1 spikes in one step are not to be had


def wrong_highest_rate_2(T):
    return min(1.0, 5.1 / T)  # rounded too early


def wrong_highest_rate_3(T):
    return min(1.0, 0.9 * T / 4.6)  # upside down
