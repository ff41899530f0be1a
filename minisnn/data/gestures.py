"""Gestures: a simulator of an event camera that watches two arms move, in the 11 classes of DVS Gesture. No download.

A pixel that sees the log intensity L(t) sends an event whenever L crosses one of its levels, which are ``THRESHOLD`` apart:

    N(t) = floor(L(t) / THRESHOLD + offset),  |N(t') - N(t)| events between t and t', on where N grows, off where it falls

with a different offset for each pixel, as no two pixels of a sensor are alike. Noise events are added. Unlike a pixel that
compares with the intensity of its own last event, this one has no hysteresis, so a film played backwards gives exactly the
same events backwards, with on and off swapped.

That makes clockwise and counter-clockwise circles alike in everything but order. A circle is run through once and closes, so
that each pixel sends as many on as off events; the arm is brighter or darker than the room at random, so that "first on, then
off" does not reveal the direction. The set of a recording's frames says nothing; the order of the frames says everything.

Axes: S film steps, H height, W width; n events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..catalogue import CATALOGUE
from .base import Dataset
from .events import EVENT, sensor_of
from .frames import FrameOptions
from .places import CACHE_LIMIT
from .recordings import event_dataset

__all__ = ["load", "simulate", "film", "film_events"]

CLASSES = CATALOGUE["gestures"].classes
VERSION = 1  # of what a seed gives; part of the key of cached frames
SIZE = CATALOGUE["gestures"].stem.size  # height and width of the sensor, pixels; all lengths below refer to it
STEPS = 96  # S; the hand moves by less than the width of its edge from step to step
THRESHOLD = 0.25  # between two levels, in log intensity
CONTRAST = 1.0  # between an arm and the room, in log intensity
EDGE = 1.6  # pixels over which an arm fades into the room
NOISE = 0.5  # noise events per pixel and second
SHOULDERS = {"right": (11.0, 10.0), "left": (21.0, 10.0)}  # x, y; the person faces the camera: the right arm is on the left
TRAIN, TEST = 1100, 220  # recordings


def swing(s, cycles, phase):
    """A sine over the recording, s from 0 to 1."""
    return np.sin(2 * np.pi * (cycles * s + phase))


def hands(label, s, rng):
    """Paths of the hands for one recording: list of (side, x, y), float64 [S] each.

    Args:
        label: index into CLASSES.
        s: [S], time from 0 to 1.
        rng: the generator that draws what differs from person to person.
    """
    cycles, phase = rng.uniform(2.0, 4.0), rng.random()
    if label == 0:
        reach = 4.5 + 3.0 * swing(s, cycles, phase)
        return [("right", 16 - reach, 18 + 0 * s), ("left", 16 + reach, 18 + 0 * s)]
    if label in (1, 2):
        side, x = ("right", 8.0) if label == 1 else ("left", 24.0)
        return [(side, x + 5 * swing(s, cycles, phase), 7 + abs(swing(s, cycles, phase)))]
    if label in (3, 4, 5, 6):
        side, x = ("right", 9.0) if label < 5 else ("left", 23.0)
        turns = -1 if label in (3, 5) else 1  # as the person sees it; y points down
        radius = 6 * rng.uniform(0.85, 1.15)
        return [(side, x + radius * swing(s, turns, phase + 0.25), 17 + radius * swing(s, turns, phase))]
    if label == 7:
        cycles *= rng.choice((-1, 1))
        return [
            (side, 16 + sign * 3.5 * swing(s, cycles, phase + 0.25), 18 + sign * 3.5 * swing(s, cycles, phase))
            for side, sign in (("right", -1), ("left", 1))
        ]
    if label == 8:
        return [("right", 10 + 0 * s, 19 + 5 * swing(s, cycles, phase)), ("left", 22 + 0 * s, 19 - 5 * swing(s, cycles, phase))]
    if label == 9:
        return [
            ("right", 14 + swing(s, cycles, phase), 22 + 4 * swing(s, cycles, phase)),
            ("left", 27 + 1.5 * swing(s, cycles / 2, phase), 14 + 0 * s),
        ]
    if rng.random() < 0.5:  # both arms up and down together
        return [(side, x + 0 * s, 14 + 9 * swing(s, cycles / 2, phase)) for side, x in (("right", 6), ("left", 26))]
    side = ("right", "left")[int(rng.integers(2))]  # a figure eight across the body
    return [(side, 16 + 11 * swing(s, cycles / 2, phase), 18 + 6 * swing(s, cycles, 2 * phase))]


def film(label: int, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Log intensity of one recording, float32 [S + 1, H, W], 0 for the room.

    Args:
        label: index into CLASSES.
        rng: the generator that draws position, size, speed and contrast.
        size: H = W, pixels.
    """
    s = np.linspace(0, 1, STEPS + 1)
    paths = hands(label, s, rng)
    scale, shift = rng.uniform(0.9, 1.1), rng.uniform(-1.5, 1.5, 2)
    palm, arm, contrast = rng.uniform(2.2, 3.0), rng.uniform(0.9, 1.4), CONTRAST * rng.uniform(0.8, 1.2) * rng.choice((-1, 1))

    def place(x, y):  # around the center of the picture, in its pixels
        return [((16 + scale * (v - 16) + d + 0.5) * size / SIZE - 0.5).astype(np.float32) for v, d in zip((x, y), shift)]

    grid = np.arange(size, dtype=np.float32)
    px, py = grid[None, None, :], grid[None, :, None]
    picture = np.zeros((STEPS + 1, size, size), np.float32)
    unit = np.float32(SIZE / size)
    for side, x, y in paths:
        hx, hy = (v[:, None, None] for v in place(x, y))
        sx, sy = place(*(np.float64(v) for v in SHOULDERS[side]))
        vx, vy = hx - sx, hy - sy
        # the arm's point nearest to each pixel: 0 is the shoulder, 1 the hand
        along = np.clip(((px - sx) * vx + (py - sy) * vy) / np.maximum(vx * vx + vy * vy, 1e-6), 0, 1)
        far_arm = np.hypot(px - sx - along * vx, py - sy - along * vy) * unit - np.float32(arm)
        far_palm = np.hypot(px - hx, py - hy) * unit - np.float32(palm)
        picture = np.maximum(picture, np.clip(0.5 - np.minimum(far_arm, far_palm) / np.float32(EDGE), 0, 1))
    return picture * np.float32(contrast)


