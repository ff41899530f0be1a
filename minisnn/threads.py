"""One pool of threads: Numba's. Matrix products run inside its loops too, so no BLAS is called, and none needs limiting.

The number of threads belongs to the Python thread that sets it, as in Numba; a new thread starts with all of them.

What hands out the work is Numba's threading layer, which is chosen once for a process, when the first parallel loop is
compiled or run. No result depends on it, but the time on a machine that is not idle does. Threads of OpenMP (GNU's libgomp)
that have nothing to do spin, and where another program wants the core too, they spin instead of the thread that they wait
for: one busy program beside two threads makes a training step four times as slow. TBB's threads sleep, and take over what a
thread that was interrupted has not begun. So ``prefer_patient_layer`` makes TBB known to Numba, which takes it by itself where
it finds it; but it looks on the loader's path only, of which an environment's lib folder, where pip puts TBB, is no part.
Where there is no TBB, libgomp is told to spin briefly, by the environment, which the process hands down to its children. Each
of the variables ``NUMBA_THREADING_LAYER``, ``OMP_WAIT_POLICY`` and ``GOMP_SPINCOUNT`` takes precedence where it is set.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import site
import sys

import numba

__all__ = ["set_num_threads", "get_num_threads", "threading_layer", "prefer_patient_layer"]

TBB = "libtbb.so.12"  # the only version that Numba takes
SPINS = "3000"  # some ten microseconds: longer than between two loops, much shorter than a turn of another program


def prefer_patient_layer() -> None:
    """Let Numba find TBB, or else tell libgomp to spin briefly; for the engine's import, before any loop is parallel."""
    if not sys.platform.startswith("linux"):
        return
    if os.environ.get("NUMBA_THREADING_LAYER", "default") not in ("omp", "workqueue"):
        for folder in (sys.prefix, site.USER_BASE or sys.prefix):
            with contextlib.suppress(OSError):  # it is not there, or is of another kind of machine
                ctypes.CDLL(os.fspath(pathlib.Path(folder, "lib", TBB)), ctypes.RTLD_GLOBAL)
                return
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def threading_layer() -> str:
    """Numba's threading layer: ``"tbb"``, ``"omp"`` or ``"workqueue"``. If none has been chosen so far, one is now."""
    numba.get_num_threads()
    return numba.threading_layer()


def set_num_threads(n: int) -> None:
    """Use ``n`` threads in every compiled loop that this Python thread calls.

    Args:
        n: number of threads, from 1 to the number that Numba started with (``numba.config.NUMBA_NUM_THREADS``, by default
            the number of cores; the environment variable of that name sets it).

    Raises:
        ValueError: ``n`` is out of that range.
    """
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if isinstance(n, bool) or int(n) != n or not 1 <= n <= most:
        raise ValueError(f"number of threads is {n!r}; give a whole number from 1 to {most}")
    numba.set_num_threads(int(n))


def get_num_threads() -> int:
    """The number of threads that compiled loops use."""
    return numba.get_num_threads()
