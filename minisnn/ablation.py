"""A grid of runs, as in the paper's Tables III to VIII: systems, positions, seeds, all trained and measured alike.

The folder of an ablation:

    ablation.json     the options that all cells share
    CELL/             the run folder of each cell, such as syna-t-b-seed0
    CELL/cell.json    what was measured on it; a cell that has this file is done and is skipped
    cells.csv         one row per cell
    epochs.csv        one row per epoch of each cell: its metrics, and the firing rate of every layer in both modes
    table.csv, .md    one row per system: mean and deviation over the seeds
    figure.png        accuracy against energy

A cell that fails does not affect the others, nor does a process that dies. The same command continues where it stopped.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import dataclasses
import io
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from . import files, locks, pruning, stopping, train
from .data import CACHE_OPTIONS, batches
from .errors import UsageError
from .models import POSITIONS, PRUNABLE, RESIDUALS, SHORTCUTS, SYSTEMS, ResNet21
from .options import EARLIER, OPTIONS, Options
from .runs import CONFIG, IN_TRAINING, Run, new_folder

__all__ = ["Cell", "grid", "run", "summarise", "markdown", "table_csv"]

DONE, SHARED = "cell.json", "ablation.json"
TOTALS = ("spikes", "mac", "ac", "energy_mj", "spikes_per_neuron", "firing_rate")
MEASURED = (*TOTALS, "accuracy", "last_accuracy", "highest_accuracy", "parameters", "training_seconds")
AGAIN = "the command of the ablation"
WATCH = 0.2  # seconds between a worker's checks that its parent is still alive
ONE_AT_A_TIME = threading.Lock()  # a Dask worker may have several threads, but only one at a time may run compiled loops


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run of the grid."""

    model: str  # key of models.SYSTEMS
    position: str = "a"
    seed: int = 0
    without: tuple = ()  # numbers of the shortcuts removed before training (Table VIII)

    @property
    def system(self) -> str:
        """Name of the row that this cell counts for: "syna-t-b", "or", "syna-c-a-without-1,3"."""
        placed = f"-{self.position}" if has_position(self.model) else ""
        return self.model + placed + (f"-without-{','.join(map(str, self.without))}" if self.without else "")

    @property
    def name(self) -> str:
        """Name of the cell's folder."""
        return f"{self.system.replace(',', '')}-seed{self.seed}"


def has_position(model):
    """Whether the position of attention matters to a system: only if it has attention on the backbone."""
    options = SYSTEMS[model]
    return options.get("attention") is not None and options.get("ma", True)


def grid(models: Sequence[str], positions: Sequence[str] = ("a",), seeds: Sequence[int] = (0,)) -> list[Cell]:
    """All cells of models x positions x seeds, each once; positions only for systems with attention on the backbone.

    Args:
        models: keys of models.SYSTEMS, each optionally followed by "-without-1,3", the shortcuts to remove before training.
        positions: "a" to "d" (Table V).
        seeds: whole numbers.

    Returns:
        [Cell], seed by seed, so that a grid that is stopped halfway has every system.

    Raises:
        UsageError: an unknown model or position, or shortcuts that a system cannot do without.
    """
    cells = []
    for seed in seeds:
        for spec in models:
            model, _, numbers = spec.partition("-without-")
            if model not in SYSTEMS:
                raise UsageError(
                    f"--models: there is no model '{model}'; give some of {', '.join(SYSTEMS)}, "
                    "each optionally followed by -without-1,3 to remove those shortcuts before training"
                )
            without = tuple(sorted({int(k) for k in re.findall("[1-3]", numbers)}))
            if "-without-" in spec and not re.fullmatch("[1-3](,?[1-3])*", numbers):
                raise UsageError(f"--models: '{spec}' removes no shortcut; give the numbers 1, 2, 3, as in {model}-without-1,3")
            if without and not RESIDUALS[SYSTEMS[model]["residual"]].neutral:
                raise UsageError(f"--models: '{spec}': {model} cannot do without a shortcut; give another model")
            for position in positions if has_position(model) else positions[:1]:
                if position not in POSITIONS:
                    raise UsageError(f"--positions: there is no position '{position}'; give some of {', '.join(POSITIONS)}")
                cells.append(Cell(model, position if has_position(model) else "a", seed, without))
    return list(dict.fromkeys(cells))


# ---- one cell ----------------------------------------------------------------------------------------------------------


