"""How every loop of the package is compiled: one decorator for serial kernels, one for parallel ones.

A kernel is a function over plain arrays and scalars. It runs the same as plain Python under ``NUMBA_DISABLE_JIT=1``,
which is how to step through one in a debugger. No fast-math: a sum keeps the order in which it is written, so that
the backward loops recompute the very potentials of the forward loops.
"""

import functools
import sys
import threading

import numba
from llvmlite import binding
from numba import prange
from numba.core import event

__all__ = ["kernel", "parallel_kernel", "contracted_kernel", "has_feature", "prange", "announce_compilation"]

kernel = numba.njit(cache=True, nogil=True, error_model="numpy")


def parallel_kernel(loop):
    """Compile a loop over ``prange``, which runs on all threads; any number of Python threads may call it at once.

    Numba's layer "workqueue", the only one where neither OpenMP nor TBB is installed, aborts the process when two Python
    threads run parallel loops at once. Under it they take turns.
    """
    compiled = numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)(loop)
    if compiled is loop:  # NUMBA_DISABLE_JIT
        return loop

    @functools.wraps(loop)
    def call(*arguments):
        if _layer.is_safe():
            return compiled(*arguments)
        with _layer.turn:
            return compiled(*arguments)

    call.dispatcher = compiled
    return call


class _Layer:
    """Numba's threading layer, which is only known once a parallel loop has run."""

    def __init__(self):
        self.turn, self.known_safe = threading.RLock(), False

    def is_safe(self):
        if not self.known_safe:
            try:
                self.known_safe = numba.threading_layer() != "workqueue"
            except ValueError:  # none has run
                return False
        return self.known_safe


_layer = _Layer()
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
