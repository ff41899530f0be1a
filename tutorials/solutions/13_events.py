"""Solutions to tutorial 13; each wrong_... is a mistake that is easy to make, and that the check rejects."""


def slice_by_time(t, T):
    return (t - t[0]) * T // (t[-1] + 1 - t[0])


def wrong_slice_by_time(t, T):
    return (t - t[0]) * T // (t[-1] - t[0])  # the last event lands in slice T, which does not exist


def backwards(events, duration):
    events = events[::-1].copy()
    events["t"] = duration - 1 - events["t"]
    events["p"] = ~events["p"]  # what grew now falls
    return events


def wrong_backwards(events, duration):
    events = events[::-1].copy()
    events["t"] = duration - 1 - events["t"]
    return events  # in a film that runs backwards light grows where it fell
