"""Solutions to tutorial 17; each wrong_... is a mistake that is easy to make, and that the check rejects."""

import numpy as np


def refractory(x, quiet):
    h, wait, spikes = np.zeros(x.shape[1:]), np.zeros(x.shape[1:], int), np.zeros(x.shape, bool)
    for t in range(len(x)):
        u = np.where(wait > 0, 0, h + (x[t] - h) / 2)
        spikes[t] = u >= 1
        h = np.where(spikes[t], 0, u)
        wait = np.where(spikes[t], quiet, np.maximum(wait - 1, 0))
    return spikes


def wrong_refractory(x, quiet):
    h, spikes = np.zeros(x.shape[1:]), np.zeros(x.shape, bool)
    for t in range(len(x)):  # never rests
        u = h + (x[t] - h) / 2
        spikes[t], h = u >= 1, np.where(u >= 1, 0, u)
    return spikes


def wrong_refractory_2(x, quiet):
    h, wait, spikes = np.zeros(x.shape[1:]), np.zeros(x.shape[1:], int), np.zeros(x.shape, bool)
    for t in range(len(x)):  # is charged while it rests, and only does not fire
        u = h + (x[t] - h) / 2
        spikes[t] = (u >= 1) & (wait == 0)
        h, wait = np.where(spikes[t], 0, u), np.where(spikes[t], quiet, np.maximum(wait - 1, 0))
    return spikes


def wrong_refractory_3(x, quiet):
    h, wait, spikes = np.zeros(x.shape[1:]), np.zeros(x.shape[1:], int), np.zeros(x.shape, bool)
    for t in range(len(x)):
        wait = np.maximum(wait - 1, 0)  # one step too early
        u = np.where(wait > 0, 0, h + (x[t] - h) / 2)
        spikes[t] = u >= 1
        h, wait = np.where(spikes[t], 0, u), np.where(spikes[t], quiet, wait)
    return spikes


def one_at_a_time(run, x):
    state, spikes = None, []
    for t in range(len(x)):
        s, state = run(x[t : t + 1], state)
        spikes.append(s[0])
    return np.stack(spikes)


def wrong_one_at_a_time(run, x):
    return np.stack([run(x[t : t + 1], None)[0][0] for t in range(len(x))])  # forgets


def wrong_one_at_a_time_2(run, x):
    return run(x, None)[0]  # all at once


def surely(report):
    return None if report.unknown else report.energy_mj


def wrong_surely(report):
    return report.energy_mj


def wrong_surely_2(report):
    return report.energy_mj if all(row.ac or row.mac for row in report.layers) else None  # neurons say all they have to say
