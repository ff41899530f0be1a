"""Solutions to tutorial 13; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def slice_by_time(t, T):
    return (t - t[0]) * T // (t[-1] + 1 - t[0])


def wrong_slice_by_time(t, T):
    return (t - t[0]) * T // (t[-1] - t[0])  # the last event lands in slice T, which does not exist


def wrong_slice_by_time_2(t, T):
    return np.minimum((t - t[0]) * T // (t[-1] - t[0]), T - 1)  # the last slice is one microsecond longer than it seems


def wrong_slice_by_time_3(t, T):
    return np.minimum(np.arange(len(t)) * T // len(t), T - 1)  # equally many events, not equally long


def backwards(events, duration):
    events = events[::-1].copy()
    events["t"] = duration - 1 - events["t"]
    events["p"] = ~events["p"]  # what grew now falls
    return events


def wrong_backwards(events, duration):
    events = events[::-1].copy()
    events["t"] = duration - 1 - events["t"]
    return events  # in a film that runs backwards light grows where it fell


def wrong_backwards_2(events, duration):
    events = backwards(events, duration)
    events["y"] = 0  # all in one row
    return events


def wrong_backwards_3(events, duration):
    events = backwards(events, duration)
    for p in (False, True):
        events["x"][events["p"] == p] = np.sort(events["x"][events["p"] == p])  # the right places at the wrong times
    return events


def wrong_backwards_4(events, duration):
    events = events.copy()
    events["t"] = duration - 1 - events["t"]
    events["p"] = ~events["p"]
    return events  # mirrored, and no longer in the order of time
