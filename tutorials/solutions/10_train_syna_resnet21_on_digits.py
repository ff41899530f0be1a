"""Solutions to tutorial 10; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def know_nothing_loss(counts):
    p = counts / counts.sum()
    return np.mean(p * (1 - p))  # the variance of a 0-or-1 column, averaged over the columns


def wrong_know_nothing_loss(counts):
    return (1 - 1 / len(counts)) / len(counts)  # right only where all classes are equally frequent


def diagnose(losses, firing_rates, nothing):
    if firing_rates[-1] < 1e-3:
        return "silent"
    return "learns" if losses[-1] < nothing else "too fast"


def wrong_diagnose(losses, firing_rates, nothing):
    return "learns" if losses[-1] < nothing else "too fast"  # does not look at the spikes


def wrong_diagnose_2(losses, firing_rates, nothing):
    if max(losses) > 4 * nothing:  # a loss that jumped once says nothing of where it ended
        return "too fast"
    return "silent" if losses[-1] > 0.9 * nothing else "learns"


def wrong_diagnose_3(losses, firing_rates, nothing):
    if max(firing_rates) == 0:  # a network can fall silent later
        return "silent"
    return "learns" if losses[-1] < nothing else "too fast"


def wrong_diagnose_4(losses, firing_rates, nothing):
    if losses[-1] < nothing:  # a silent network can end below the line: its bias learns
        return "learns"
    return "silent" if firing_rates[-1] < 1e-3 else "too fast"
