"""What a data set is to the rest of the package: two sets of samples that come in batches, and what was found on disk.

Axes: T time steps, B batch, C channels, H height, W width; M samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UsageError

__all__ = ["Dataset", "Samples", "Arrays", "ShuffledTime", "Subset", "limited"]
__all__ += ["stratified_folds", "stratified_split", "training_parts"]


class Samples:
    """Some samples of a data set. A subclass sets the attributes and defines ``batch``.

    Attributes:
        labels: int64 [M], index into the data set's classes.
        size: (C, H, W), or (F,) for samples that are no maps.
        timesteps: T.
        groups: int64 [M], equal for samples cut from one recording, which must not be divided between training and
            validation; None if each sample is on its own.
    """

    labels: np.ndarray
    size: tuple
    timesteps: int
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """The samples with those numbers.

        Args:
            indices: [B], whole numbers from 0 to M - 1.
            rng: in training, the generator from which augmentation draws; None in evaluation, without augmentation.

        Returns:
            [T, B, C, H, W], float32, or uint8 or bool for frames that hold only 0 and 1. Read-only: it may be a view that
            repeats one frame T times.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define batch")

    def rows(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None, rows: slice) -> np.ndarray:
        """``batch(indices, rng)[:, rows]``, which is what one of several ranks needs of it. A subclass makes only those."""
        return self.batch(indices, rng)[:, rows]


