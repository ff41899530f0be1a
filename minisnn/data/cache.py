"""Frames on disk, so that a recording is decoded once.

The cache has a folder of its own, "minisnn-frames" within the folder that it is given, with a CACHEDIR.TAG to say whose it
is. The only files counted or removed are those in it whose names only this cache gives; a folder of that name without the tag
belongs to someone else, and is left alone.

A file is a line that names the format, a checksum, and the frames, compressed. The checksum also covers the file's name and
the shape; a file that does not pass it counts as absent, whatever the cause.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..types import Path

__all__ = ["FrameCache"]

FORMAT = 2  # of keys and files; must change whenever the result of to_frames changes
HEAD = b"minisnn frames %d\n" % FORMAT
DIGEST = 16  # bytes
OWN = "minisnn-frames"
TAG, SIGNATURE = "CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# minisnn keeps frames of recordings here.\n"
NAME = re.compile(r"[0-9a-f]{30}\.frames(\.[0-9a-f]+\.part)?")
ABANDONED = 3600.0  # seconds after which an unfinished file is taken to be left by a killed process


class FrameCache:
    """Frames on disk, compressed, one file for each sample, named by a hash of everything that determines it.

    A file appears under its name only once it is complete. When the cache is full, the least recently used files go
    first, but none that this cache has read or written itself: if those alone fill it, it stores no more and says so once.

    Args:
        folder: in which the cache has its own folder, created when the first sample is stored.
        limit: bytes that all of its files together may occupy.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = os.path.join(os.path.abspath(os.path.expanduser(folder)), OWN), limit
        self.used: int | None = None  # bytes; None before the folder has been looked at
        self.mine: set[str] = set()  # keys of what this cache has read or written
        self.full, self.lock = False, threading.Lock()
        self.hits = self.misses = 0

    @staticmethod
    def key(facts: Any) -> str:
        """The key of what was made from ``facts``, anything that JSON can hold."""
        return hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True).encode()).hexdigest()[:32]

    def path(self, key: str) -> str:
        return os.path.join(self.folder, key[:2], key[2:] + ".frames")

    def get(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The stored frames, uint8 of ``shape``; None if there are none."""
        path, size = self.path(key), int(np.prod(shape))
        try:
            with open(path, "rb") as file:
                content = file.read(len(HEAD) + DIGEST + size + size // 500 + 1000)  # no compressed frames are longer
            packed = content[len(HEAD) + DIGEST :]
            if content[: len(HEAD) + DIGEST] != HEAD + digest(key, shape, packed):
                raise ValueError("damaged, or not made here")
            frames = np.frombuffer(zlib.decompressobj().decompress(packed, size), np.uint8).reshape(shape)
            if key not in self.mine:
                os.utime(path)  # just used, so the last to be evicted
        except (OSError, ValueError, zlib.error):
            self.misses += 1
            return None
        self.mine.add(key)
        self.hits += 1
        return frames

    def put(self, key: str, frames: np.ndarray) -> None:
        """Store frames, uint8; nothing happens if there is no room or no permission."""
        packed = zlib.compress(np.ascontiguousarray(frames).tobytes(), 1)
        content = HEAD + digest(key, frames.shape, packed) + packed
        with self.lock:
            try:
                if self.full or not self.claim() or not self.make_room(len(content)):
                    return
                self.write(self.path(key), content)
            except OSError as error:
                self.stop(f"{self.folder} cannot be written ({error.strerror or error})")
                return
            self.mine.add(key)
            self.used = (self.used or 0) + len(content)

    def write(self, path: str, content: bytes) -> None:
        temporary = f"{path}.{secrets.token_hex(8)}.part"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(temporary, "wb") as file:  # no fsync: what a power cut damages is made again
                file.write(content)
            with contextlib.suppress(PermissionError):  # Windows: another process is reading the same frames
                os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def claim(self) -> bool:
        """Whether the cache's folder is its own; it is created if it does not exist, with its tag in it from the start."""
        tag = os.path.join(self.folder, TAG)
        if os.path.lexists(self.folder):
            try:
                with open(tag, encoding="utf-8") as file:
                    return file.read() == SIGNATURE or self.stop(f"{tag} was not written by minisnn")
            except FileNotFoundError:
                return self.stop(f"{self.folder} was not made by minisnn, since it holds no {TAG}")
        new = f"{self.folder}.{secrets.token_hex(8)}.part"
        os.makedirs(new)
        try:
            with open(os.path.join(new, TAG), "w", encoding="utf-8", newline="\n") as file:
                file.write(SIGNATURE)
            os.rename(new, self.folder)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            if not os.path.isfile(tag):  # else another process was faster
                raise
        return True

    def files(self) -> Iterator[tuple[float, int, str]]:
        """(time of last use, bytes, path) of every file of the cache, unfinished ones included."""
        for part in scandir(self.folder):
            if re.fullmatch("[0-9a-f]{2}", part.name) and part.is_dir(follow_symlinks=False):
                for entry in scandir(part.path):
                    if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(OSError):  # another process was faster
                            facts = entry.stat(follow_symlinks=False)
                            yield facts.st_mtime, facts.st_size, entry.path

    def make_room(self, size: int) -> bool:
        """Whether ``size`` more bytes fit, after evicting as much as needed."""
        if self.used is None:
            for used, _, path in self.files():
                if path.endswith(".part") and used < time.time() - ABANDONED:
                    remove(path)
            self.used = sum(bytes_of for _, bytes_of, _ in self.files())
        if self.used + size > self.limit:
            found = sorted(self.files())  # again: other processes write here too
            self.used, mine = sum(bytes_of for _, bytes_of, _ in found), {self.path(key) for key in self.mine}
            goal = self.limit - size - self.limit // 10  # some extra, so that not every sample walks through all files
            for _, bytes_of, path in found:
                if self.used <= max(goal, 0):
                    break
                if path not in mine and remove(path):
                    self.used -= bytes_of
        if self.used + size > self.limit:
            return self.stop(f"{self.folder} has reached {self.limit / 1e9:.3g} GB; raise --cache-limit")
        return True

    def stop(self, why: str) -> bool:
        """Say once why nothing more is stored; returns False."""
        self.full = True
        print(f"minisnn: frame cache: {why}; further recordings are read again each time", file=sys.stderr, flush=True)
        return False


def digest(key, shape, packed):
    hashed = hashlib.blake2b(json.dumps([key, list(shape)]).encode(), digest_size=DIGEST)
    hashed.update(packed)
    return hashed.digest()


def scandir(folder):
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def remove(path):
    """Whether a file could be removed."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
