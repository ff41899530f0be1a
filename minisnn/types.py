"""Names for types shared by public signatures."""

import os

import numpy.typing as npt

__all__ = ["Path", "DType", "Axis"]

Path = str | os.PathLike[str]
DType = npt.DTypeLike
Axis = int | tuple[int, ...] | None
