"""Recordings in iniVation's AEDAT 4, decoded in a child process.

The decoder is written in Rust, and a damaged file can make it panic in a place from which a panic ends the whole process. So it
runs in a child, which serves one file after another; if the child dies, the file was damaged, and the next one gets a new
child. A file that unpacks to more memory than the child may use is rejected in the same way.
"""

from __future__ import annotations

import atexit
import io
import os
import struct
import subprocess
import sys
import threading
from typing import Any

import numpy as np

__all__ = ["decode", "DamagedFile"]

GROWTH, ROOM = 200, 2 << 30  # bytes that the child may use: for each byte of the file, and in addition
LENGTH = struct.Struct("<q")  # before a path, and before a reply; negative for the text of an error


class DamagedFile(Exception):
    """A file that the decoder cannot read; the text says why, if the decoder did."""


def decode(path: str) -> np.ndarray:
    """The events of a file, a structured array as the decoder returns it.

    Raises:
        DamagedFile: the file is damaged or of another kind.
        ImportError: the package aedat, or tonic, is missing.
    """
    return _child.decode(os.path.abspath(path))


class _Child:
    """The process that decodes, started when the first file is requested."""

    def __init__(self):
        self.process: Any = None
        self.lock = threading.Lock()

    def decode(self, path):
        import aedat  # noqa: F401  here too, so that a missing package is reported as such

        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.start()
            try:
                name = os.fsencode(path)
                self.process.stdin.write(LENGTH.pack(len(name)) + name)
                self.process.stdin.flush()
                (length,) = LENGTH.unpack(self.read(LENGTH.size))
                reply = self.read(abs(length))
            except (OSError, EOFError):
                self.stop()
                raise DamagedFile("the decoder broke down over it") from None
            except BaseException:  # Ctrl-C in the middle of a reply: the next one would begin with the rest of it
                self.stop()
                raise
        if length < 0:
            raise DamagedFile(reply.decode("utf-8", "replace"))
        return np.lib.format.read_array(io.BytesIO(reply), allow_pickle=False)

    def start(self):
        # This file alone, without the package, which takes longer to import than a recording takes to decode.
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def read(self, size):
        content = self.process.stdout.read(size)
        if len(content) < size:
            raise EOFError
        return content

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


_child = _Child()
atexit.register(_child.stop)


def serve(requests, replies):
    """The child's life: paths come in, events go out, until the parent closes the pipe."""
    from tonic.io import read_aedat4

    while head := requests.read(LENGTH.size):
        path = os.fsdecode(requests.read(*LENGTH.unpack(head)))
        try:
            limit_memory(os.path.getsize(path))
            packed = io.BytesIO()
            np.lib.format.write_array(packed, read_aedat4(path), allow_pickle=False)
            reply, sign = packed.getvalue(), 1
        except BaseException as error:  # the decoder's panics are not Exceptions
            reply, sign = " ".join(f"{error}".split())[:200].encode() or type(error).__name__.encode(), -1
        replies.write(LENGTH.pack(sign * len(reply)) + reply)
        replies.flush()


def limit_memory(size):
    """Limit this process to that much memory, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = GROWTH * size + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    import signal

    sys.path.pop(0)  # this folder, whose files are never imported by their bare names

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and then ends this process
    serve(sys.stdin.buffer, sys.stdout.buffer)
