"""Compiled loops on disk, so that only the first start compiles: Numba's cache, safe against edited sources and damaged files.

Numba keeps a compiled loop until the file that holds it changes. But compiled into a loop are the loops that it calls and
the constants that it reads, whatever file they come from: edit ``charge`` in ops/lif.py, and the fused operation in
ops/fused.py would silently keep using the old neuron. Here a loop is kept until its own file, or any file that this imports,
directly or indirectly, changes. And a cache never keeps the program from running: if a file is damaged, the loop is compiled
again and the file replaced; a folder that cannot be written costs one line.

The files are where Numba puts them: in ``__pycache__`` next to the source, else in the user's cache folder, or in
``NUMBA_CACHE_DIR`` if that is set.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from numba.core import caching

from .types import Path

__all__ = ["KernelCache", "source_stamp"]

PACKAGE = pathlib.Path(__file__).resolve().parent
IMPORT = re.compile(r"^\s*from\s+(\.+|minisnn\b\.?)([\w.]*)\s+import\s+(?:\(([^)]*)\)|(.*))", re.MULTILINE)
DIGEST = hashlib.blake2b().digest_size


@functools.cache
def imported_files(path):
    """The files of this package that a file of it imports: a frozenset of paths."""
    found = set()
    for dots, module, *names in IMPORT.findall(path.read_text(encoding="utf-8")):
        base = PACKAGE if dots.startswith("minisnn") else path.parents[len(dots) - 1]
        base = base.joinpath(*module.split(".")) if module else base
        names = re.findall(r"\w+", re.sub(r"#.*|\bas\s+\w+", "", "".join(names)))
        for place in (base, *(base / name for name in names)):
            found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return frozenset(found)


@functools.cache
def source_stamp(path: Path) -> str:
    """A hash of a file and of all that it imports from this package, directly or indirectly; of the whole package for a file
    outside it.
    """
    path = pathlib.Path(path).resolve()
    reached = set()
    waiting = [path] if path.is_relative_to(PACKAGE) else [path, *PACKAGE.rglob("*.py")]
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += imported_files(file) if file.is_relative_to(PACKAGE) else ()
    stamp = hashlib.blake2b(digest_size=16)
    for file in sorted(reached):
        stamp.update(hashlib.blake2b(file.read_bytes()).digest())
    return stamp.hexdigest()


class _CheckedFiles(caching.IndexDataCacheFile):
    """Numba's two files for a loop, with a checksum; what cannot be read counts as absent, and is overwritten."""

    def _load_index(self):
        try:
            return super()._load_index()
        except Exception:  # unpickling a damaged file may raise anything
            return {}

    def _load_data(self, name):
        content = pathlib.Path(self._data_path(name)).read_bytes()
        if hashlib.blake2b(content[DIGEST:]).digest() != content[:DIGEST]:
            raise OSError(f"{name} is damaged")  # which the base class treats as absent
        return caching.pickle.loads(content[DIGEST:])

    def _save_data(self, name, data):
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.blake2b(content).digest() + content)


class _Places(caching.FunctionCache._impl_class):  # type: ignore[misc, valid-type]
    """The places that Numba tries; without a home folder (``HOME`` unset, no entry in passwd) omit the user's, which would
    then be a folder named "~" in the current one.
    """

    @property
    def _locator_classes(self):
        classes = caching.FunctionCache._impl_class._locator_classes
        if not caching.AppDirs(appname="numba", appauthor=False).user_cache_dir.startswith("~"):
            return classes
        return [place for place in classes if "UserWide" not in place.__name__]


class KernelCache(caching.FunctionCache):
    """The cache of one loop, for the ``_cache`` of a Numba dispatcher."""

    _impl_class = _Places

    said = False

    def __init__(self, loop: Callable) -> None:
        self._name, self._py_func = repr(loop), loop
        self._impl = self._impl_class(loop)  # raises RuntimeError where no folder can be written
        self._cache_path = self._impl.locator.get_cache_path()
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, source_stamp(loop.__code__.co_filename))
        self.enable()

    @classmethod
    def attach(cls, dispatcher: Any) -> None:
        """Give a dispatcher its cache, if there is a folder for it."""
        try:
            dispatcher._cache = cls(dispatcher.py_func)
        except (RuntimeError, OSError) as error:
            cls.say(error)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a file of another Numba or LLVM, or one that vanished just now
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.say(error)

    @classmethod
    def say(cls, error: Exception) -> None:
        """Say once that compiled loops are not kept."""
        if not KernelCache.said:
            KernelCache.said = True
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "no folder can be written"
            print(
                f"minisnn: compiled kernels are not kept ({reason}), so every start compiles them; set NUMBA_CACHE_DIR to a "
                f"folder that can be written{'' if os.environ.get('HOME') else ', or HOME'}",
                file=sys.stderr,
                flush=True,
            )