def run_cell(cell, options, folder, threads=None):
    """Train and measure one cell, unless that has been done; in any process.

    Args:
        cell: Cell.
        options: {name: value} of train.Options, shared by all cells.
        folder: of the ablation.
        threads: of compiled loops; None to leave them as they are.

    Returns:
        What cell.json holds, or {"error": one line} if the cell failed; with the "seconds" spent now.
    """
    started = time.perf_counter()
    with ONE_AT_A_TIME:
        try:
            done = read_cell(folder, cell)
            if done is not None:
                return done | {"seconds": 0.0}
            if threads is not None:
                limit_threads(threads)
            result = train_and_measure(cell, options, Path(folder) / cell.name)
        except Exception as error:  # whatever it is, the other cells continue
            return {"error": said(error), "seconds": time.perf_counter() - started}
    return result | {"seconds": time.perf_counter() - started}


def said(error):
    """An exception as one line."""
    if isinstance(error, UsageError):
        return f"{error}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be written ({error.strerror or error}); {files.remedy(error)}"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"


def limit_threads(threads):
    """Use that many threads, or all that this process has if they are fewer."""
    import numba

    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))  # type: ignore[attr-defined]


def train_and_measure(cell, options, path):
    """Train into the run folder ``path``, or continue a run that was stopped there; measure; write cell.json."""
    cache: dict[str, Any] = {}
    if (path / CONFIG).exists():
        cache = {name: value for name, value in (options.get("data_options") or {}).items() if name in CACHE_OPTIONS}
        summary = train.resume(path, progress=False, say=unsaid, cache_options=cache, again=AGAIN)
    else:
        files.remove_parts(path)  # left by a process that was killed before training began
        own = dict(model=cell.model, position=cell.position, seed=cell.seed, removed=cell.without)
        if options.get("folds"):
            own["split_seed"] = cell.seed
        summary = train.train(train.Options(**options | own), path, progress=False, say=unsaid, again=AGAIN)
    result = measure(path) | {
        "last_accuracy": summary["last_test_accuracy"],
        "highest_accuracy": summary["highest_test_accuracy"],
        "training_seconds": summary["seconds"],  # of all epochs, those before an interruption too
    }
    files.write_text(path / DONE, json.dumps(dataclasses.asdict(cell) | result, indent=1) + "\n")
    return read_cell(path.parent, cell)


def unsaid(line):
    """Discards the lines of a cell's training, of which there are too many."""


def measure(path, batch_size=64):
    """What a run's last epoch, or the one that its validation chose, achieves and costs on the test set, as trained and with
    its silent shortcuts pruned.
    """
    run = Run.open(path)
    net, data = cast(ResNet21, run.network()), run.dataset()
    trained_on = run.trained_on(data)
    tested = train.evaluate(net, data.test, batch_size)
    result = {
        "accuracy": tested["accuracy"],
        **totals(tested["report"]),
        "attention_mj": sum(row.energy_mj for row in tested["report"].layers if row.kind == "attention"),
        "parameters": sum(p.size for p in net.parameters()),
        "silent": [],
        "pruned": None,
        "shortcut_rates": {},
    }
    if net.config.residual in PRUNABLE:
        found = pruning.prune(net, lambda: batches(trained_on, batch_size), lambda: batches(data.test, batch_size))
        result |= {"silent": list(found.removed), "shortcut_rates": {str(k): rate for k, rate in found.train_rates.items()}}
        if found.removed:
            result["pruned"] = totals(found.report_after) | {
                "parameters": sum(p.size for p in found.network.parameters()),
                "identical": found.identical,
            }
    return result


def totals(report):
    """The totals of an energy report that the table shows."""
    return {key: getattr(report, key) for key in TOTALS}


def read_cell(folder, cell):
    """What was measured on a cell, or None if it is not done, or was measured by an earlier version, on the epoch that did best
    on the test set: it is then measured again.
    """
    path, fix = Path(folder) / cell.name / DONE, "delete its folder to train that cell again"
    try:
        found = files.read_json(path, fix)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if isinstance(found, dict) and "last_accuracy" in found and "highest_accuracy" not in found:
        return None
    try:
        check_cell(found)
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}); {fix}") from None
    return found


