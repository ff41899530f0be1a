"""How every loop of the package is compiled: one decorator for serial kernels, one for parallel ones.

A kernel is a function over plain arrays and scalars. It runs the same as plain Python under ``NUMBA_DISABLE_JIT=1``,
which is how to step through one in a debugger. No fast-math: a sum keeps the order in which it is written, so that
the backward loops recompute the very potentials of the forward loops.
"""

import sys

import numba
from llvmlite import binding
from numba import prange
from numba.core import event

__all__ = ["kernel", "parallel_kernel", "contracted_kernel", "has_feature", "prange", "announce_compilation"]

kernel = numba.njit(cache=True, nogil=True, error_model="numpy")
parallel_kernel = numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
# A product and its addition may round once, together, where the CPU can (fused multiply-add): the matrix product is a third
# faster for it. The order of its sums stays as written.
contracted_kernel = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


def has_feature(name):
    """Whether the CPU that kernels are compiled for has a feature, by LLVM's name: ``"avx512f"``, ``"avx2"``, ..."""
    told = numba.config.CPU_FEATURES
    features = binding.get_host_cpu_features().flatten() if told is None else told
    return f"+{name}" in features.split(",")


class _FirstCompilation(event.Listener):
    """Says once that code is being compiled; a start that finds everything in the disk cache stays silent."""

    said = False

    def on_start(self, occurrence):
        if not self.said:
            self.said = True
            print("minisnn: compiling its kernels (once; later starts read them from disk)", file=sys.stderr, flush=True)

    def on_end(self, occurrence):
        pass


def announce_compilation():
    """Print one line to standard error when, and only when, Numba really compiles something."""
    event.register("numba:compile", _FirstCompilation())
