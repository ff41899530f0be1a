"""Printing: one line per message whatever a name holds, commands that can be pasted, and output whose reader may go away."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["say", "shown", "command", "streams", "STANDARD_OUTPUT"]

STANDARD_OUTPUT = "standard output"  # the file's name in an error of writing to it
GONE = (errno.EPIPE, errno.EINVAL, errno.EIO)  # from a pipe that is no longer read (EINVAL on Windows), a closed terminal


def shown(text: Any) -> str:
    """Text with its line breaks, escape codes and other control characters escaped, so that it is one harmless line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def say(line: Any = "") -> None:
    """Print one line."""
    print(shown(line))


def command(*words: Any) -> str:
    """A command line of this program, ready to paste into a shell of this system."""
    line = ["minisnn", *map(str, words)]
    return subprocess.list2cmdline(line) if os.name == "nt" else shlex.join(line)


class _Output:
    """A text stream that stays writable when its reader is gone: what is written is then discarded, which is said once."""

    def __init__(self, stream, note):
        self.stream, self.note = stream, note

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        return self.attempt(self.stream.write, text) or 0

    def flush(self):
        self.attempt(self.stream.flush)

    def attempt(self, function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            if error.errno not in GONE:
                error.filename = error.filename or STANDARD_OUTPUT
                raise
            self.drop()

    def drop(self):
        """Discard all further output."""
        nowhere = open(os.devnull, "w", encoding="utf-8")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # so that nothing is flushed into the pipe at exit
            os.dup2(nowhere.fileno(), self.stream.fileno())
        self.stream = nowhere
        self.note()


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Within the ``with`` statement standard output and error take any character, and survive being closed.

    A character that the terminal's encoding lacks is escaped. Output to a closed standard error is discarded.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")
    nowhere = open(os.devnull, "w", encoding="utf-8")
    said = _Output(before[1] or nowhere, lambda: None)
    out = _Output(
        before[0] or nowhere,
        lambda: print("minisnn: the output is no longer read; continuing without it", file=sys.stderr, flush=True),
    )
    sys.stdout, sys.stderr = out, said
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in (nowhere, out.stream, said.stream):
            if stream not in before:  # opened here
                stream.close()
