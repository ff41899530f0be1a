"""Solutions to tutorial 16; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np

from minisnn.paired import quantile


def interval(ours, theirs):
    each = np.array(ours) - np.array(theirs)
    half = quantile(0.95, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
    return each.mean() - half, each.mean() + half


def wrong_interval(ours, theirs):
    each = np.array(ours) - np.array(theirs)
    half = 1.96 * each.std(ddof=1) / np.sqrt(len(each))  # as if there were hundreds
    return each.mean() - half, each.mean() + half


def wrong_interval_2(ours, theirs):
    a, b = np.array(ours), np.array(theirs)
    half = quantile(0.95, len(a) - 1) * np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))  # forgets that they are pairs
    return a.mean() - b.mean() - half, a.mean() - b.mean() + half


def silent_since(firing):
    since = len(firing) + 1
    while since > 1 and firing[since - 2] == 0:
        since -= 1
    return since if since <= len(firing) else None


def wrong_silent_since(firing):
    return firing.index(0.0) + 1 if 0.0 in firing else None  # the first silence need not last


def wrong_silent_since_2(firing):
    since = len(firing)
    while since > 0 and firing[since - 1] == 0:
        since -= 1
    return since or None  # the last epoch in which it fired