def check_cell(found):
    """Raises ValueError, with the reason, if this is not what ``train_and_measure`` writes."""

    def numbers(holder, names):
        for name in names:
            value = holder.get(name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
                raise ValueError(f"{name} is {str(value)[:40]!r}")

    if not isinstance(found, dict):
        raise ValueError("it holds no results")
    numbers(found, MEASURED)
    if (
        not isinstance(found.get("silent"), list)
        or not all(k in SHORTCUTS for k in found["silent"] if isinstance(k, int))
        or not all(isinstance(k, int) for k in found["silent"])
    ):
        raise ValueError(f"silent is {str(found.get('silent'))[:40]!r}")
    if "pruned" not in found:
        raise ValueError("pruned is missing")
    if found["pruned"] is not None:
        if not isinstance(found["pruned"], dict):
            raise ValueError(f"pruned is {str(found['pruned'])[:40]!r}")
        numbers(found["pruned"], (*TOTALS, "parameters"))


# ---- all cells ---------------------------------------------------------------------------------------------------------


def run(
    cells: Sequence[Cell],
    options: dict[str, Any],
    folder: Path,
    jobs: int = 1,
    threads: int | None = None,
    scheduler: str | None = None,
    tell: Callable[[Cell, dict[str, Any], dict[Cell, dict[str, Any]]], None] | None = None,
) -> dict[Cell, dict[str, Any]]:
    """Train and measure the cells that are not done yet.

    Args:
        cells: [Cell].
        options: {name: value} of train.Options, shared by all cells.
        folder: of the ablation, new, or one to continue.
        jobs: parallel worker processes; 1 trains in this process. As always with Python's multiprocessing, a script that
            requests more keeps its own commands under ``if __name__ == "__main__":``.
        threads: in total, divided among the workers; None for one per core.
        scheduler: address of a Dask scheduler whose workers train the cells; they must see ``folder`` under the same path.
        tell: called with (cell, result, results so far) whenever a cell is done.

    Returns:
        {Cell: result}, in the order of ``cells``; see ``run_cell``.

    Raises:
        UsageError: the folder holds an ablation with other options, another process works in it, or the scheduler cannot
            be reached.
    """
    folder = new_folder(Path(folder).absolute())
    with locks.holding(folder):
        files.remove_parts(folder)
        claim(folder, options)
        results = {cell: done for cell in cells if (done := read_cell(folder, cell)) is not None}
        todo = [cell for cell in cells if cell not in results]
        try:
            with contextlib.closing(work(todo, options, folder, jobs, threads, scheduler)) as done:
                for cell, result in done:
                    stopping.check()
                    results[cell] = result
                    if tell is not None:
                        tell(cell, result, {c: results[c] for c in cells if c in results})
        except WorkersLost as error:
            for cell in todo:  # what the lost workers had finished is on disk
                results[cell] = results.get(cell) or read_cell(folder, cell) or {"error": str(error), "seconds": 0.0}
    return {cell: results[cell] for cell in cells}


class WorkersLost(Exception):
    """Worker processes ended before their cells did."""


def work(todo, options, folder, jobs, threads, scheduler):
    """(cell, result) as they are done."""
    if scheduler is None and jobs == 1:
        for cell in todo:
            yield cell, run_cell(cell, options, folder, threads)
        return
    if scheduler is not None:
        from distributed import as_completed

        with connect(scheduler) as client:  # the workers are the cluster's own; each uses what it has, or what --threads says
            calls = [client.submit(named_cell, cell, options, str(folder), threads, pure=False) for cell in todo]
            with lost_workers():
                for call in as_completed(calls, loop=client.loop):
                    yield call.result()
        return
    import numba

    each = max(1, (threads or numba.config.NUMBA_NUM_THREADS) // jobs)  # type: ignore[attr-defined]
    with pool_of(min(jobs, max(1, len(todo)))) as pool:
        calls = [pool.submit(named_cell, cell, options, str(folder), each) for cell in todo]
        with lost_workers():
            for call in concurrent.futures.as_completed(calls):
                yield call.result()


@contextlib.contextmanager
def pool_of(jobs):
    """A pool of that many processes, which ends at once if an exception leaves the ``with`` statement."""
    with stopping.deaf_children():
        pool = concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin_worker, (os.getpid(),))
        for _ in range(jobs):
            pool.submit(os.getpid)  # starts a worker
    try:
        yield pool
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def lost_workers():
    """Turns a pool's error about a killed process, or a lost connection, into WorkersLost; cells return their own
    errors.
    """
    try:
        yield
    except Exception as error:
        raise WorkersLost(f"the worker was lost ({type(error).__name__}); run the command again to continue") from None


def begin_worker(parent):
    """In a new worker: leave signals, which reach the whole group of processes, to the parent, and end when the parent ends."""
    for number in stopping.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "getppid") and os.name != "nt":
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent):
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


