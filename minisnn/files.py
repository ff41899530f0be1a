"""Files that are written in full or not at all, and read without being trusted."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from . import stopping
from .errors import UsageError
from .types import Path

__all__ = ["replace", "write_text", "read_json", "remove_parts", "first_line", "remedy"]

PART = re.compile(r".+\.\d+-[0-9a-f]{8}\.part")
BUFFER = 1 << 20  # bytes
TRIES, PAUSE = 8, 0.05  # on Windows a file that a spreadsheet or a virus scanner has open cannot be replaced for a while


@contextlib.contextmanager
def replace(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write in place of ``path``: it takes that name only when the block ends without an error.

    The old file stays intact until then, and for good if the block fails. An OSError that is raised names ``path``.
    """
    path = os.path.abspath(os.fspath(path))
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part"  # renamed within one file system
    try:
        with open(temporary, "xb", buffering=BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        stopping.check()  # a signal may have been turned into another error before it got here
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = path  # the name that the user knows; a full disk gives none
        raise


def rename(temporary, path):
    for k in range(TRIES):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            if k == TRIES - 1 or os.name != "nt":
                raise
            time.sleep(PAUSE * 2**k)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, in one go, as ``replace`` does."""
    with replace(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # a file's name may hold bytes that are not text


def read_json(path: Path, fix: str) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        fix: what to do if it cannot be read, for the error.

    Raises:
        FileNotFoundError: there is none. UsageError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from None
    except (ValueError, RecursionError) as error:  # ValueError also for bytes that are not text
        raise UsageError(f"{path} is damaged ({first_line(error)}); {fix}") from None


def remove_parts(folder: Path) -> None:
    """Remove the files in a folder that ``replace`` had not finished when its process was killed. The caller holds the
    folder.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def first_line(error: BaseException) -> str:
    """An exception as one short line of text."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:100]


def remedy(error: OSError) -> str:
    """What the user can do about a file that could not be written."""
    import errno

    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EFBIG):
        return "free some space"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "check its permissions"
    return "check the path and the disk"