class Arrays(Samples):
    """Samples from arrays of your own, for ``Loader`` and ``train.evaluate``.

        train = data.Arrays(x, labels, timesteps=8)
        for batch, y in data.Loader(train, batch_size=64, shuffle=True):
            ...

    Args:
        x: [M, F] or [M, C, H, W], each shown at all ``timesteps``; or, with ``timesteps=None``, samples with time steps of
            their own, [M, T, F] or [M, T, C, H, W]. Booleans and bytes of 0 and 1 stay as they are; other numbers
            become float32.
        labels: [M] whole numbers from 0.
        timesteps: T, or None.

    Raises:
        ValueError: axes, numbers of samples, labels or timesteps that do not fit.
    """

    def __init__(self, x: Any, labels: Any, timesteps: int | None = None) -> None:
        x, labels = np.asarray(x), np.asarray(labels)
        still = timesteps is not None
        wanted = "[M, F] or [M, C, H, W]" if still else "[M, T, F] or [M, T, C, H, W]; for still samples give timesteps, too"
        if x.ndim not in ((2, 4) if still else (3, 5)) or 0 in x.shape or x.dtype.kind not in "biuf":
            raise ValueError(f"Arrays: x has shape {x.shape} and dtype {x.dtype}; give numbers, {wanted}")
        if labels.shape != x.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
            raise ValueError(f"Arrays: labels {labels.shape} of {labels.dtype}; give {len(x)} whole numbers from 0")
        if still and (isinstance(timesteps, bool) or not isinstance(timesteps, (int, np.integer)) or timesteps < 1):
            raise ValueError(f"Arrays: timesteps is {timesteps!r}; give a whole number of at least 1")
        bits = x.dtype == np.bool_ or (x.dtype == np.uint8 and x.max() <= 1)
        self.x = x if bits else x.astype(np.float32, copy=False)
        self.labels, self.still = labels.astype(np.int64), still
        self.size, self.timesteps = x.shape[1 if still else 2 :], int(timesteps or x.shape[1])

    def batch(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        chosen = self.x[np.asarray(indices)]
        if self.still:
            return np.broadcast_to(chosen, (self.timesteps, *chosen.shape))
        return np.ascontiguousarray(chosen.swapaxes(0, 1))


class Subset(Samples):
    """A subset of other samples, by their numbers."""

    def __init__(self, samples: Samples, indices: Sequence[int] | np.ndarray) -> None:
        self.samples, self.indices = samples, np.asarray(indices)
        self.labels, self.size, self.timesteps = samples.labels[self.indices], samples.size, samples.timesteps
        self.groups = None if samples.groups is None else samples.groups[self.indices]

    def batch(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        return self.samples.batch(self.indices[indices], rng)

    def rows(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None, rows: slice) -> np.ndarray:
        return self.samples.rows(self.indices[indices], rng, rows)


class ShuffledTime(Samples):
    """Samples whose time steps come in a random order, each sample's own, the same at every call: what is left without time?"""

    def __init__(self, samples: Samples, seed: int = 0) -> None:
        self.samples, self.seed = samples, seed
        self.labels, self.size, self.timesteps = samples.labels, samples.size, samples.timesteps

    def batch(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        x = self.samples.batch(indices, rng)
        orders = [np.random.default_rng([self.seed, int(k)]).permutation(self.timesteps) for k in indices]
        return np.stack([x[order, b] for b, order in enumerate(orders)], 1)


@dataclasses.dataclass
class Dataset:
    """A data set, ready to train on."""

    name: str  # as on the command line
    preset: str  # key of catalogue.CATALOGUE: which stem fits
    classes: tuple  # names of the classes, by label
    train: Any  # Samples; None if the copy on disk lacks that part
    test: Any  # likewise
    note: str = ""  # one line that says what was found
    facts: dict = dataclasses.field(default_factory=dict)  # for config.json: split, seed, counts


def limited(samples: Samples, limit: int | None, seed: int = 0, stratified: bool = False) -> Samples:
    """``limit`` of the samples, drawn by ``seed`` and kept in order; all of them for None, or if there are no more. If
    ``stratified``, each class has the share that it has in all samples, to within one sample.
    """
    if limit is None or limit >= len(samples):
        return samples
    drawn = np.random.default_rng(seed).permutation(len(samples))
    if stratified:  # the k-th of a class of n goes to (k + 1/2) / n of the way; then the first of all
        labels, way = samples.labels[drawn], np.empty(len(drawn))
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            way[own] = (np.arange(len(own)) + 0.5) / len(own)
        drawn = drawn[np.argsort(way, kind="stable")]
    chosen = drawn[:limit]
    return Subset(samples, np.sort(chosen))


def stratified_split(labels: np.ndarray, test_share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training and of the test samples, int64 each: the same share of each class, drawn by ``seed``."""
    rng, held_out = np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out.append(rng.permutation(members)[: max(1, round(len(members) * test_share))])
    test = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), test), test


def stratified_folds(labels: np.ndarray, folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training and of the test samples, int64 each, if the samples are dealt out to ``folds`` parts and those of
    part ``fold`` test. Each sample tests in one fold, and each class has the same share in all folds, to within one sample.

    Args:
        labels: [M].
        folds: their number, at least 2.
        fold: from 0.
    """
    rng, part, dealt = np.random.default_rng(0), np.empty(len(labels), np.int64), 0
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        part[members] = (dealt + np.arange(len(members))) % folds  # where the class before it ended
        dealt += len(members)
    return np.flatnonzero(part != fold), np.flatnonzero(part == fold)


def training_parts(samples: Samples, options: Mapping[str, Any]) -> tuple[Samples, Samples | None]:
    """What a run trains on, and what it validates on (None without a validation), both out of the training samples.

    Args:
        samples: the training part of a data set.
        options: those of the run, by the names of ``options.Options``: "limit", "stratified" and "seed" say which samples are
            used at all, "validation" and "split_seed" which of them are held out: that share of each class, drawn by the
            seed, but never all of a class. Windows of one recording stay together, since neighbors overlap.

    Raises:
        UsageError: no class has two samples (or recordings), of which one could be held out.
    """
    samples = limited(samples, options.get("limit"), options["seed"], bool(options.get("stratified")))
    share = options.get("validation")
    if not share:
        return samples, None
    groups = np.arange(len(samples)) if samples.groups is None else samples.groups
    members, first = np.unique(groups, return_index=True)
    labels, rng, held_out = samples.labels[first], np.random.default_rng(options["split_seed"]), []
    for label in np.unique(labels):
        own = rng.permutation(members[labels == label])
        held_out.append(own[: min(max(1, round(len(own) * share)), len(own) - 1)])
    out = np.isin(groups, np.concatenate(held_out))
    if not out.any():
        what = "sample" if samples.groups is None else "recording"
        raise UsageError(f"--validation: each class has a single {what} to train on, and none to hold out; omit it")
    return Subset(samples, np.flatnonzero(~out)), Subset(samples, np.flatnonzero(out))
