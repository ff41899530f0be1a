"""One pool of threads: Numba's. Matrix products run inside its loops, so BLAS keeps to one thread each."""

import numba
from threadpoolctl import threadpool_limits

__all__ = ["set_num_threads", "get_num_threads"]


def set_num_threads(n):
    """Use ``n`` threads in every compiled loop.

    BLAS is held at one thread, for the whole process, because the loops call it from each of theirs: two pools that
    take turns spin against each other and cost more than they give.

    Args:
        n: number of threads, from 1 to the number that Numba started with (``numba.config.NUMBA_NUM_THREADS``).

    Raises:
        ValueError: ``n`` is out of that range.
    """
    most = numba.config.NUMBA_NUM_THREADS
    if isinstance(n, bool) or int(n) != n or not 1 <= n <= most:
        raise ValueError(f"number of threads is {n!r}; give a whole number from 1 to {most}")
    numba.set_num_threads(int(n))
    threadpool_limits(1, user_api="blas")


def get_num_threads():
    """The number of threads that compiled loops use."""
    return numba.get_num_threads()
