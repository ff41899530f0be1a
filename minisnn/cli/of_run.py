"""What the commands that read a run have in common."""

from __future__ import annotations

import argparse

from ..data.base import Dataset, Samples
from ..errors import UsageError
from ..kinds import path, whole
from ..runs import WHICH, Run
from ..terminal import say

__all__ = ["add_arguments", "add_checkpoint", "opened", "test_samples"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, and which checkpoint and samples of it."""
    parser.add_argument("run", type=path, metavar="RUN", help="folder of the run, or zoo:NAME")
    add_checkpoint(parser)
    parser.add_argument(
        "--data-dir", type=path, metavar="DIR", help="folder of the data sets (default: where the run found its own)"
    )
    parser.add_argument("--batch-size", "-b", type=whole(), default=64, metavar="B", help="samples at a time")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Which of the run's checkpoints."""
    parser.add_argument(
        "--checkpoint",
        choices=WHICH,
        help="the epoch that did best on the validation samples, or the last one (default: best if the run was trained with "
        "--validation, else last)",
    )


def opened(folder: str, which: str | None) -> tuple[Run, str]:
    """A run and the checkpoint to read. Says so if an earlier version chose it by the test set."""
    found = Run.open(folder)
    if said := found.note(which):
        say(said)
    return found, which or found.chosen


def test_samples(dataset: Dataset) -> Samples:
    """The test samples of a data set.

    Raises:
        UsageError: its copy on disk has none.
    """
    if dataset.test is None or not len(dataset.test):
        raise UsageError(
            f"the copy of {dataset.name} holds no test samples ({dataset.note}); complete it, or give another --data-dir"
        )
    return dataset.test
