"""A folder in which only one process works at a time: two that trained into it would overwrite each other's files."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from .errors import UsageError
from .types import Path

__all__ = ["holding"]

HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # what the system says of a folder that another process holds
FILE = ".minisnn.lock"  # only if the folder itself cannot be locked


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Within the ``with`` statement this process alone holds ``folder``, which must exist. The system releases it when the
    process ends, however it ends, so no lock outlives the process.

    Raises:
        UsageError: another process holds it.
    """
    try:
        handle = take(os.fspath(folder))
    except OSError as error:
        if error.errno in HELD:
            raise UsageError(
                f"{folder} is in use by another minisnn; wait until that has finished, or give another folder"
            ) from None
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):  # a file system without locks
            handle = None
        else:
            raise
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
            if os.name == "nt":
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, FILE))


def take(folder):
    """A handle that holds a folder until it is closed. Raises OSError, if another process holds it one of ``HELD``."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        handle = os.open(os.path.join(folder, FILE), os.O_RDWR | os.O_CREAT)
        lock = lambda: msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # noqa: E731
    else:
        handle = os.open(folder, os.O_RDONLY)
        lock = lambda: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # noqa: E731
    try:
        lock()
    except BaseException:
        os.close(handle)
        raise
    return handle
