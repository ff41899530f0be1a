"""How every loop of the package is compiled: one decorator for serial kernels, one for parallel ones.

A kernel is a function over plain arrays and scalars. It runs unchanged as plain Python under ``NUMBA_DISABLE_JIT=1``,
which is how to step through one in a debugger. No fast-math: a sum keeps the order in which it is written, so that
the backward loops recompute exactly the potentials of the forward loops.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import prange
from numba.core import event
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

from .kernel_cache import KernelCache
from .threads import prefer_patient_layer

__all__ = ["kernel", "parallel_kernel", "contracted_kernel", "has_feature", "prange", "recording", "announcing_compilation"]

prefer_patient_layer()


LOOPS: list[Any] = []  # every compiled loop of the package


def compiled(loop, **options):
    """A loop that Numba compiles on the first call and keeps on disk."""
    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(loop)
    if dispatcher is not loop:  # else NUMBA_DISABLE_JIT is set
        LOOPS.append(dispatcher)
        dispatcher.compile = functools.partial(compile_loop, dispatcher, dispatcher.compile)
        KernelCache.attach(dispatcher)
    return dispatcher


def compile_loop(loop, compile_plainly, signature):
    """Compile, in turn with other processes, with LLVM's SLP vectorizer, which puts sums that are written as many names or as
    a tuple into vector registers; without it they stay scalar, seven times slower. The switch is Numba's and applies to the
    whole process, as what ``optimizing_once`` changes does, so both are set only while this thread holds the compiler's lock.
    """
    with turns(loop, signature), global_compiler_lock, optimizing_once():
        before, numba.config.SLP_VECTORIZE = numba.config.SLP_VECTORIZE, 1  # type: ignore[attr-defined]
        try:
            return compile_plainly(signature)
        finally:
            numba.config.SLP_VECTORIZE = before  # type: ignore[attr-defined]


def at_once(loop: Any, signature: Any) -> contextlib.AbstractContextManager:
    """Waits for nobody."""
    return contextlib.nullcontext()


turns: Callable[[Any, Any], contextlib.AbstractContextManager] = at_once  # what a loop is compiled in, see rehearsal.Turns


STAGES = re.compile("__numba_parfor_gufunc|parallelgufuncwrapper|<numba.*_GufuncWrapper")  # names of libraries


@contextlib.contextmanager
def optimizing_once():
    """Within the ``with`` statement LLVM optimizes a parallel loop once. Numba builds it in four stages, each linked into
    the next: its body, two wrappers and the function that is called. It optimizes every one, makes machine code of it, and runs
    only the last. A first start takes two thirds of the time for it.
    """
    library: Any = JITCodeLibrary
    codegen: Any = JITCPUCodegen
    if not (hasattr(library, "_optimize_final_module") and hasattr(library, "_finalize_final_module")):  # another Numba
        yield
        return
    optimize, emit, set_env = library._optimize_final_module, library._finalize_final_module, codegen.set_env

    def optimize_last(self):
        if not STAGES.match(self.name):
            optimize(self)

    def emit_last(self):
        if STAGES.match(self.name):
            self._finalize_dynamic_globals()
            self._finalized = True
        else:
            emit(self)

    def set_env_of_last(self, name, env):
        if self._engine.is_symbol_defined(name):  # not that of a body which has no machine code of its own
            set_env(self, name, env)

    library._optimize_final_module, library._finalize_final_module = optimize_last, emit_last
    codegen.set_env = set_env_of_last
    try:
        yield
    finally:
        library._optimize_final_module, library._finalize_final_module = optimize, emit
        codegen.set_env = set_env


def kernel(loop: Callable) -> Callable:
    """Compile a serial loop."""
    return compiled(loop)


def contracted_kernel(loop: Callable) -> Callable:
    """Compile a serial loop in which a product and its addition may be rounded once, together, if the CPU supports it (fused
    multiply-add): this makes the matrix product a third faster. The order of its sums stays as written.
    """
    return compiled(loop, fastmath={"contract"})


def parallel_kernel(loop: Callable) -> Callable:
    """Compile a loop over ``prange``, which runs on all threads; any number of Python threads may call it at once.

    Numba's layer "workqueue", the only one if neither OpenMP nor TBB is installed, aborts the process when two Python
    threads run parallel loops at once. With that layer they take turns.
    """
    dispatcher = compiled(loop, parallel=True)
    if dispatcher is loop:
        return loop

    @functools.wraps(loop)
    def call(*arguments: Any) -> Any:
        if _layer.is_safe():
            return dispatcher(*arguments)
        with _layer.turn:
            return dispatcher(*arguments)

    call.dispatcher = dispatcher  # type: ignore[attr-defined]
    return call


class _Layer:
    """Numba's threading layer, which is known only once a parallel loop has run."""

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


def has_feature(name: str) -> bool:
    """Whether the CPU that kernels are compiled for has a feature, by LLVM's name: ``"avx512f"``, ``"avx2"``, ..."""
    told = numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    features = binding.get_host_cpu_features().flatten() if told is None else told
    return f"+{name}" in features.split(",")


# ---- which loops are called, and with which types --------------------------------------------------------------------


class _Recorded(CPUDispatcher):
    """A dispatcher that runs its loop as plain Python, and notes with which types it was called from outside of any other."""

    calls: dict[Any, None]
    depth = 0

    def __call__(self, *arguments):
        cls = _Recorded
        if cls.depth == 0:
            cls.calls[self, tuple(numba.typeof(a) for a in arguments)] = None
        cls.depth += 1
        try:
            return self.py_func(*arguments)
        finally:
            cls.depth -= 1


@contextlib.contextmanager
def recording() -> Iterator[dict[Any, None]]:
    """Within the ``with`` statement every loop runs as plain Python and nothing is compiled. The dict that it hands out has a
    key (loop, types of the arguments) for each call, in the order of the first ones. For a process of its own, or before other
    threads run.
    """
    _Recorded.calls = {}
    for loop in LOOPS:
        loop.__class__ = _Recorded
    try:
        with np.errstate(over="ignore"):  # unsigned numbers wrap, of which plain Python warns
            yield _Recorded.calls
    finally:
        for loop in LOOPS:
            loop.__class__ = CPUDispatcher


class _Compilations(event.Listener):
    """Says once that code is being compiled; a start that finds everything in the disk cache is silent."""

    def __init__(self, on_first):
        self.said, self.on_first = False, on_first

    def on_start(self, occurrence):
        if not self.said:
            self.said = True
            print("minisnn: compiling its kernels (once; later starts read them from disk)", file=sys.stderr, flush=True)
            if self.on_first is not None:
                self.on_first()

    def on_end(self, occurrence):
        pass


def announcing_compilation(on_first: Callable[[], Any] | None = None) -> contextlib.AbstractContextManager:
    """Within the ``with`` statement: print one line to standard error when, and only when, Numba really compiles something, and
    call ``on_first`` then.
    """
    return event.install_listener("numba:compile", _Compilations(on_first))
