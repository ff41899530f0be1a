"""`minisnn compare`: paired differences between the systems of an ablation."""

import math

from .. import files
from ..errors import UsageError
from ..kinds import path, real
from ..paired import CANNOT_TELL, CLAIMS, LEAST, Cells, difference, verdict

DESCRIPTION = (
    "Compare the systems of an ablation with one of them, seed by seed: the mean of the paired differences, its interval by "
    "Student's t, and whether a claim holds, does not hold, or cannot be told from so many seeds; from fewer than "
    f"{LEAST} it never can."
)
COLUMNS = ("system", "against", "measure", "pairs", "difference", "low", "high", "verdict")


def add_arguments(parser):
    parser.add_argument("cells", type=path, metavar="CELLS", help="folder of an ablation, or its cells.csv")
    parser.add_argument("--against", required=True, metavar="NAME", help="the system that all others are compared with")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="compare only these systems (default: all others)")
    parser.add_argument(
        "--measures",
        nargs="+",
        default=("accuracy", "spikes", "energy_mj"),
        metavar="COLUMN",
        help="columns of the table (default: accuracy spikes energy_mj)",
    )
    parser.add_argument("--relative", action="store_true", help="ratios, less 1, in place of differences")
    parser.add_argument(
        "--claim",
        choices=CLAIMS,
        help="what to judge: the system is higher, lower, or the same to within --margin (default: higher or lower, as the "
        "mean is)",
    )
    parser.add_argument(
        "--margin",
        type=real(lambda value: value >= 0, "a number of 0 or more"),
        default=0.0,
        metavar="M",
        help="the smallest difference that matters, such as 0.005 of accuracy: a claim to be higher does not hold if the whole "
        "interval is at or below it",
    )
    parser.add_argument(
        "--confidence",
        type=real(lambda value: 0 < value < 1, "a number between 0 and 1"),
        default=0.95,
        metavar="SHARE",
        help="of the interval",
    )
    parser.add_argument("--out", type=path, metavar="FILE", help="write the table as CSV as well")


def run(options):
    from ..ablation import table_csv

    if options.claim == "same" and not options.margin:
        raise UsageError("--claim same needs --margin, the largest difference that still counts as none")
    cells = Cells(options.cells)
    rows = []
    for system in options.models or [name for name in cells.systems if name != options.against]:
        for measure in options.measures:
            pair = cells.values(system, measure), cells.values(options.against, measure)
            found = difference(*pair, options.confidence, options.relative)
            claim = options.claim or ("lower" if found.mean < 0 else "higher")
            said = CANNOT_TELL if found.pairs < LEAST else verdict(claim, found.low, found.high, options.margin)
            values = (system, options.against, measure, found.pairs, found.mean, finite(found.low), finite(found.high), said)
            rows.append(dict(zip(COLUMNS, values)))
    print(markdown(rows, options.relative, options.confidence, options.claim))
    if options.out is not None:
        files.write_text(options.out, table_csv(rows))
    return {"cells": str(cells.path), "confidence": options.confidence, "relative": options.relative, "table": rows}


def finite(value):
    """A bound as JSON has it: None where there is none."""
    return value if math.isfinite(value) else None


def markdown(rows, relative, confidence, claim):
    """The table as Markdown."""
    scale, unit = (100, " (%)") if relative else (1, "")
    head = (
        "system",
        "against",
        "measure",
        "pairs",
        f"difference{unit}",
        f"{100 * confidence:g} % interval{unit}",
        claim or "its sign",
    )
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        low, high = ("none" if row[end] is None else f"{scale * row[end]:+.4g}" for end in ("low", "high"))
        between = "none: a single pair" if row["low"] is None else f"{low} to {high}"
        words = (row["system"], row["against"], row["measure"], row["pairs"], f"{scale * row['difference']:+.4g}", between)
        lines.append("| " + " | ".join(map(str, (*words, row["verdict"]))) + " |")
    return "\n".join(lines) + "\n"
