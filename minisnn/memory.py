"""Keep freed memory: a training step asks for the same large arrays again and again.

By default the C library hands large freed blocks back to the system, and the next array of that size begins with page after
page of faults and zeros, which takes longer than the convolution that fills it. Here the library is told to keep them.

This changes the whole process, as nothing else does but the choice of a threading layer (threads.py): what any library frees
stays with the process, up to the most that it ever held at once. ``MINISNN_KEEP_MEMORY=0`` leaves it as it is.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory", "peak_megabytes"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 32 << 20  # bytes; glibc takes no larger threshold, and still maps what is above afresh


def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed for the next array, unless ``MINISNN_KEEP_MEMORY`` is 0; with another C library nothing
    happens, and nothing is lost but time.
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
    """The most memory that this process ever held, MB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, kilobytes elsewhere
