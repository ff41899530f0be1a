"""One recording of an event camera: tonic's readers, checked.

Only this file knows tonic, and imports it when a recording is requested: minisnn runs without it.

Axes: n events.
"""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any

import numpy as np

from ..catalogue import CATALOGUE
from ..errors import UsageError
from . import aedat4
from .frames import check_events

__all__ = ["EVENT", "Recording", "class_names", "read_recording", "sensor_of", "tonic_class"]

EVENT = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)])
KEEP_BYTES = 64e6  # of events of the most recently read recordings, for their other windows
MEND = "restore it, remove it, or omit it with --skip-bad"


def tonic_class(name: str) -> Any:
    """tonic's class of a data set: its dtype, its classes, its download."""
    try:
        import tonic.datasets  # late: GPL, and slow to import
    except ImportError as error:
        raise UsageError(
            f'{name} is read by tonic, which is not usable here ({error}); pip install "minisnn[events]", or pip install tonic'
        ) from None
    return getattr(tonic.datasets, CATALOGUE[name].source.tonic)


def class_names(name: str) -> tuple[str, ...]:
    """Names of the classes in the order of their labels."""
    return CATALOGUE[name].classes or tuple(tonic_class(name).classes)  # a list, or a dictionary in the order of the labels


def sensor_of(name: str) -> tuple[int, int]:
    """(height, width) of a data set's sensor, pixels."""
    return (CATALOGUE[name].stem.size,) * 2


def read_recording(name: str, path: str) -> np.ndarray:
    """Events of one file, checked.

    Args:
        name: of the data set, a key of ``catalogue.CATALOGUE``.
        path: of the file.

    Returns:
        Structured array [n] with the fields x, y (pixels), t (microseconds), p (True: brighter), in order of time.

    Raises:
        UsageError: the file is missing, empty, cut short or of another kind, or an event is outside the sensor; the message
            names the file.
    """
    read = globals()[CATALOGUE[name].source.read]
    try:
        if os.path.getsize(path) == 0:
            raise UsageError(f"{path} is empty; {MEND}")
        events = read(path, tonic_class(name))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); {MEND}") from None
    checked = check_events(events, sensor_of(name), path)
    return np.rec.fromarrays([checked[field] for field in EVENT.names or ()], EVENT).view(np.ndarray)


def read_bin(path, tonic):
    """N-MNIST: five bytes for each event."""
    from tonic.io import read_mnist_file

    if os.path.getsize(path) % 5:
        size = os.path.getsize(path)
        raise UsageError(f"{path} is cut short: {size} bytes are not a multiple of 5, the size of an event; {MEND}")
    return read_mnist_file(path, dtype=tonic.dtype)


def read_npy(path, tonic):
    """DVS Gesture: rows x, y, p, t, with t in milliseconds."""
    try:
        rows = read_array(path)
    except OSError:
        raise
    except Exception as error:  # a damaged header can fail anywhere in NumPy's reader
        raise UsageError(f"{path} is damaged or not an .npy file ({one_line(error)}); {MEND}") from None
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise UsageError(f"{path} holds {rows.dtype} {rows.shape}, expected [events, 4] numbers; {MEND}")
    if not np.isfinite(rows).all():
        raise UsageError(f"{path} holds numbers that are not finite; {MEND}")
    if (np.abs(rows) > 1e12).any():
        raise UsageError(f"{path} holds numbers that are not pixels or times; {MEND}")
    events = np.empty(len(rows), [("x", np.int64), ("y", np.int64), ("p", np.int64), ("t", np.int64)])
    for k, field in enumerate(tonic.ordering):
        events[field] = np.rint(rows[:, k].astype(np.float64) * (1000 if field == "t" else 1))
    return events


def read_array(path):
    """The numbers of an .npy file. Its header is read first: what it declares must be in the file before memory is allocated,
    and Python objects are not numbers.
    """
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)  # np.load would take any other file for a pickle
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"format {version} is unknown")
        shape, fortran, dtype = readers[version](file)
        if dtype.kind not in "fiu":
            raise ValueError(f"it holds {dtype}")
        size, left = dtype.itemsize, os.fstat(file.fileno()).st_size - file.tell()
        for n in shape:
            size *= int(n)
        if min(shape, default=1) < 0 or size > left:
            raise ValueError(f"it declares {size:,} bytes and holds {left:,}")
        return np.frombuffer(file.read(size), dtype).reshape(shape, order="F" if fortran else "C")


def read_aedat4(path, tonic):
    """CIFAR10-DVS: iniVation's AEDAT 4."""
    try:
        events = aedat4.decode(path)
    except ImportError:  # tonic's reader needs it, but only tonic's test extra names it
        raise UsageError(f'{path} needs the package that decodes .aedat4; pip install "minisnn[aedat4]"') from None
    except aedat4.DamagedFile as error:
        raise UsageError(f"{path} is damaged or not an AEDAT 4 file ({one_line(error)}); {MEND}") from None
    if events.dtype.names is None or len(events.dtype.names) != len(tonic.ordering):
        raise UsageError(f"{path} holds {events.dtype}, not events; {MEND}")
    events.dtype.names = tonic.ordering
    return events


def one_line(error):
    return " ".join(str(error).split())[:120] or type(error).__name__


class Recording:
    """A file of events, read when its events are requested.

    Attributes:
        path: of the file.
        short: its name within the data set's folder, with "/" on every system.
    """

    def __init__(self, name: str, path: str, folder: str) -> None:
        self.name, self.path = name, path
        self.short = os.path.relpath(path, folder).replace(os.sep, "/")

    @property
    def facts(self) -> list[Any]:
        """What identifies the content: a hash of it. A size and a time stamp would not, since copies keep them."""
        return [self.name, *content_hash(self.path, *state_of(self.path))]

    def events(self) -> np.ndarray:
        """All events of the file, as ``read_recording`` returns them; the last few recordings, unless large, stay in
        memory, because their windows are requested one after another.
        """
        state = state_of(self.path)
        if state[0] > KEEP_BYTES / 8:
            return read_recording(self.name, self.path)
        return read_small(self.name, self.path, *state)


def state_of(path):
    """(bytes, times, number) of a file: while these are unchanged, this process takes its content to be unchanged."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); {MEND}") from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@functools.lru_cache(8)
def read_small(name, path, *state):
    return read_recording(name, path)


@functools.lru_cache(1 << 17)
def content_hash(path, *state):
    hashed = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); {MEND}") from None
    return state[0], hashed.hexdigest()
