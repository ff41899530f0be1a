"""Data sets by name: still images, recordings of event cameras, and a simulator of one."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from ..catalogue import CATALOGUE, NAMES
from ..errors import UsageError
from .base import Arrays, Dataset, Samples, ShuffledTime, Subset, limited, stratified_folds, stratified_split, training_parts
from .loader import Loader, batches
from .places import CACHE_OPTIONS, data_folder

__all__ = [
    "load",
    "data_folder",
    "NAMES",
    "Dataset",
    "Samples",
    "Arrays",
    "ShuffledTime",
    "Subset",
    "Loader",
    "batches",
    "limited",
    "stratified_folds",
    "stratified_split",
    "training_parts",
    "CACHE_OPTIONS",
]


def load(name: str, data_dir: str | None = None, timesteps: int | None = None, seed: int = 0, **options: Any) -> Dataset:
    """Load a data set.

    Args:
        name: one of ``NAMES``.
        data_dir: the folder that holds it; see ``data_folder``.
        timesteps: T, by default the data set's own (catalogue.py).
        seed: of the split, if the data set has no official one, and of whatever is simulated.
        **options: those of the data set itself, such as ``augment``; None means its default.

    Returns:
        Dataset.

    Raises:
        UsageError: an unknown name or option, or files that are missing or damaged; the message names the culprit and the fix.
    """
    if name not in NAMES:
        raise UsageError(f"there is no data set '{name}'; give one of {', '.join(NAMES)}")
    module = importlib.import_module(f".{CATALOGUE[name].module}", __name__)
    options = {key: value for key, value in options.items() if value is not None}
    unknown = [key for key in options if key not in inspect.signature(module.load).parameters]
    if unknown:
        raise UsageError(f"--{unknown[0].replace('_', '-')} has no meaning for the data set '{name}'; omit it")
    return module.load(
        name, data_dir=data_folder(data_dir), timesteps=timesteps or CATALOGUE[name].recipe.timesteps, seed=seed, **options
    )
