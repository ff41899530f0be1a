"""Events to frames, and batches of them.

An event is (x, y, t, p): at pixel (x, y) and time t, microseconds, the light rose (p = 1, "on") or fell (p = 0, "off").
A frame counts the events of one time slice in each pixel, off events in channel 0, on events in channel 1.

Axes: T time steps, B batch, H height, W width; n events, M samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..catalogue import Moves
from ..errors import UsageError
from .base import Samples
from .cache import FrameCache

__all__ = ["SLICINGS", "EventSamples", "FrameOptions", "check_events", "moved", "slice_edges", "slice_numbers", "to_frames"]

SLICINGS = ("count", "time")
MOST = 255  # a frame's pixel holds one byte; the count of one pixel in one slice saturates here


def check_events(events: np.ndarray, sensor: tuple[int, int], source: str) -> np.ndarray:
    """Events ready to be counted: in order of time, as a structured array with the fields x, y, t, p.

    Args:
        events: structured array [n].
        sensor: (height, width), pixels.
        source: what to name in an error.

    Raises:
        UsageError: no events at all, or one outside the sensor.
    """
    if len(events) == 0:
        raise UsageError(f"{source} holds no events; restore it, remove it, or omit it with --skip-bad")
    for field, limit in (("x", sensor[1]), ("y", sensor[0]), ("p", 2), ("t", None)):
        values = events[field]
        wrong = (values < 0) | (values >= limit) if limit is not None else values < 0
        if wrong.any():
            k = int(np.argmax(wrong))
            expected = f"0 to {limit - 1}" if limit is not None else "0 or more"
            raise UsageError(
                f"{source}: event {k} has {field} = {int(values[k])}, expected {expected}; restore it, remove "
                "it, or omit it with --skip-bad"
            )
    t = events["t"]
    if (t[1:] < t[:-1]).any():
        events = events[np.argsort(t, kind="stable")]
    return events


def slice_numbers(
    events: np.ndarray, timesteps: int, slicing: str = "count", span: tuple[int, int] | None = None
) -> np.ndarray:
    """The time slice of every event, int64 [n], 0 to T - 1.

    count: slice(i) = floor(i T / n), equally many events each (the paper's)
    time: slice(i) = floor((t[i] - start) T / (stop - start))

    Args:
        events: structured array [n], in order of time.
        timesteps: T.
        slicing: "count" or "time".
        span: (start, stop) in microseconds for "time"; by default from the first event to the last one, both included.
    """
    n = len(events)
    if slicing == "count":
        return np.arange(n) * timesteps // max(n, 1)
    t = events["t"].astype(np.int64)
    start, stop = span or (t[0], t[-1] + 1)
    return np.clip((t - start) * timesteps // max(stop - start, 1), 0, timesteps - 1)


def slice_edges(events: np.ndarray, timesteps: int, slicing: str, span: tuple[int, int] | None) -> np.ndarray:
    """Where the slices of a sample begin and end.

    Args:
        events: structured array [n].
        timesteps, slicing, span: as for ``to_frames``.

    Returns:
        [T + 1] microseconds.
    """
    if slicing == "time":
        start, stop = span or (events["t"][0], events["t"][-1] + 1)
        return np.linspace(start, stop, timesteps + 1)
    first = np.searchsorted(slice_numbers(events, timesteps, slicing), np.arange(timesteps))
    t = np.append(events["t"], events["t"][-1] + 1)  # a slice without an event begins where the next one does
    return np.append(t[first], t[-1])


def to_frames(
    events: np.ndarray,
    timesteps: int,
    sensor: tuple[int, int],
    slicing: str = "count",
    size: int | None = None,
    span: tuple[int, int] | None = None,
) -> np.ndarray:
    """Count events in T time slices, two polarities and every pixel.

    frames[k, p, y, x] = min(255, number of events of slice k and polarity p in that pixel)

    Every event is counted, the last one included; no count wraps around.

    Args:
        events: structured array [n] with the fields x, y, t, p, in order of time.
        timesteps: T.
        sensor: (height, width), pixels.
        slicing: "count" or "time"; see ``slice_numbers``.
        size: height and width of the frames; sensor pixels that share a frame pixel are added up. By default the sensor's.
        span: see ``slice_numbers``.

    Returns:
        uint8 [T, 2, H, W].
    """
    H, W = (size, size) if size else sensor
    y = events["y"].astype(np.int64) * H // sensor[0]
    x = events["x"].astype(np.int64) * W // sensor[1]
    at = ((slice_numbers(events, timesteps, slicing, span) * 2 + events["p"].astype(np.int64)) * H + y) * W + x
    counts = np.bincount(at, minlength=timesteps * 2 * H * W)
    return np.minimum(counts, MOST).astype(np.uint8).reshape(timesteps, 2, H, W)


def drawn(moves, H, W, rng):
    """(dy, dx, radians, scale, mirror) of one random move of frames."""
    limits = (int(share * side + 1e-6) for share, side in zip(moves.shift, (H, W)))
    dy, dx = (int(rng.integers(-limit, limit + 1)) for limit in limits)
    turn, scale = np.deg2rad(rng.uniform(-moves.degrees, moves.degrees)), 1 + rng.uniform(-moves.zoom, moves.zoom)
    return dy, dx, turn, scale, -1 if moves.flip and rng.random() < 0.5 else 1


def moved(frames: np.ndarray, moves: Moves, rng: np.random.Generator) -> np.ndarray:
    """Frames moved at random, in the same way for all of a sample's time steps: each pixel takes the counts of the pixel
    nearest to where it comes from, or 0.

    Args:
        frames: [T, 2, H, W].
        moves: catalogue.Moves; shifts are drawn as whole numbers of pixels.
        rng: the generator that draws them.
    """
    H, W = frames.shape[-2:]
    dy, dx, turn, scale, mirror = drawn(moves, H, W, rng)
    y, x = np.arange(H)[:, None] - (H - 1) / 2 - dy, np.arange(W) - (W - 1) / 2 - dx  # from the middle
    from_y = np.rint((np.cos(turn) * y - np.sin(turn) * x) / scale + (H - 1) / 2).astype(np.int64)
    from_x = np.rint(mirror * (np.sin(turn) * y + np.cos(turn) * x) / scale + (W - 1) / 2).astype(np.int64)
    inside = (from_y >= 0) & (from_y < H) & (from_x >= 0) & (from_x < W)
    at = np.where(inside, from_y * W + from_x, 0)
    return frames.reshape(*frames.shape[:2], H * W)[:, :, at] * inside


class FrameOptions:
    """How events become frames: arguments as for ``to_frames``."""

    def __init__(self, timesteps: int, sensor: tuple[int, int], slicing: str = "count", size: int | None = None) -> None:
        if slicing not in SLICINGS:
            raise UsageError(f"--slicing: '{slicing}' is unknown; give one of {', '.join(SLICINGS)}")
        if size is not None and not 1 <= size <= min(sensor):
            raise UsageError(f"--frame-size: {size} is out of range; give at most the sensor's size, {min(sensor)}")
        self.timesteps, self.sensor, self.slicing, self.size = timesteps, sensor, slicing, size

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, 2, H, W)."""
        return (self.timesteps, 2) + ((self.size, self.size) if self.size else self.sensor)

    @property
    def facts(self) -> list[Any]:
        return [self.timesteps, self.sensor, self.slicing, self.size]

    def frames(self, events: np.ndarray, span: tuple[int, int] | None = None) -> np.ndarray:
        return to_frames(events, self.timesteps, self.sensor, self.slicing, self.size, span)


class EventSamples(Samples):
    """Samples that are made from recordings of events when they are first requested, and then kept in a cache.

    Args:
        recordings: each with ``events()``, its structured array, and ``facts``, which identify its present content.
        labels: int64 [M].
        parts: [M], the recording (its number) and the span of each sample: (r, start, stop) in microseconds from the
            recording's first event, or (r, None, None) for the whole of it.
        options: FrameOptions.
        moves: catalogue.Moves of augmentation in training, None for none.
        cache: FrameCache, None for none.
    """

    def __init__(
        self,
        recordings: Sequence[Any],
        labels: np.ndarray,
        parts: Sequence[tuple],
        options: FrameOptions,
        moves: Moves | None = None,
        cache: FrameCache | None = None,
    ) -> None:
        self.recordings, self.labels, self.parts = recordings, np.asarray(labels, np.int64), parts
        self.options, self.moves, self.cache = options, moves, cache
        self.timesteps, self.size = options.timesteps, options.shape[1:]
        self.groups = np.array([r for r, _, _ in parts], np.int64)
        self.siblings: dict[int, list[int]] = {}  # recording: its samples
        for k, (r, _, _) in enumerate(parts):
            self.siblings.setdefault(r, []).append(k)

    def events(self, k: int) -> np.ndarray:
        """The events of sample ``k``, with t counted from the recording's first event."""
        r, start, stop = self.parts[k]
        return cut(self.recordings[r].events(), start, stop)

    def key(self, k: int) -> str:
        return FrameCache.key([self.recordings[self.parts[k][0]].facts, self.parts[k][1:], self.options.facts])

    def frames(self, k: int) -> np.ndarray:
        """Frames of sample ``k``, uint8 [T, 2, H, W]."""
        found = None if self.cache is None else self.cache.get(self.key(k), self.options.shape)
        if found is not None:
            return found
        if self.cache is None or self.cache.full:
            return self.options.frames(self.events(k), self.span(k))
        recording = self.recordings[self.parts[k][0]]
        before, events = recording.facts, recording.events()
        if recording.facts != before:  # replaced just now: either version may have been read
            return self.options.frames(self.events(k), self.span(k))
        for sibling in self.siblings[self.parts[k][0]]:  # all windows of this recording, now that it has been read
            frames = self.options.frames(cut(events, *self.parts[sibling][1:]), self.span(sibling))
            self.cache.put(self.key(sibling), frames)
            if sibling == k:
                wanted = frames
        return wanted

    def span(self, k: int) -> tuple[int, int] | None:
        """(start, stop) of a window; None for a whole recording, which spans its events."""
        return self.parts[k][1:] if self.parts[k][1] is not None else None

    def batch(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        return self.rows(indices, rng, slice(None))

    def rows(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None, rows: slice) -> np.ndarray:
        wanted = {k: place for place, k in enumerate(range(len(indices))[rows])}
        x = np.empty((self.timesteps, len(wanted)) + self.size, np.float32)
        for number, k in enumerate(indices):
            if number in wanted:
                frames = self.frames(int(k))
                if rng is not None and self.moves is not None:
                    frames = moved(frames, self.moves, rng)
                x[:, wanted[number]] = frames
            elif rng is not None and self.moves is not None:  # so that the next one moves as it does in the whole batch
                drawn(self.moves, self.size[1], self.size[2], rng)
        return x


def cut(events, start, stop):
    """The events with start <= t < stop (all for None), t counted from the first event of the recording."""
    events = events.copy()
    events["t"] -= events["t"][0]
    if start is None:
        return events
    first, last = np.searchsorted(events["t"], [start, stop])
    return events[first:last]
