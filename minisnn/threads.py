"""One pool of threads: Numba's. Matrix products run inside its loops too, so no BLAS is called, and none needs limiting.

The number of threads belongs to the Python thread that sets it, as in Numba; a new thread starts with all of them.
"""

from __future__ import annotations

import numba

__all__ = ["set_num_threads", "get_num_threads"]


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