def film_events(picture: np.ndarray, duration: int, offsets: np.ndarray) -> np.ndarray:
    """Events of a film: what the pixels send while the log intensity moves from step to step in straight lines.

    Args:
        picture: [S + 1, H, W], log intensity.
        duration: microseconds.
        offsets: [H, W], 0 to 1, of the pixels' levels.

    Returns:
        Structured array [n] with the fields x, y, t, p, in order of time.
    """
    level = picture / THRESHOLD + offsets
    number = np.floor(level).astype(np.int64)
    change = np.diff(number, axis=0)
    step, y, x = np.nonzero(change)
    count = change[step, y, x]
    each = np.repeat(np.arange(len(step)), abs(count))
    nth = np.arange(len(each)) - np.repeat(np.cumsum(abs(count)) - abs(count), abs(count))  # 0, 1, ... within a pixel's step
    step, y, x, up = step[each], y[each], x[each], count[each] > 0
    first, last = level[step, y, x], level[step + 1, y, x]
    crossed = np.where(up, number[step, y, x] + 1 + nth, number[step, y, x] - nth)
    t = (step + (crossed - first) / (last - first)) * (duration / (len(picture) - 1))
    events = np.empty(len(each), EVENT)
    events["x"], events["y"], events["p"] = x, y, up
    events["t"] = np.clip(np.floor(t), 0, duration - 1)
    return events[np.argsort(events["t"], kind="stable")]


def simulate(label: int, seed: int | Sequence[int] = 0, size: int = SIZE, noise: float = NOISE) -> np.ndarray:
    """One recording of a gesture.

    Args:
        label: index into CLASSES.
        seed: whole number, or several; the same one gives the same recording.
        size: height and width of the sensor, pixels, at least 8.
        noise: noise events per pixel and second.

    Returns:
        Structured array [n] with the fields x, y (pixels), t (microseconds), p (True: brighter), in order of time.

    Raises:
        ValueError: a label or size out of range, or negative noise.
    """
    if not 0 <= label < len(CLASSES) or size < 8 or noise < 0:
        raise ValueError(
            f"label {label}, size {size}, noise {noise}; give a label from 0 to {len(CLASSES) - 1}, a size of at "
            "least 8, no negative noise"
        )
    rng = np.random.default_rng(seed)
    duration = int(rng.uniform(0.8e6, 1.2e6))
    events = film_events(film(label, rng, size), duration, rng.random((size, size), np.float32))
    false = np.empty(rng.poisson(noise * size * size * duration / 1e6), EVENT)
    for field, limit in (("x", size), ("y", size), ("t", duration), ("p", 2)):
        false[field] = rng.integers(0, limit, len(false))
    events = np.concatenate([events, false])
    return events[np.argsort(events["t"], kind="stable")]


class Simulated:
    """A recording that is simulated when its events are requested."""

    def __init__(self, label, seed):
        self.label, self.seed = int(label), seed
        self.facts = ["gestures", VERSION, self.label, list(seed)]
        self.short = f"{CLASSES[self.label]} {seed[-1]}"

    def events(self):
        return simulate(self.label, self.seed)


def load(
    name: str,
    data_dir: str | None,
    timesteps: int,
    seed: int = 0,
    augment: bool | str = True,
    slicing: str = "count",
    frame_size: int | None = None,
    window: float | None = None,
    stride: float | None = None,
    split_at: float | None = None,
    skip_bad: bool = False,
    cache: str | None = None,
    cache_limit: float = CACHE_LIMIT,
) -> Dataset:
    """See ``data.load`` and, for the options, ``recordings.load``; ``augment``: small shifts; ``seed``: of all recordings."""
    found = {}
    for number, (part, count) in enumerate((("train", TRAIN), ("test", TEST))):
        labels = np.arange(count, dtype=np.int64) % len(CLASSES)
        found[part] = ([Simulated(label, (seed, number, k)) for k, label in enumerate(labels)], labels)
    options, moves = FrameOptions(timesteps, sensor_of(name), slicing, frame_size), CATALOGUE[name].augmentation(augment)
    dataset = event_dataset(
        name,
        CLASSES,
        found,
        options,
        seed,
        moves,
        "made by the simulator",
        "two draws of the simulator",
        window,
        stride,
        split_at,
        skip_bad,
        cache,
        cache_limit,
    )
    dataset.facts |= {"simulator": VERSION, "simulator_seed": seed}
    return dataset
