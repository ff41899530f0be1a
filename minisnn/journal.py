"""Logs of a training run in formats that people's own tools read, beside the tables of the run folder.

What an optional package writes is imported when it is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import UsageError
from .types import Path

__all__ = ["Journal", "TensorBoard", "JOURNALS", "check"]


class Journal:
    """Writes nothing; the base of those that do. A context manager: what is open is closed at its end."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """``folder``: of the run. ``epochs_done``: what was logged after that epoch, by a run that was then killed, is void."""

    def epoch(
        self,
        number: int,
        scalars: Mapping[str, float],
        rates: Mapping[str, float],
        training_rates: Mapping[str, float],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Log an epoch.

        Args:
            number: from 1.
            scalars: the row of metrics.csv.
            rates, training_rates: spikes per neuron and step of each layer, in evaluation and in training mode.
            arrays: parameters and buffers, whose histograms are kept.
        """

    def close(self) -> None:
        """Write what is left."""

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class TensorBoard(Journal):
    """Event files for TensorBoard in RUN/tensorboard, through tensorboardX."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        self.writer = writer()(f"{folder}/tensorboard", purge_step=epochs_done + 1 if epochs_done else None)

    def epoch(
        self,
        number: int,
        scalars: Mapping[str, float],
        rates: Mapping[str, float],
        training_rates: Mapping[str, float],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        for name, value in scalars.items():
            if name != "epoch":
                part, _, what = name.partition("_")
                known = part in ("train", "test", "validation")
                self.writer.add_scalar(f"{what}/{part}" if known else name, value, number)
        for group, values in (("firing_rate", rates), ("firing_rate_in_training", training_rates)):
            for layer, value in values.items():
                self.writer.add_scalar(f"{group}/{layer}", value, number)
        for name, array in arrays.items():
            self.writer.add_histogram(name.replace(".", "/"), np.ascontiguousarray(array), number)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


JOURNALS: dict[str | None, type[Journal]] = {None: Journal, "tensorboard": TensorBoard}  # by the names of --log


def writer() -> Any:
    """The writer of tensorboardX. Raises UsageError if it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UsageError(
            '--log tensorboard needs the package tensorboardX; install it: pip install "minisnn[tensorboard]"'
        ) from None
    return SummaryWriter


def check(name: str | None) -> None:
    """Raise UsageError if the package that a journal needs is not installed, before a folder is made for it."""
    if name == "tensorboard":
        writer()
