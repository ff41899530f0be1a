"""Keep freed memory: a training step asks for the same large arrays again and again.

By default the C library returns large freed blocks to the system, and the next array of that size faults in and zeroes page
after page, which takes longer than the convolution that fills it. Here the library is told to keep them.

This changes the whole process, as nothing else does but the choice of a threading layer (threads.py): what any library frees
stays with the process, up to the most that it ever held at once. ``MINISNN_KEEP_MEMORY=0`` leaves the default.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory", "peak_megabytes"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 32 << 20  # bytes; glibc accepts no larger threshold, and still maps larger blocks afresh


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next array, unless ``MINISNN_KEEP_MEMORY`` is 0; with another C library nothing
    happens, and only time is lost.
    """
    if os.environ.get("MINISNN_KEEP_MEMORY") == "0":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def peak_megabytes() -> float | None:
    """The most memory that this process has ever held, MB; None if the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, kilobytes elsewhere
