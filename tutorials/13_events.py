# %% [markdown]
# # 13. Events: from a moving edge to frames to a gesture
#
# After this page you can simulate an event camera, turn its events into frames by hand, with the engine and with
# tonic, and say why a gesture needs memory.
#
# You need: tutorials 2 and 10; for one cell the package tonic (GPL; event data sets on disk use it too). Explains:
# `minisnn/data/frames.py`, `minisnn/data/gestures.py`. Paper: Sections III-A and V-A, Table X.
#
# An event camera has no shutter. Each pixel watches the logarithm L of its light and sends an event (x, y, t, p)
# whenever L has moved by a threshold: p = 1, *on*, if it grew, p = 0, *off*, if it fell. Equal steps of a logarithm
# are equal ratios, so it sees the same edge in sun and in shade, and nothing at all where nothing moves.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minisnn as snn
from helpers import BLUE, ORANGE, exercise, save_figure
from minisnn import data, models
from minisnn.data import frames, gestures

EVENT = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)]
THRESHOLD = 0.25  # in log intensity

def watch(film, duration):
    """film: [S + 1, H, W] log intensity, straight lines between the pictures -> events in the order of time."""
    events, step = [], duration / (len(film) - 1)  # microseconds
    for s in range(len(film) - 1):
        for y, x in np.ndindex(film.shape[1:]):
            a, b = film[s, y, x] / THRESHOLD, film[s + 1, y, x] / THRESHOLD
            levels = np.arange(np.floor(a) + 1, np.floor(b) + 1)  # crossed upwards
            if b < a:
                levels = np.arange(np.floor(a), np.floor(b), -1)  # crossed downwards
            for level in levels:
                events.append((x, y, int((s + (level - a) / (b - a)) * step), b > a))
    events.sort(key=lambda event: event[2])
    return np.array(events, EVENT)

S, H, W = 40, 4, 32
position = np.linspace(4, 26, S + 1)[:, None, None]  # a bright bar, 4 pixels wide, moves to the right
film = 1.1 * np.clip(3 - np.abs(np.arange(W) - position), 0, 1) + np.zeros((1, H, 1))
events = watch(film, duration=100_000)
print(len(events), "events; the first three (x, y, t, p):", *events[:3].tolist())
assert np.array_equal(events["x"][events["p"]][:4] > 4, [True] * 4)  # brighter: before the bar
for p, side in ((1, 1), (0, -1)):  # on before its middle, off after it
    middle = np.interp(events["t"] / 100_000, np.linspace(0, 1, S + 1), position[:, 0, 0])
    assert np.all(side * (events["x"] - middle)[events["p"] == p] > 0)
assert len(watch(film[[20] * 5], 10_000)) == 0  # nothing moves: no data
assert len(watch(film + 7, 100_000)) == len(events)  # e^7 = 1097 times more light, 7 / 0.25 = 28 levels: the same events

theirs = gestures.film_events(film, 100_000, np.zeros((H, W)))  # the engine's, without the loops
order = lambda e: e[np.lexsort((e["p"], e["y"], e["x"], e["t"]))]
assert np.array_equal(order(events), order(theirs))

row, column = 0, 15
fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.6))
light = film[:, row, column]
milliseconds = np.linspace(0, 100, S + 1)
left.plot(milliseconds, light, color="0.3", ls="-", label="log light of one pixel")
left.hlines(np.arange(0, light.max() + 0.1, THRESHOLD), 0, 100, color="0.85", lw=0.8, ls="-", zorder=0)
for p, color, marker, name in ((1, ORANGE, "^", "on"), (0, BLUE, "v", "off")):
    mine = events[(events["p"] == p) & (events["y"] == row) & (events["x"] == column)]
    left.plot(mine["t"] / 1000, np.interp(mine["t"] / 1000, milliseconds, light), marker, color=color, ms=7)
    some = events[(events["p"] == p) & (events["y"] == row)]
    right.scatter(some["t"] / 1000, some["x"], color=color, marker=marker, s=12, label=name)
left.set(title="A pixel reports each level that it crosses", xlabel="t (ms)", ylabel="log intensity; grey: levels")
right.set(title="A bar moves: events of one row of pixels", xlabel="t (ms)", ylabel="x (pixel)")
right.legend(fontsize=8, loc="upper left")
save_figure("13_events_levels",
            "Left: the log light of one pixel rises and falls as the bar passes; an event marks each crossing of a level, "
            "on while it rises, off while it falls. Right: on and off events of one row of pixels, two slanted bands.")

# %% [markdown]
# **Frames.** A network wants [T, C, H, W]. The paper cuts a recording into T slices of equally many events and
# counts, in each slice, events per pixel and polarity: two channels, off and on. A slice then lasts as long as it has
# to: short where much happens.

