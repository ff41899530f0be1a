"""Compiles, in a process beside the tests, what they will call, so that on a second core half of it is done by then.

What a training run calls comes first, from its end, as the tests begin with one from its beginning. Then the rest that the
rehearsal of minisnn knows, and the same loops for float64, in which gradients are checked.
"""

import contextlib
import os
import subprocess
import sys
import threading

from numba import types
from numba.core.errors import NumbaError

from minisnn import rehearsal


def in_float64(kind):
    """A Numba type with float64 in place of float32."""
    if isinstance(kind, types.Array):
        return kind.copy(dtype=in_float64(kind.dtype))
    if isinstance(kind, types.NamedUniTuple):
        return types.NamedUniTuple(in_float64(kind.dtype), kind.count, kind.instance_class)
    return types.float64 if kind == types.float32 else kind


def wanted():
    """[(loop, types of its arguments)], the most urgent first."""
    training, every = rehearsal.rehearse(), rehearsal.rehearse(True)
    double = [
        (loop, tuple(map(in_float64, kinds))) for loop, kinds in every if "winograd" not in loop.py_func.__name__
    ]  # which is for float32 alone
    return list(dict.fromkeys([*training[::-1], *double, *every]))


def begin():
    """The process, which ends with its standard input."""
    code = f"import sys; sys.path[:] = {sys.path!r}; import compile_beside; compile_beside.work()"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def work():
    threading.Thread(target=rehearsal.end_with_parent, daemon=True).start()
    for loop, kinds in wanted():
        with contextlib.suppress(NumbaError):  # some do without float64
            loop.compile(kinds)
    os._exit(0)