def named_cell(cell, options, folder, threads):
    """(cell, result)."""
    return cell, run_cell(cell, options, folder, threads)


def connect(scheduler):
    """A client of the Dask scheduler at that address."""
    try:
        from distributed import Client
    except ImportError:
        raise UsageError('--scheduler needs the package "dask[distributed]"; install it: pip install "minisnn[dask]"') from None
    try:
        return Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--scheduler: no scheduler responds at {scheduler} ({reason}); start one: dask scheduler") from None


def claim(folder, options):
    """Begin an ablation in an empty folder, or check that the one in the folder has these options."""
    folder = new_folder(folder)
    path, text = folder / SHARED, json.dumps(options, indent=1, sort_keys=True)
    if path.exists():
        fix = "restore it, or give another --out"
        before = files.read_json(path, fix)
        if not isinstance(before, dict):
            raise UsageError(f"{path} is damaged (it holds no options); {fix}")
        before, now = of_the_grid(before), of_the_grid(json.loads(text))
        if added := [name for name in now if name not in before and name in OPTIONS]:  # an earlier version wrote it
            defaults = Options(dataset=now.get("dataset", "digits"))
            before |= {name: getattr(defaults, name) for name in added} | {
                name: EARLIER[name] for name in added if name in EARLIER
            }
        other = [name for name in sorted(before | now) if before.get(name) != now.get(name)]
        if other:
            name = other[0]
            raise UsageError(
                f"{folder} holds an ablation with {name} {before.get(name)}, not {now.get(name)}; give the same "
                "options to continue it, or another --out"
            )
        return
    if any(not files.PART.fullmatch(entry.name) and entry.name != locks.FILE for entry in folder.iterdir()):
        raise UsageError(f"{folder} already exists and is not an ablation; give another --out")
    files.write_text(path, text + "\n")


def of_the_grid(options):
    """Options without those that belong to the machine, which may change from one call to the next."""
    kept = {name: value for name, value in options.items() if name != "data_dir"}
    if isinstance(kept.get("data_options"), dict):
        kept["data_options"] = {name: value for name, value in kept["data_options"].items() if name not in CACHE_OPTIONS}
    return kept


# ---- tables ------------------------------------------------------------------------------------------------------------


