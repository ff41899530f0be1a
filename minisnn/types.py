"""Names for types that public signatures share."""

import os

import numpy.typing as npt

__all__ = ["Path", "DType", "Axis"]

Path = str | os.PathLike[str]
DType = npt.DTypeLike
Axis = int | tuple[int, ...] | None
