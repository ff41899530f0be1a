"""Checkpoints: named arrays with facts, without pickle.

A checkpoint is an .npz file, a zip archive of uncompressed .npy files: the arrays, and under the name "facts" a JSON text that
includes the version of the format.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import numpy as np

from .errors import UsageError
from .files import first_line, replace
from .types import Path

__all__ = ["save", "load", "load_facts", "FORMAT"]

FORMAT = 1  # of the file; a newer one is refused by name
FACTS = "facts"


def save(path: Path, arrays: dict[str, np.ndarray], facts: dict[str, Any] | None = None) -> None:
    """Write a checkpoint.

    Args:
        path: of the .npz file.
        arrays: {name: ndarray}; any name but "facts".
        facts: a dictionary that JSON can hold.

    Raises:
        OSError: the file cannot be written; the previous file is then untouched.
        ValueError: an array holds Python objects, or has the name "facts".
    """
    if FACTS in arrays or any(np.asarray(a).dtype.hasobject for a in arrays.values()):
        raise ValueError("a checkpoint holds arrays of numbers, and the name 'facts' is taken")
    text = json.dumps({"format": FORMAT, **(facts or {})})
    # As numpy.savez, some versions of which leave the archive open where the disk is full or a signal comes.
    with replace(path) as file, zipfile.ZipFile(_Forwards(file), "w") as archive:  # type: ignore[call-overload]
        for name, array in {**arrays, FACTS: np.array(text)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


class _Forwards:
    """A file that cannot seek back: the archive then omits seeking, which would write each small piece separately."""

    def __init__(self, file):
        self.write, self.flush = file.write, lambda: None


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a checkpoint.

    Returns:
        (arrays, facts), as they were saved.

    Raises:
        UsageError: the file is missing, cut short, damaged, of a newer version, or not a checkpoint at all.
    """
    members = read(path)
    facts = facts_of(path, members)
    return {name: array for name, array in members.items() if name != FACTS}, facts


def load_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, without its arrays. Raises UsageError as ``load`` does."""
    return facts_of(path, read(path, only=FACTS))


def read(path, only=None):
    """{name: ndarray} of an .npz file's members, or of one of them. What their headers declare is checked against the size of
    the file before memory is allocated.
    """
    try:
        with open(path, "rb") as raw, zipfile.ZipFile(raw) as archive:
            size, members = os.fstat(raw.fileno()).st_size, {}
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                    raise ValueError(f"{name} declares {info.file_size:,} bytes in a file of {size:,}")
                if only in (None, name):
                    with archive.open(info) as member:
                        members[name] = read_array(member, info.file_size)
            return members
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; give the folder or file of a run") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check the path and its permissions") from None
    except Exception as error:  # a damaged byte can fail anywhere in the readers of zip and .npy headers
        raise damaged(path, error) from None


def read_array(member, size):
    """The array in an .npy file of ``size`` bytes: numbers, or a text."""
    if np.lib.format.read_magic(member) != (1, 0):
        raise ValueError("an array of another format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
    count = int(np.prod([int(n) for n in shape], dtype=object))
    if dtype.kind not in "biufU" or min(shape, default=0) < 0 or member.tell() + count * dtype.itemsize != size:
        raise ValueError(f"an array of {dtype} {shape} in {size:,} bytes")
    return np.frombuffer(bytearray(member.read()), dtype, count).reshape(shape, order="F" if fortran else "C")


def facts_of(path, members):
    try:
        facts = json.loads(str(members[FACTS]))
        version = facts.pop("format")
    except Exception as error:  # JSON of any other shape or depth
        raise damaged(path, error) from None
    if version != FORMAT:
        raise UsageError(
            f"{path} has format {str(version)[:20]}, this minisnn reads format {FORMAT}; use the version that wrote it"
        )
    return facts


def damaged(path, error):
    return UsageError(
        f"{path} is not a checkpoint of minisnn, or it was cut short or damaged ({first_line(error)}); "
        "train again, or restore a copy"
    )