def summarise(results: dict[Cell, dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation over the seeds.

    Args:
        results: {Cell: result}, as ``run`` returns them; cells with an error are omitted.

    Returns:
        [{"system", "model", "position", "without", "seeds", "silent": {shortcut: in how many seeds}, and for each of accuracy,
        last_accuracy, highest_accuracy, spikes, mac, ac, energy_mj, pruned_mj, spikes_per_neuron: its mean and, under
        "<name>_sd", its sample deviation (None for one seed)}], in the order of the cells. "pruned_mj" is the energy with
        the silent shortcuts pruned; "accuracy" that of the last epoch or, with a validation, of the one that it chose.
    """
    groups: dict[str, list[tuple[Cell, dict[str, Any]]]] = {}
    for cell, result in results.items():
        if "error" not in result:
            groups.setdefault(cell.system, []).append((cell, result))
    rows = []
    for system, members in groups.items():
        cell = members[0][0]
        row = {
            "system": system,
            "model": cell.model,
            "position": cell.position if has_position(cell.model) else "",
            "without": ",".join(map(str, cell.without)),
            "seeds": len(members),
        }
        for key in (
            "accuracy",
            "last_accuracy",
            "highest_accuracy",
            "spikes",
            "mac",
            "ac",
            "energy_mj",
            "pruned_mj",
            "spikes_per_neuron",
        ):
            values = [(r["pruned"] or r)["energy_mj"] if key == "pruned_mj" else r[key] for _, r in members]
            row[key], row[f"{key}_sd"] = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
        silent = [k for _, r in members for k in r["silent"]]
        rows.append(row | {"silent": {k: silent.count(k) for k in sorted(set(silent))}})
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown, like the paper's Tables III and IV: mean ± deviation over the seeds."""
    scale = 1e3 if rows and max(row["energy_mj"] for row in rows) < 0.1 else 1.0
    unit = "µJ" if scale == 1e3 else "mJ"
    head = [
        "model",
        "seeds",
        "accuracy (%)",
        "highest of any epoch (%)",
        "spikes (K)",
        "MAC (M)",
        "AC (M)",
        f"energy ({unit})",
        "silent shortcuts (in how many seeds)",
        f"pruned ({unit})",
    ]
    lines = [head, ["---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---", "---:"]]
    for row in rows:
        silent = ", ".join(f"{k} ({n})" for k, n in row["silent"].items())
        lines.append(
            [
                row["system"],
                str(row["seeds"]),
                spread(row, "accuracy", 100, 2),
                spread(row, "highest_accuracy", 100, 2),
                spread(row, "spikes", 1e-3, 2),
                spread(row, "mac", 1e-6, 3),
                spread(row, "ac", 1e-6, 3),
                spread(row, "energy_mj", scale, 2),
                silent or "-",
                spread(row, "pruned_mj", scale, 2) if silent else "-",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(row, key, scale, digits):
    """A mean with its deviation, as text."""
    text = f"{row[key] * scale:.{digits}f}"
    return text if row[f"{key}_sd"] is None else f"{text} ± {row[f'{key}_sd'] * scale:.{digits}f}"


def table_csv(rows: list[dict[str, Any]]) -> str:
    """Any list of flat dictionaries as CSV text; the first one's keys are the columns."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows([plain(row.get(key)) for key in rows[0]] for row in rows)
    return file.getvalue()


def plain(value):
    """A value as one cell of CSV."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{k}:{v}" for k, v in value.items())
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def epochs(cells, folder):
    """The epochs of all cells, as dictionaries with the same keys; a run that cannot be read any more is omitted."""
    rows: list[dict[str, Any]] = []
    columns: dict[str, None] = {}
    for cell in cells:
        with contextlib.suppress(UsageError):
            run = Run.open(Path(folder) / cell.name)
            metrics, modes = run.metrics(), {"": run.firing_rates()}
            with contextlib.suppress(UsageError):  # an earlier version did not count what fires in training
                modes[IN_TRAINING] = run.firing_rates(training=True)
            for k, metric in enumerate(metrics):
                row = {"cell": cell.name, "seed": cell.seed, **metric, "epoch": int(metric["epoch"])}
                for mode, (layers, rates) in modes.items():
                    if len(rates) == len(metrics):
                        row |= {f"{layer}{mode}": float(rate) for layer, rate in zip(layers, rates[k])}
                rows.append(row)
                columns |= dict.fromkeys(row)
    return [{name: row.get(name) for name in columns} for row in rows]


def write_tables(results, folder):
    """Write cells.csv, epochs.csv, table.csv, table.md and figure.png; returns the rows of ``summarise``."""
    from .figures import plots, style

    folder, rows = Path(folder), summarise(results)
    columns = (
        "accuracy",
        "last_accuracy",
        "highest_accuracy",
        "spikes",
        "mac",
        "ac",
        "energy_mj",
        "attention_mj",
        "spikes_per_neuron",
        "parameters",
        "silent",
        "training_seconds",
    )
    cells = []
    for cell, result in results.items():
        pruned = result.get("pruned") or {}
        row = {"cell": cell.name} | dataclasses.asdict(cell) | {key: result.get(key) for key in columns}
        row |= {f"pruned_{key}": pruned.get(key) for key in ("mac", "ac", "energy_mj", "parameters", "identical")}
        cells.append(row | {"error": result.get("error", "")})
    files.write_text(folder / "cells.csv", table_csv(cells))
    files.write_text(folder / "epochs.csv", table_csv(epochs([c for c, r in results.items() if "error" not in r], folder)))
    files.write_text(folder / "table.csv", table_csv(rows))
    files.write_text(folder / "table.md", markdown(rows))
    if rows:
        points = [
            (row["system"], row["accuracy"], row["accuracy_sd"] or 0.0, row["pruned_mj"], row["pruned_mj_sd"] or 0.0)
            for row in rows
        ]
        with files.replace(folder / "figure.png") as file:
            style.write_png(
                plots.accuracy_against_energy(points, "Mean and deviation over the seeds, silent shortcuts pruned"), file
            )
    return rows
