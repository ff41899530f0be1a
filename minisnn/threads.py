"""One pool of threads: Numba's. Matrix products run inside its loops, so BLAS keeps to one thread each."""

import numba
import scipy.linalg.cython_blas  # noqa: F401  the BLAS that compiled loops call must be there before it can be limited
from threadpoolctl import threadpool_limits

__all__ = ["set_num_threads", "get_num_threads"]

# Two pools that take turns spin against each other and cost more than they give; so BLAS is limited from the start, for
# the whole process. Whoever wants NumPy's products threaded beside minisnn can lift the limit again after the import.
threadpool_limits(1, user_api="blas")


def set_num_threads(n):
    """Use ``n`` threads in every compiled loop; matrix products run inside those, one thread each.

    Args:
        n: number of threads, from 1 to the number that Numba started with (``numba.config.NUMBA_NUM_THREADS``, by default
            the number of cores; the environment variable of that name sets it).

    Raises:
        ValueError: ``n`` is out of that range.
    """
    most = numba.config.NUMBA_NUM_THREADS
    if isinstance(n, bool) or int(n) != n or not 1 <= n <= most:
        raise ValueError(f"number of threads is {n!r}; give a whole number from 1 to {most}")
    numba.set_num_threads(int(n))


def get_num_threads():
    """The number of threads that compiled loops use."""
    return numba.get_num_threads()