# %%
def count(events, T, H, W):
    frames = np.zeros((T, 2, H, W), int)
    for i, (x, y, t, p) in enumerate(events):
        frames[i * T // len(events), int(p), y, x] += 1
    return frames

mine = count(events, 5, H, W)
assert np.array_equal(mine, frames.to_frames(events, 5, (H, W)))
assert mine.sum() == len(events) and np.ptp(mine.sum((1, 2, 3))) <= 1

fig, axes = plt.subplots(1, 5, figsize=(10, 1.7))
for k, (ax, picture) in enumerate(zip(axes, mine)):
    shown = ax.imshow(picture[1] - picture[0], vmin=-4, vmax=4, aspect="auto")
    ax.set(title=f"slice {k + 1}", xticks=[], yticks=[])
fig.colorbar(shown, ax=axes, label="on less off")
save_figure("13_events_frames",
            "The moving bar as five frames of 4 by 32 pixels, on less off events: in each a bright band before the bar's "
            "middle and a dark one after it, further to the right from frame to frame.")

# %% [markdown]
# Most people use tonic for this, and so does the engine for reading recordings. Its ToFrame counts the same where the
# number of events is a multiple of T. Where it is not, the last few events are left over, and fall out; the engine's
# `to_frames` keeps them.

# %%
try:
    import tonic.transforms
except ImportError:
    print('tonic is not installed, so this cell is left out: pip install "minisnn[events]"')
else:
    whole = events[: len(events) // 5 * 5]
    to_frame = tonic.transforms.ToFrame(sensor_size=(W, H, 2), n_event_bins=5)
    assert np.array_equal(to_frame(whole), frames.to_frames(whole, 5, (H, W)))
    odd = events[: len(events) // 5 * 5 - 2]
    held = to_frame(odd).sum(), frames.to_frames(odd, 5, (H, W)).sum()
    print(f"{len(odd)} events: tonic's frames hold {held[0]}, the engine's {held[1]}")
    assert held[0] < len(odd) == held[1]

# %% [markdown]
# ![Eight slices of events of an arm that circles counter-clockwise, moving](images/gesture.gif)
#
# **A gesture.** `gestures.simulate` films two arms in the 11 classes of DVS Gesture. Take an arm that circles,
# clockwise or counter-clockwise. Run a film backwards and each event comes back at the mirrored time with its
# polarity swapped, so both directions leave the same marks. What tells them apart is the order alone. Where is the
# hand in each slice? About at the mean place of its events; the sign of the area that this place sweeps around its
# centre is the direction. (Clockwise is said from the person, who faces the camera: there it is mirrored.) With the
# slices in random order the same rule guesses.
#
# **Before you run it:** the same arm circles in two directions. If you may look at the frames but not at their order,
# can you tell which?

# %%
CLOCKWISE, COUNTER = (gestures.CLASSES.index(f"right arm {how}") for how in ("clockwise", "counter-clockwise"))

def swept_area(frames):
    """frames: [T, 2, H, W] -> area; positive for clockwise as the camera sees it (y points down)."""
    n = frames.sum((1, 2, 3))
    x = (frames.sum((1, 2)) * np.arange(frames.shape[3])).sum(1) / n
    y = (frames.sum((1, 3)) * np.arange(frames.shape[2])).sum(1) / n
    x, y = x - x.mean(), y - y.mean()
    return np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2

rng = np.random.default_rng(0)
circles = [(label, frames.to_frames(gestures.simulate(label, seed), 16, (32, 32)))
           for label in (CLOCKWISE, COUNTER) for seed in range(60)]
right = {name: np.mean([(swept_area(f[order()]) < 0) == (label == CLOCKWISE) for label, f in circles])
         for name, order in (("in order", lambda: np.arange(16)), ("shuffled", lambda: rng.permutation(16)))}
print({name: f"{share:.0%} right" for name, share in right.items()})
assert right["in order"] > 0.95 and 0.35 < right["shuffled"] < 0.65

fig = plt.figure(figsize=(12, 3.6))
grid = fig.add_gridspec(2, 11, width_ratios=[1] * 8 + [0.25, 1.6, 1.6])
for row, label in enumerate((CLOCKWISE, COUNTER)):
    pictures = frames.to_frames(gestures.simulate(label, 3), 8, (32, 32)).astype(int)
    for k, picture in enumerate(pictures):
        ax = fig.add_subplot(grid[row, k])
        shown = ax.imshow(picture[1] - picture[0], vmin=-4, vmax=4)
        ax.set(xticks=[], yticks=[], title=f"slice {k + 1}" if row == 0 else "")
        ax.set_ylabel(("clockwise", "counter-\nclockwise")[row] if k == 0 else "")
fig.colorbar(shown, cax=fig.add_subplot(grid[:, 8]), label="on less off events")
shots = fig.add_subplot(grid[:, 9:])
for label, color, hatch in ((CLOCKWISE, BLUE, ""), (COUNTER, ORANGE, "//")):
    areas = [swept_area(f) for at, f in circles if at == label]
    shots.hist(areas, bins=np.arange(-100, 101, 10), color=color, alpha=0.75, hatch=hatch, edgecolor="white",
               label=gestures.CLASSES[label])
shots.axvline(0, color="0.3", lw=1, ls="-")
shots.set(title="Swept area, 60 recordings each", xlabel="area (pixels²)", ylabel="recordings", ylim=(0, 26))
shots.legend(fontsize=8, loc="upper center")
save_figure("13_events",
            "Left: frames of an arm circling clockwise and counter-clockwise, on less off events in eight slices. Right: "
            "histogram of the areas that the hand sweeps, 60 recordings of each direction; one lies below 0, the other "
            "above.")

# %% [markdown]
# **And a network?** SynA-ResNet averages its scores over T, and an average knows no order. What can know it is the
# neuron's memory. With tau = 1 a neuron forgets everything from step to step (u = I), and the network gives the same
# answer when the recording runs backwards slice by slice; with tau = 2 it does not. (Attention over time is switched
# off here; it has weights for each step, and so knows the order too.)

# %%
x = data.load("gestures", timesteps=8, cache=False).test.batch(np.arange(6))  # [8, 6, 2, 32, 32]
net = models.build("gestures", width=8, timesteps=8, dtype="float64", seed=0)
for module in net.modules():
    if isinstance(module, snn.nn.BatchNorm2d):
        module.momentum, module.weight.data[...] = 1.0, 2.0  # take over the statistics of one batch; fire often
scores = {}
for tau in (1.0, 2.0):
    for module in net.modules():
        if isinstance(module, snn.nn.LIF):
            module.options["tau"] = tau
    net.train()(x)  # sets the statistics
    net.eval()
    scores[tau] = net(x).data, net(x[::-1]).data
for tau, (forward, back) in scores.items():
    print(f"tau {tau:g}: scores forwards and backwards differ by up to {np.abs(forward - back).max():.4f}")
assert np.allclose(*scores[1.0]) and not np.allclose(*scores[2.0], atol=0.01)

# %% [markdown]
# `minisnn train --dataset gestures` trains one in three minutes. It answers all of the test recordings right; with their time
# steps shuffled (`minisnn evaluate RUN --shuffle-time`) it tells the circles' directions apart at 49%, by chance. `minisnn
# show gestures` draws recordings. And the stem pays for counts: a frame's pixel may hold 3 events, so the first convolution
# multiplies (Section IV).

# %%
assert x.max() > 1

# %% [markdown]
# ## Summary
#
# * An event camera reports changes of the logarithm of light: nothing moves, nothing is sent; sun and shade look
#   alike.
# * Frames count events per pixel and polarity in T slices.
# * Direction is order. An average over T does not know it; a neuron's memory does.
#
# ## Further reading
#
# * G. Gallego et al., *Event-based Vision: A Survey*, IEEE TPAMI 44 (2022),
#   [arXiv:1904.08405](https://arxiv.org/abs/1904.08405).
# * A. Amir et al., *A Low Power, Fully Event-Based Gesture Recognition System*, CVPR 2017: DVS Gesture.

# %% [markdown]
# ## Exercises
# **1.** Slice by time instead of by count: given the times t of the events in order (whole microseconds) and T,
# return each event's slice, 0 to T - 1, for T equally long slices. The recording lasts from the first event's
# microsecond to the last one's, both included.
#
# Hint: if both ends count, how long is a recording from microsecond 0 to microsecond 4?

# %%
def slice_by_time(t, T):
    raise NotImplementedError

def check_slice_by_time(slice_by_time):
    few = np.zeros(5, EVENT)
    few["t"] = np.arange(5)  # five microseconds in three slices: 0 0 1 1 2
    for recording, T in ((few, 3), (events, 1), (events, 4), (events, 7)):
        expected = frames.slice_numbers(recording, T, "time")
        mine = np.asarray(slice_by_time(recording["t"].copy(), T))
        assert np.array_equal(mine, expected), (f"{len(expected)} events, T {T}: {mine[:5]}..., not {expected[:5]}...; "
                                                f"slices {mine.min()} to {mine.max()}")

exercise(1, check_slice_by_time, slice_by_time)

# %% [markdown]
# **2.** Play a recording backwards: given its events and duration, return the events of the film run backwards, in
# the order of time. (Mirrored times may be off by two microseconds.)
#
# Hint: three things change: the order, the times, and what happened at a pixel that grew brighter.

# %%
def backwards(events, duration):
    raise NotImplementedError

def check_backwards(backwards):
    expected, mine = watch(film[::-1], 100_000), backwards(events.copy(), 100_000)
    assert np.all(np.diff(mine["t"]) >= 0), "not in the order of time"
    assert len(mine) == len(expected), f"{len(mine)} events, expected {len(expected)}"
    mine, expected = (e[np.lexsort((e["t"], e["x"], e["y"], e["p"]))] for e in (mine, expected))  # pixel by pixel
    for field, name in (("p", "polarities"), ("y", "rows"), ("x", "columns")):
        assert np.array_equal(mine[field], expected[field]), f"not the {name} of the film run backwards"
    assert np.abs(mine["t"] - expected["t"]).max() <= 2, "at some pixel the times are not mirrored"

exercise(2, check_backwards, backwards)
