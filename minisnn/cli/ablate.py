"""`minisnn ablate`: a grid of systems, positions and seeds, trained and measured alike."""

import contextlib
import dataclasses
import sys
from pathlib import Path

from .. import files, models
from ..errors import UsageError
from ..kinds import path, whole
from ..options import EVENT_OPTIONS, OPTIONS, Options
from ..stopping import Stopped
from ..terminal import command, say, shown
from .declared import add_declared, given

DESCRIPTION = (
    "Train and measure every system of a grid, as the paper's Tables III to VIII do, and write a table (Markdown "
    "and CSV) with mean and deviation over the seeds, and a figure of accuracy against energy. The same command "
    "continues where it stopped, and skips what is done. A cell that fails does not stop the others."
)
PAPER = ("vanilla", "ms", "sew-add", "sew-and", "sew-iand", "or", "syna-t", "syna-c", "syna-s")


def add_arguments(parser):
    grid = parser.add_argument_group("the grid")
    grid.add_argument(
        "--models",
        nargs="+",
        default=PAPER,
        metavar="NAME",
        help=f"some of {', '.join(models.SYSTEMS)}; with -without-1,3 after a name, those shortcuts are removed "
        f"before training (default: {' '.join(PAPER)})",
    )
    grid.add_argument(
        "--positions",
        nargs="+",
        choices=models.POSITIONS,
        default=("a",),
        metavar="P",
        help="of attention, a to d; crossed with the systems that have attention on the backbone (default: a)",
    )
    grid.add_argument(
        "--seeds", nargs="+", type=whole(0), metavar="N", help="(default: the one of --seed; with --folds K, 0 to K - 1)"
    )
    grid.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        default="runs/ablation",
        help="folder of tables, figure and runs; new, or one to continue",
    )
    workers = parser.add_argument_group("workers")
    workers.add_argument(
        "--jobs", type=whole(), default=1, metavar="N", help="processes in parallel; --threads is divided among them"
    )
    workers.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler, such as tcp://host:8786; they must see --out under the same path",
    )
    add_declared(parser, {name: option for name, option in OPTIONS.items() if not option.of_system} | EVENT_OPTIONS)


def run(options):
    from .. import ablation

    if options.scheduler is not None and options.jobs != 1:
        raise UsageError("--jobs: a cluster has its own number of workers; give either --jobs or --scheduler")
    seeds = options.seeds or (list(range(options.folds)) if options.folds else [options.seed])
    if options.folds and options.split_seed is not None:
        raise UsageError("--split-seed: with --folds each seed tests on the fold of its number; omit it")
    if options.folds and max(seeds) >= options.folds:
        raise UsageError(
            f"--seeds: there is no fold {max(seeds)} of {options.folds}; give numbers from 0 to {options.folds - 1}"
        )
    cells = ablation.grid(options.models, options.positions, seeds)
    shared = dataclasses.asdict(
        Options(**given(options), model=cells[0].model)
    )  # checks them, and fills in the data set's own; keeps the machine's
    for own in [name for name, option in OPTIONS.items() if option.of_system] + ["seed", "threads"]:
        del shared[own]
    before = sum(ablation.read_cell(options.out, cell) is not None for cell in cells)
    print(f"{len(cells)} cells, {before} of them already done", file=sys.stderr)

    def tell(cell, result, results):
        said = result.get("error") or (
            f"{result['accuracy']:.2%}, {result['energy_mj'] * 1e3:.3g} µJ, silent shortcuts: "
            f"{', '.join(map(str, result['silent'])) or 'none'}, {result['seconds']:.0f} s"
        )
        print(shown(f"[{len(results)}/{len(cells)}] {cell.name}: {said}"), file=sys.stderr, flush=True)
        ablation.write_tables(results, options.out)

    try:
        results = ablation.run(cells, shared, options.out, options.jobs, options.threads, options.scheduler, tell)
        rows = ablation.write_tables(results, options.out)
    except KeyboardInterrupt as stop:
        raise Stopped(
            f"stopped; {done(options.out, cells)}. Continue with: {again(options)}", getattr(stop, "status", 130) - 128
        ) from None
    except OSError as error:
        raise UsageError(
            f"{error.filename or options.out} cannot be written ({error.strerror or error}); "
            f"{done(options.out, cells)}. {files.remedy(error).capitalize()}, then continue with: "
            f"{again(options)}"
        ) from None
    failed = {cell.name: result["error"] for cell, result in results.items() if "error" in result}
    print(ablation.markdown(rows))
    for name, reason in failed.items():
        print(shown(f"failed: {name}: {reason}"), file=sys.stderr)
    folder = Path(options.out)
    say(f"written to {folder}: table.md, table.csv, cells.csv, epochs.csv, figure.png and the runs")
    if len(failed) == len(cells):
        raise UsageError(
            f"every cell failed, the first one with: {next(iter(failed.values()))}. Continue with: {again(options)}"
        )
    if failed:
        print(f"minisnn: {len(failed)} of {len(cells)} cells failed. Continue with: {shown(again(options))}", file=sys.stderr)
    trained = {cell.name: result for cell, result in results.items() if cell.name not in failed}
    return {"out": str(folder), "table": rows, "failed": failed, "cells": trained}


def status(result):
    """The exit status: a grid with gaps is not what was requested, though its table is written."""
    return 2 if result["failed"] else 0


def again(options):
    """The command that continues this ablation."""
    return command("ablate", *options.arguments)


def done(out, cells):
    """How many cells are done, for a message; a damaged one does not count."""
    from .. import ablation

    count = 0
    for cell in cells:
        with contextlib.suppress(UsageError):
            count += ablation.read_cell(out, cell) is not None
    return f"{count} of {len(cells)} cells are done in {out}"
