"""Sound as spikes: the Spiking Heidelberg Digits, spoken digits behind a model of the inner ear (Cramer et al. 2020).

The files are HDF5, as their authors give them away and tonic lays them out: DIR/SHD/shd_train.h5 and shd_test.h5. h5py is
imported when they are read.

Axes: M samples, T time steps, C = 700 channels of the ear.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..catalogue import CATALOGUE
from ..errors import UsageError
from .base import Dataset, Samples

__all__ = ["Sounds", "load"]


class Sounds(Samples):
    """Recordings as frames of one bit for each channel and time step: whether it fired at all.

    Args:
        bits: [M, T, C] Booleans, packed along C (``numpy.packbits``).
        labels: [M].
        channels: C.
        shift: augmentation moves a recording by up to that many channels, in either direction.
    """

    def __init__(self, bits: np.ndarray, labels: np.ndarray, channels: int, shift: int = 0) -> None:
        self.bits, self.labels, self.shift = bits, labels.astype(np.int64), shift
        self.size, self.timesteps = (channels, 1, 1), bits.shape[1]

    def batch(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        C = self.size[0]
        x = np.unpackbits(self.bits[np.asarray(indices)], axis=-1, count=C).view(np.bool_)  # [B, T, C]
        if rng is not None and self.shift:
            moved = np.zeros_like(x)
            for k, by in enumerate(rng.integers(-self.shift, self.shift + 1, len(x))):
                moved[k, :, max(0, by) : C + min(0, by)] = x[k, :, max(0, -by) : C - max(0, by)]
            x = moved
        return np.ascontiguousarray(x.swapaxes(0, 1))[..., None, None]


def load(name: str, data_dir: str, timesteps: int, seed: int = 0, augment: bool | str = True) -> Dataset:
    """See ``data.load``. ``augment``: in training, recordings move by some channels, as if another voice had spoken."""
    row = CATALOGUE[name]
    folder = os.path.join(data_dir, row.source.folder)
    paths = {part: os.path.join(folder, file) for part, file in row.source.files.items()}
    found = {part: path for part, path in paths.items() if os.path.isfile(path)}
    if not found:
        raise UsageError(
            f"{name} is not in {data_dir}; unpack {' and '.join(row.source.urls)} there as {' and '.join(paths.values())}, or "
            "give another data_dir"
        )
    shift = round(row.moves.shift[0] * row.stem.channels) if augment else 0
    parts: dict[str, Any] = {}
    for part, path in found.items():
        bits, labels = read(path, timesteps, row.stem.channels, row.stem.classes, row.source.seconds)
        parts[part] = Sounds(bits, labels, row.stem.channels, shift if part == "train" else 0)
    counts = {part: len(parts[part]) if part in parts else 0 for part in paths}
    note = f"{name}: {counts['train']:,} recordings to train on, {counts['test']:,} to test on, in {folder}"
    facts = {"split": "official", **counts}
    return Dataset(name, name, row.classes, parts.get("train"), parts.get("test"), note, facts)


def read(path, timesteps, channels, classes, seconds):
    """(bits [M, T, C / 8], labels [M]) of a file; raises UsageError, naming it, if it is damaged or holds something else."""
    try:
        import h5py
    except ImportError as error:
        raise UsageError(f'{path} is read by h5py, which is not usable here ({error}); pip install "minisnn[events]"') from None
    try:
        with h5py.File(path, "r") as file:
            times, units, labels = file["spikes/times"], file["spikes/units"], np.asarray(file["labels"][()])
            if not len(times) == len(units) == len(labels) > 0:
                raise UsageError(f"{path} holds {len(times)} times, {len(units)} units and {len(labels)} labels; restore it")
            if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
                raise UsageError(f"{path} has labels other than 0 to {classes - 1}; restore it")
            bits = np.empty((len(labels), timesteps, -(-channels // 8)), np.uint8)
            for k in range(len(labels)):
                frames = binned(np.asarray(times[k], np.float64), np.asarray(units[k]), timesteps, channels, seconds)
                if frames is None:
                    raise UsageError(f"{path}: recording {k} has times or units out of range; restore the file")
                bits[k] = np.packbits(frames, axis=-1)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is damaged, or no file of this data set ({' '.join(str(error).split())[:120]})") from None
    return bits, labels


def binned(times, units, timesteps, channels, seconds):
    """[T, C] Booleans: whether a unit fired within each of T equal parts of the first ``seconds``; None if a time or unit is
    none.
    """
    if times.shape != units.shape or units.dtype.kind not in "iu" or not (np.isfinite(times) & (times >= 0)).all():
        return None
    if units.size and (units.min() < 0 or units.max() >= channels):
        return None
    frames = np.zeros((timesteps, channels), np.bool_)
    inside = times < seconds
    frames[(times[inside] * (timesteps / seconds)).astype(np.int64).clip(max=timesteps - 1), units[inside]] = True
    return frames
