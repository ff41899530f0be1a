"""What the commands that read a run have in common."""

from __future__ import annotations

import argparse

from ..data.base import Dataset, Samples
from ..errors import UsageError
from ..kinds import path, whole

__all__ = ["add_arguments", "test_samples"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, and which checkpoint and samples of it."""
    parser.add_argument("run", type=path, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="parameters of the best epoch, or of the last"
    )
    parser.add_argument(
        "--data-dir", type=path, metavar="DIR", help="folder of the data sets (default: where the run found its own)"
    )
    parser.add_argument("--batch-size", "-b", type=whole(), default=64, metavar="B", help="samples at a time")


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
