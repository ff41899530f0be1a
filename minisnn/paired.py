"""Paired differences between two systems of an ablation, with an interval, and what a rule makes of them.

Two systems that were trained with the same seed share their initial weights as far as they can, the order of their samples and,
with folds, their test samples. What these do to a result cancels in the difference of the pair, so that a few pairs say more
than twice as many runs compared by their means. The interval is Student's: with n differences d of mean m and sample
deviation s,

    m - t s / sqrt(n)  to  m + t s / sqrt(n),    P(|T| <= t) = 95 % for T with n - 1 degrees of freedom

It takes the differences for independent draws from a normal distribution. Neither is quite true: folds share training samples,
which makes intervals too narrow, and shares of a few hundred test samples are steps of a third of a percent.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

from .errors import UsageError
from .types import Path

__all__ = [
    "CLAIMS",
    "HOLDS",
    "DOES_NOT_HOLD",
    "CANNOT_TELL",
    "LEAST",
    "Difference",
    "within",
    "quantile",
    "difference",
    "verdict",
    "Cells",
]

CLAIMS = ("higher", "lower", "same")
LEAST = 3  # pairs for a verdict: two that happen to agree, as shares of a few hundred samples do, have an interval of no width
HOLDS, DOES_NOT_HOLD, CANNOT_TELL = "holds", "does not hold", "cannot tell"


def within(t: float, degrees: int) -> float:
    """P(|T| <= t) for Student's T, as a finite sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    Args:
        t: at least 0.
        degrees: of freedom, a whole number from 1.
    """
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, degrees, 2):  # odd: cos + 2/3 cos^3 + 2 4 / (3 5) cos^5 ...; even: 1 + 1/2 cos^2 + 1 3 / (2 4) ...
        total += term
        term *= cosine * cosine * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def quantile(confidence: float, degrees: int) -> float:
    """The t with P(|T| <= t) = ``confidence``, by bisection."""
    low, high = 0.0, 1.0
    while within(high, degrees) < confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, degrees) < confidence else (low, middle)
    return high


@dataclasses.dataclass(frozen=True)
class Difference:
    """One system less another in one measure, over the seeds that both have."""

    pairs: int
    mean: float
    low: float  # of the interval; -inf with a single pair, which says nothing of its own spread
    high: float


def difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], confidence: float = 0.95, relative: bool = False
) -> Difference:
    """The mean of ours - theirs over the pairs, and its interval.

    Args:
        ours, theirs: {seed: value}.
        confidence: of the interval, between 0 and 1.
        relative: of ours / theirs - 1 instead: the mean is geometric, and the interval that of the logarithms.

    Raises:
        UsageError: no pair, or a value that is not above 0 where the difference is relative.
    """
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        raise UsageError("there is no seed that both systems have")
    if relative and not all(values[seed] > 0 for values in (ours, theirs) for seed in seeds):
        raise UsageError("a relative difference needs values above 0; omit --relative")
    each = [math.log(ours[s] / theirs[s]) if relative else ours[s] - theirs[s] for s in seeds]
    mean, spread = statistics.fmean(each), math.inf
    if len(each) > 1:
        spread = quantile(confidence, len(each) - 1) * statistics.stdev(each) / math.sqrt(len(each))
    found = (mean, mean - spread, mean + spread)
    return Difference(len(each), *(map(math.expm1, found) if relative else found))


def verdict(claim: str, low: float, high: float, margin: float = 0.0) -> str:
    """What an interval says of a claim: ``HOLDS``, ``DOES_NOT_HOLD`` or ``CANNOT_TELL``.

    Args:
        claim: "higher" holds if the whole interval is above 0, and does not if the whole of it is at or below ``margin``, so
            that a difference worth the name is excluded; "lower" is its mirror image; "same" holds if the whole interval is
            between -margin and margin, and does not if the whole of it is beyond either.
        low, high: of the interval.
        margin: the smallest difference that matters, at least 0.
    """
    if claim == "same":
        return HOLDS if -margin <= low and high <= margin else DOES_NOT_HOLD if low > margin or high < -margin else CANNOT_TELL
    if claim == "lower":
        low, high = -high, -low
    return HOLDS if low > 0 else DOES_NOT_HOLD if high <= margin else CANNOT_TELL


class Cells:
    """The table cells.csv of an ablation.

    Args:
        path: the file, or the folder of an ablation.

    Raises:
        UsageError: it cannot be read, or is no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = pathlib.Path(path)
        if self.path.is_dir():
            self.path /= "cells.csv"
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, strict=True))
        except FileNotFoundError:
            raise UsageError(f"{self.path} does not exist; give the folder or the cells.csv of `minisnn ablate`") from None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read ({error.strerror or error}); check its permissions") from None
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{self.path} is damaged ({' '.join(str(error).split())}); run `minisnn ablate` again") from None
        if not rows or not {"cell", "seed", "accuracy"} <= set(rows[0]):
            raise UsageError(f"{self.path} is no table of cells; give the folder or the cells.csv of `minisnn ablate`")
        self.rows: list[dict[str, Any]] = rows
        self.systems: dict[str, dict[int, dict[str, Any]]] = {}  # {system: {seed: row}}, in the order of the table
        for row in rows:
            system, _, seed = (row["cell"] or "").rpartition("-seed")
            if row.get("error"):
                continue  # the cell failed
            if not system or not seed.isdecimal():
                raise UsageError(f"{self.path} names a cell {str(row['cell'])[:40]!r}; run `minisnn ablate` again")
            self.systems.setdefault(system, {})[int(seed)] = row

    def values(self, system: str, measure: str) -> dict[int, float]:
        """{seed: value} of a column for one system.

        Raises:
            UsageError: there is no such system or column, or it does not hold numbers.
        """
        if system not in self.systems:
            raise UsageError(f"{self.path} has no system '{system}'; it has {', '.join(self.systems) or 'none'}")
        found = {}
        for seed, row in self.systems[system].items():
            try:
                found[seed] = float(row[measure])
                if not math.isfinite(found[seed]):
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                raise UsageError(f"{self.path} has no number in column '{measure}' of {row['cell']}") from None
        return found
