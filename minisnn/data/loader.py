"""Batches, prepared in a background thread during training.

The order of the samples and their augmentation depend only on the seed, the epoch and the number of the batch, so a run that
was interrupted continues bit for bit. The thread calls no parallel kernel, which two threads must not do at once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import parallel
from .base import Samples, limited

__all__ = ["Loader", "batches"]

AHEAD = 2  # batches prepared in advance


class Loader:
    """Iterates over the batches of one epoch: (x [T, B, C, H, W], labels int64 [B]).

    Args:
        samples: the Samples to draw from.
        batch_size: B; the last batch may be smaller.
        seed, epoch: of order and augmentation.
        shuffle: a random order with augmentation, for training; otherwise in order and as they are.
        limit: take only that many samples, the same ones in every epoch.
        shared: of each batch, only this rank's rows (parallel.py); all of them where there is one rank.

    Attributes:
        waited: seconds that the consumer has waited for batches.
        elapsed: seconds from the first batch asked for to the last one handed out.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
        limit: int | None = None,
        shared: bool = False,
    ) -> None:
        self.samples, self.batch_size = limited(samples, limit, seed), batch_size
        self.seed, self.epoch, self.shuffle, self.shared = seed, epoch, shuffle, shared and parallel.size() > 1
        self.waited = self.elapsed = 0.0

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)  # noqa: PLE0303 - rounded up

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data, 0 to 1."""
        return self.waited / self.elapsed if self.elapsed else 0.0

    def order(self) -> np.ndarray:
        """The numbers of the samples in the order of this epoch."""
        if not self.shuffle:
            return np.arange(len(self.samples))
        return np.random.default_rng([self.seed, self.epoch]).permutation(len(self.samples))

    def make(self, k: int, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Batch number ``k``."""
        indices = order[k * self.batch_size : (k + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, k]) if self.shuffle else None
        if self.shared:
            rows = parallel.rows_of(len(indices)).rows
            return self.samples.rows(indices, rng, rows), self.samples.labels[indices[rows]]
        return self.samples.batch(indices, rng), self.samples.labels[indices]

    def size(self, k: int) -> int:
        """Samples in batch number ``k``, those of other ranks included."""
        return min(self.batch_size, len(self.samples) - k * self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, np.ndarray]]:
        ready: queue.Queue[Any] = queue.Queue(AHEAD)
        stop = threading.Event()

        def put(item):
            while not stop.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work():
            try:
                order = self.order()
                for k in range(len(self)):
                    if stop.is_set():
                        return
                    put((self.make(k, order), None))
            except BaseException as error:  # handed to the consumer, which raises it
                put((None, error))

        worker = threading.Thread(target=work, name="minisnn loader", daemon=True)
        started = time.perf_counter()
        worker.start()
        try:
            for _ in range(len(self)):
                asked = time.perf_counter()
                batch, error = ready.get()
                self.waited += time.perf_counter() - asked
                if error is not None:
                    raise error
                self.elapsed = time.perf_counter() - started
                yield batch
        finally:
            self.elapsed = time.perf_counter() - started
            stop.set()
            worker.join()


def batches(samples: Samples, batch_size: int = 64, limit: int | None = None) -> Iterator[np.ndarray]:
    """Batches [T, N, C, H, W] of samples in order, without their labels."""
    return (x for x, _ in Loader(samples, batch_size, limit=limit))
