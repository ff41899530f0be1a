"""What an option may be: one rule for a word on the command line and for a value from Python."""

import argparse
import dataclasses
import math
import numbers
import os
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Kind", "whole", "real", "above_zero", "share", "one_of", "some_of", "switch", "path"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A rule. ``kind(text)`` reads a word from the command line, and raises what argparse expects of a type."""

    read: Callable[[str], Any]  # raises ValueError if the word is no such value
    allows: Callable[[Any], bool]
    wanted: str  # what to give instead, for an error
    choices: tuple[str, ...] = ()

    def __call__(self, text: str) -> Any:
        try:
            value = self.read(text)
        except ValueError:
            value = None
        if value is None or not self.allows(value):
            raise argparse.ArgumentTypeError(f"'{text}' {self.refusal}")
        return value

    @property
    def refusal(self) -> str:
        """The end of an error message, after the value."""
        return f"is {'unknown' if self.choices else 'out of range'}; give {self.wanted}"


def whole(least: int = 1, most: int | None = None, multiple: int = 1) -> Kind:
    """A whole number from ``least`` to ``most``."""

    def allows(value: Any) -> bool:
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            return False
        return least <= int(value) <= (math.inf if most is None else most) and int(value) % multiple == 0

    if multiple > 1:
        return Kind(int, allows, f"a multiple of {multiple}")
    return Kind(int, allows, f"a whole number, {least}{f' to {most}' if most is not None else ' or more'}")


def real(allows: Callable[[float], bool], wanted: str) -> Kind:
    """A finite number for which ``allows`` holds."""
    return Kind(float, lambda value: isinstance(value, numbers.Real) and math.isfinite(value) and allows(float(value)), wanted)


def one_of(names: Iterable[str]) -> Kind:
    """One of the given names."""
    choices = tuple(names)
    return Kind(str, lambda value: value in choices, f"one of {', '.join(choices)}", choices)


def some_of(members: tuple[int, ...], what: str) -> Kind:
    """Some of a few numbers, with commas between them: a tuple, each once and in order."""

    def read(text: str) -> tuple[int, ...] | None:
        return tuple(sorted({int(part) for part in text.split(",") if part})) or None

    example = ",".join(map(str, members[::2]))
    return Kind(
        read,
        lambda value: set(value) <= set(members),
        f"numbers of {what} from {members[0]} to {members[-1]}, such as {example}",
    )


above_zero = real(lambda value: 0 < value <= 3.4e38, "a number above 0 that float32 holds")
share = real(lambda value: 0 <= value <= 1, "a number from 0 to 1")
switch = Kind(lambda text: {"yes": True, "no": False}[text], lambda value: isinstance(value, bool), "True or False")
# "~" is the home folder, even if the shell has left it in place, as in --out=~/x.
path = Kind(os.path.expanduser, lambda value: isinstance(value, (str, os.PathLike)), "a path")
