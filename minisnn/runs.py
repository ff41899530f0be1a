"""The folder of a run: what was requested, what resulted, and the network.

config.json         every option, the network, the data set's facts, the versions used
metrics.csv         a row for each epoch
firing_rates.csv    a row for each epoch, a column for each LIF layer: its rate in evaluation mode, on the test samples;
                    then those of training mode, on every 16th training batch, as "LAYER in training"
last.npz            the last epoch: parameters, buffers, optimizer, schedule and random state (see checkpoint.py)
best.npz            likewise, the epoch that the validation chose; only with --validation
figures/            what `minisnn plot` draws

The test set chooses nothing. Earlier versions kept as best.npz the epoch of the highest test accuracy: a maximum over all
epochs, and no estimate of what the network does on other samples. Their folders still open; last.npz is then read, and
``Run.note`` says so.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pathlib
import platform
import secrets
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checkpoint, data, files, models, terminal
from .errors import UsageError
from .models import SHORTCUTS
from .types import Path

if TYPE_CHECKING:
    from .nn import Module

__all__ = ["Run", "versions", "WHICH", "COLUMNS", "VALIDATED"]

ZOO = "zoo:"  # begins the name of a run that comes with the package
CONFIG, METRICS, RATES = "config.json", "metrics.csv", "firing_rates.csv"
IN_TRAINING = " in training"  # end of a column's name
COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
    "samples_per_second",
    "firing_rate",
    "lr",
    "waiting",
)  # of metrics.csv
VALIDATED = ("validation_loss", "validation_accuracy")  # further columns, with --validation
WHICH = ("best", "last")
# What config.json must hold for a run to be opened.
HOLDS: dict[tuple[str, ...], Any] = {
    ("command",): str,
    ("parameters",): int,
    ("network",): dict,
    ("dataset",): dict,
    ("options",): dict,
    **{("options", name): str for name in ("dataset", "model")},
    **{("options", name): int for name in ("timesteps", "seed", "split_seed")},
    ("options", "data_dir"): (str, type(None)),
    ("options", "data_options"): dict,
}
UNTRAINED = {"pruned": "prune", "imported": "import"}  # entry of config.json: the command that writes runs with it
NETWORK = "network/"  # prefix of parameters and buffers within a checkpoint


def versions() -> dict[str, str]:
    """The versions of everything that affects the numbers, the machine, and what hands its threads their work."""
    import importlib.metadata

    from . import __version__, threads

    found = {"minisnn": __version__, "python": platform.python_version()}
    for package in ("numpy", "numba", "llvmlite", "tonic", "scikit-learn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    layer = threads.threading_layer()
    return found | {"machine": platform.machine(), "system": platform.platform(), "threading_layer": layer}


class Run:
    """A run folder. ``Run.open`` opens an existing one, ``Run.create`` begins one.

    Attributes:
        path: pathlib.Path of the folder.
        config: what config.json holds, a dict: "options" of training, "network" (arguments of ``models.from_config``),
            "dataset" (the data set's facts), "versions".
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = pathlib.Path(path), config

    @classmethod
    def open(cls, path: Path) -> Run:
        """The run in a folder, or one that comes with the package, by its name after "zoo:".

        Raises:
            UsageError: the folder holds no run, or its config.json is damaged.
        """
        if str(path).startswith(ZOO):
            from . import zoo

            path = zoo.unpacked(str(path).removeprefix(ZOO))
        path = pathlib.Path(path).expanduser()
        try:
            config = files.read_json(path / CONFIG, "restore it or train again")
        except FileNotFoundError:
            raise UsageError(
                f"{path} is not the folder of a run: it holds no {CONFIG}; "
                f"`{terminal.command('train', '--out', path)}` creates one"
            ) from None
        except NotADirectoryError:
            raise UsageError(f"{path} is a file; give the folder of a run") from None
        check_config(config, path / CONFIG)
        return cls(path, config)

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> Run:
        """Begin a run in a folder, which is created if it does not exist, and write config.json. The caller holds the folder
        (locks.holding), so that no other process begins a run there at the same time.

        Raises:
            UsageError: the folder already holds a run, or cannot be written.
        """
        folder = new_folder(path)
        try:
            taken = [name for name in (CONFIG, METRICS, RATES, "last.npz", "best.npz") if (folder / name).exists()]
            if taken:
                raise UsageError(
                    f"{folder} already holds a run ({taken[0]}); give another --out, or continue it with "
                    f"`{terminal.command('train', '--resume', folder)}`"
                )
            files.write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be written ({error.strerror or error}); {files.remedy(error)}, or give another --out"
            ) from None
        return cls(folder, config)

    @property
    def earlier(self) -> bool:
        """Whether an earlier version wrote the folder, whose best.npz the test set chose."""
        return "validation" not in self.config["options"]

    @property
    def untrained(self) -> str:
        """What wrote the folder, if it was not training: "minisnn prune" or "minisnn import"; else "". Such a run holds a
        network and a copy of what is known of its training, and cannot be trained further.
        """
        return next((f"minisnn {command}" for key, command in UNTRAINED.items() if self.config.get(key)), "")

    @property
    def chosen(self) -> str:
        """The checkpoint to read unless told otherwise: "best" if a validation chose it, or in a pruned run if it is the only
        one; else "last".
        """
        if self.untrained:
            return "last" if (self.path / "last.npz").exists() else "best"
        return "best" if self.config["options"].get("validation") else "last"

    @property
    def unrecorded(self) -> bool:
        """Whether the run was imported from a file that does not tell how it was trained."""
        return bool(self.config.get("imported")) and not (self.path / METRICS).exists()

    def note(self, which: str | None = None) -> str:
        """What a reader of ``which`` has to know about how it was chosen; "" if nothing."""
        if not self.earlier or not (self.path / "best.npz").exists():
            return ""
        said = "was written by an earlier version, whose best.npz is the epoch of the highest test accuracy"
        return f"{self.path} {said}" + ("" if (which or self.chosen) == "best" else "; the last epoch is read")

    @property
    def again(self) -> str:
        """The command that continues this run."""
        return terminal.command("train", "--resume", self.path)

    def save(self, which: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Write the checkpoint "last" or "best"."""
        checkpoint.save(self.path / f"{which}.npz", arrays, facts)

    def save_network(self, which: str, net: Module, facts: dict[str, Any] | None = None) -> None:
        """Write a checkpoint that holds a network alone; ``facts``: more to store with it, such as the epoch."""
        self.save(which, network_arrays(net), facts or {})

    def load(self, which: str | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, facts) of a checkpoint, by default of the ``chosen`` one. The last one is written first; if a run was
        interrupted before it had written the best one as well, and the last epoch was the best, the last one serves as both.
        """
        which = which or self.chosen
        if which not in WHICH:
            raise UsageError(f"a run keeps the checkpoints {' and '.join(WHICH)}, not '{which}'")
        last, best = self.path / "last.npz", self.path / "best.npz"
        if which == "best" and last.exists():
            facts = checkpoint.load_facts(last)
            named = facts["best"].get("epoch") if isinstance(facts.get("best"), dict) else None
            there = best.exists()
            if facts.get("epoch") == named != (checkpoint.load_facts(best).get("epoch") if there else None):
                which = "last"
            elif not there and not self.config["options"].get("validation"):
                raise UsageError(
                    f"{self.path} has no best.npz, since nothing chose an epoch; omit --checkpoint, or train with --validation"
                )
        arrays, facts = checkpoint.load(last if which == "last" or not (best.exists() or last.exists()) else best)
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
                raise UsageError(
                    f"{self.path / which}.npz is damaged: {name} holds {what_is_wrong(array)}; restore it or train again"
                )
        return arrays, facts

    def load_facts(self, which: str) -> dict[str, Any]:
        """The facts of a checkpoint, without its arrays."""
        return checkpoint.load_facts(self.path / f"{which}.npz")

    def network(self, which: str | None = None) -> Module:
        """The trained network, in evaluation mode; ``which``: "best" or "last", by default the ``chosen`` one.

        Raises:
            UsageError: the checkpoint is missing, damaged, or of a network other than the one in config.json.
        """
        arrays, facts = self.load(which)
        if facts.get("epoch") == 0:
            raise UsageError(f"{self.path} has no finished epoch yet; continue it with `{self.again}`")
        net = self.new_network()
        self.fill(net, arrays, which or self.chosen)
        return net.eval()

    def new_network(self) -> Module:
        """The network that config.json describes, with its initial weights."""
        try:
            return models.from_config(self.config["network"])
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, MemoryError) as error:
            raise UsageError(
                f"{self.path / CONFIG} describes no network ({files.first_line(error)}); restore it or train again"
            ) from None

    def fill(self, net: Module, arrays: dict[str, np.ndarray], which: str) -> None:
        """Load a checkpoint's parameters and buffers into a network."""
        try:
            net.load_state_dict({name.removeprefix(NETWORK): a for name, a in arrays.items() if name.startswith(NETWORK)})
        except ValueError as error:
            raise UsageError(
                f"{self.path / which}.npz does not belong to the network in {CONFIG}: "
                f"{files.first_line(error)}; "
                "restore the pair from one run"
            ) from None

    @property
    def held_out(self) -> list[str] | None:
        """Names of the recordings kept for testing, or None: if the copy has grown since, a new draw would test on what the
        run was trained on.
        """
        return self.config["dataset"].get("held_out") or None

    def dataset(self, **overrides: Any) -> data.Dataset:
        """The data set, loaded with the run's own options.

        Args:
            **overrides: arguments of ``data.load`` to override; None keeps the run's. Another ``name`` drops the
                options that belong to the run's data set.
        """
        options = self.config["options"]
        arguments = {
            "name": options["dataset"],
            "data_dir": options.get("data_dir"),
            "timesteps": options["timesteps"],
            "seed": options["split_seed"],
        }
        overrides = {key: value for key, value in overrides.items() if value is not None}
        if overrides.get("name", arguments["name"]) == arguments["name"]:
            own = {"keep_out": self.held_out, "normalize": options.get("normalize") or None, "folds": options.get("folds")}
            arguments |= own | options["data_options"]
        return data.load(**arguments | overrides)

    def metrics(self) -> list[dict[str, float]]:
        """[{column: float}], one for each finished epoch, from the last checkpoint, of which metrics.csv is a copy. Empty if
        the run was imported from a file that does not tell how it was trained.
        """
        facts = self.facts()
        if facts is not None:
            return [dict(zip(columns_of(row), row)) for row in facts["metrics"]]
        if self.unrecorded:
            return []
        names, rows = self.read_table(METRICS, COLUMNS)
        return [dict(zip(names, row)) for row in rows]

    def firing_rates(self, training: bool = False) -> tuple[list[str], np.ndarray]:
        """(names of the LIF layers, [epochs, layers] spikes per neuron and step), likewise; in evaluation mode, on the test
        samples, or in training mode. The two differ where the running statistics of batch norm lag behind the weights.

        Raises:
            UsageError: the run is of an earlier version, which did not count what fires in training.
        """
        facts = self.facts()
        if facts is not None:
            names, rows = ["epoch", *facts["layers"]], facts.get("training_rates", []) if training else facts["firing_rates"]
        elif self.unrecorded:
            names, rows = ["epoch"], []
        else:
            names, rows = self.read_table(RATES)
            kept = [k for k, name in enumerate(names) if k == 0 or name.endswith(IN_TRAINING) == training]
            names, rows = [names[k].removesuffix(IN_TRAINING) for k in kept], [[row[k] for k in kept] for row in rows]
        if training and (not rows or len(names) == 1):
            reason = "it was imported" if self.unrecorded else "an earlier version wrote it"
            raise UsageError(f"{self.path} does not say what fired in training: {reason}")
        return names[1:], np.array(rows, float).reshape(len(rows), len(names))[:, 1:]

    def accuracies(self, which: str | None = None) -> dict[str, Any]:
        """How a checkpoint was chosen, in numbers: its name and epoch, ``validation_accuracy`` at that epoch (None without a
        validation), and the ``highest_test_accuracy`` of any epoch, as papers report it. None where no record of the training
        can be read.
        """
        which = which or self.chosen
        epoch, rows = self.load_facts(which).get("epoch"), []
        with contextlib.suppress(UsageError):
            rows = self.metrics()
        row = next((row for row in rows if row["epoch"] == epoch), {})
        return {
            "checkpoint": which,
            "epoch": epoch,
            "validation_accuracy": row.get("validation_accuracy"),
            "highest_test_accuracy": max((row["test_accuracy"] for row in rows), default=None),
        }

    def trained_on(self, dataset: data.Dataset) -> data.Samples:
        """The training samples that the run really learned from: without those beyond --limit and those held out."""
        return data.training_parts(dataset.train, self.config["options"])[0]

    def facts(self) -> dict[str, Any] | None:
        """The facts of the last checkpoint, checked; None if there is none, as in a pruned or imported run.

        Raises:
            UsageError: the checkpoint is damaged, or no epoch is finished.
        """
        path = self.path / "last.npz"
        if self.untrained or not path.exists():
            return None
        facts = checkpoint.load_facts(path)
        try:
            check_facts(facts)
        except ValueError as error:
            raise UsageError(f"{path} is damaged ({error}); restore it or train again") from None
        if not facts["metrics"]:
            raise UsageError(f"{self.path} has no finished epoch yet; continue it with `{self.again}`")
        return facts

    def write_table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a CSV file in one go."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        files.write_text(self.path / name, text.getvalue())

    def write_tables(self, facts: dict[str, Any]) -> None:
        """Write metrics.csv and firing_rates.csv from what a checkpoint holds, so that they always agree with it."""
        if facts["metrics"]:
            self.write_table(METRICS, columns_of(facts["metrics"][0]), facts["metrics"])
            columns, rows = ["epoch", *facts["layers"]], facts["firing_rates"]
            training = facts.get("training_rates", [])
            if len(training) == len(rows):  # an earlier version did not count them
                columns += [f"{layer}{IN_TRAINING}" for layer in facts["layers"]]
                rows = [row + more[1:] for row, more in zip(rows, training)]
            self.write_table(RATES, columns, rows)

    def read_table(self, name: str, columns: Sequence[str] = ("epoch",)) -> tuple[list[str], list[list[float]]]:
        """(columns, rows of floats) of a CSV file that has at least ``columns``."""
        path = self.path / name
        try:
            with open(path, newline="", encoding="utf-8") as file:
                names, *rows = csv.reader(file)
            numbers = [[float(value) for value in row] for row in rows]
            if names[:1] != ["epoch"] or not numbers:
                raise ValueError("no epochs")
            if missing := set(columns) - set(names):
                raise ValueError(f"no column {min(missing)}")
            if any(len(row) != len(names) for row in numbers):
                raise ValueError("rows of different length")
            return names, numbers
        except FileNotFoundError:
            raise UsageError(
                f"{path} does not exist: the run has no finished epoch yet; continue it with `{self.again}`"
            ) from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from None
        except (ValueError, csv.Error, IndexError) as error:
            raise UsageError(f"{path} is damaged ({files.first_line(error)}); restore it or train again") from None


def check_config(config, where):
    """Raise UsageError, which names the file ``where``, if something is not a run's configuration; drop from it what belongs to
    another machine.
    """
    for names, kinds in HOLDS.items():
        value = config
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UsageError(
                f"{where} does not describe a run: {' '.join(names)} is {str(value)[:40]!r}; restore it or train again"
            )
    for name in data.CACHE_OPTIONS:  # they belong to the machine that wrote them, or may be meant to do harm
        config["options"]["data_options"].pop(name, None)


def what_is_wrong(array):
    return "NaN or infinity" if array.dtype.kind == "f" else str(array.dtype)


def numbers(row, count):
    """Whether a row of a table is ``count`` numbers."""
    return (
        isinstance(row, list)
        and len(row) == count
        and all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e300 for n in row)
    )  # and so no NaN


def check_tables(facts, epochs):
    """Raises ValueError, with the reason, if the tables of a training are not those of so many epochs."""
    rows, layers, rates = (facts.get(k) for k in ("metrics", "layers", "firing_rates"))
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise ValueError("layers holds no names")
    columns = columns_of(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], list) else COLUMNS
    for name, table, width in (("metrics", rows, len(columns)), ("firing_rates", rates, len(layers) + 1)):
        if not isinstance(table, list) or len(table) != epochs or not all(numbers(row, width) for row in table):
            raise ValueError(f"{name} does not hold {epochs} rows of {width} numbers")
    training = facts.get("training_rates", [])  # none in an earlier version, and too few where a run of one was resumed
    if not isinstance(training, list) or len(training) > epochs or not all(numbers(row, len(layers) + 1) for row in training):
        raise ValueError(f"training_rates does not hold rows of {len(layers) + 1} numbers")


def check_facts(facts):
    """Raises ValueError, with the reason, if the facts of a checkpoint are not those of a run."""
    epoch = facts.get("epoch")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise ValueError(f"epoch is {str(epoch)[:40]!r}")
    check_tables(facts, epoch)
    columns = columns_of(facts["metrics"][0]) if facts["metrics"] else COLUMNS
    if (facts.get("best") is not None) != (epoch > 0 and (len(columns) > len(COLUMNS) or "last" not in facts)):
        raise ValueError("the best epoch is missing, or there is one although nothing chose it")
    if (facts.get("last") is not None) != (epoch > 0 and "last" in facts):
        raise ValueError("the last epoch is missing")
    for which in WHICH:
        found = facts.get(which)
        if found is not None and not (
            isinstance(found, dict)
            and numbers([found.get(name) for name in MEASURED], len(MEASURED))
            and isinstance(found.get("silent_shortcuts"), list)
            and set(found["silent_shortcuts"]) <= set(SHORTCUTS)
            and isinstance(found["epoch"], int)
            and 1 <= found["epoch"] <= epoch
        ):
            raise ValueError(f"the {which} epoch is described by something other than numbers")


MEASURED = ("epoch", "test_accuracy", "test_loss", "spikes", "ac", "mac", "energy_mj", "firing_rate")


def columns_of(row):
    """The columns of metrics.csv, by the width of one of its rows."""
    return COLUMNS + VALIDATED if len(row) > len(COLUMNS) else COLUMNS


def merit(accuracy, loss):
    """Sort key of the best epoch: accuracy on the validation samples, then the lower loss on them."""
    return accuracy, -loss


def network_arrays(net):
    """Parameters and buffers by the names that they have in a checkpoint."""
    return {NETWORK + name: array for name, array in net.state_dict().items()}


def check_new(path):
    """Raises UsageError if something of that name exists."""
    if pathlib.Path(path).exists():
        raise UsageError(f"--out: {path} already exists; give the name of a folder that does not")


def write_run(run, net, path, which, summary):
    """Write a pruned network as a run folder of its own: in full or not at all.

    Args:
        run: the run that the network came from; its record of training is copied too.
        net: the network without some shortcuts.
        path: of the new folder, which must not exist.
        which: checkpoint that was pruned, "best" or "last".
        summary: for config.json, in addition to the numbers of the shortcuts.
    """
    before = run.config.get("pruned")
    config = run.config | {
        "network": run.config["network"] | {"removed": list(net.config.removed)},
        "pruned": {"from": str(run.path), "checkpoint": which, **summary} | ({"before": before} if before else {}),
    }
    _, facts = run.load(which)

    def fill(new):
        for name in (METRICS, RATES):
            if (run.path / name).exists():
                shutil.copyfile(run.path / name, new.path / name)
        new.save_network(which, net, {key: facts[key] for key in ("epoch",) if key in facts})

    write_folder(path, config, fill)


def write_folder(path, config, fill):
    """Write a new run folder in full or not at all.

    Args:
        path: of the folder, which must not exist.
        config: for config.json.
        fill: function of the new Run, which writes the rest while the folder still has another name.
    """
    path = pathlib.Path(path).expanduser().absolute()
    draft = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        fill(Run.create(draft, config))
        check_new(path)
        files.rename(draft, path)
    except OSError as error:
        raise UsageError(
            f"--out: {path} cannot be written ({error.strerror or error}); {files.remedy(error)}, or give another folder"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # renamed by now, unless something failed


def new_folder(path):
    """``path`` as an existing folder, created if necessary. Raises UsageError if it cannot be created."""
    path = pathlib.Path(path).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{path} is a file; give a folder as --out") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}); give another --out") from None
    return path


def next_folder(parent, stem):
    """The first of parent/stem-1, parent/stem-2, ... that does not exist; created, so that no other run takes it."""
    parent = pathlib.Path(parent)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        n = 1
        while True:
            try:
                (parent / f"{stem}-{n}").mkdir()
                return parent / f"{stem}-{n}"
            except FileExistsError:
                n += 1
    except OSError as error:
        raise UsageError(
            f"{os.path.abspath(parent)} cannot be written ({error.strerror or error}); give a folder with --out"
        ) from None
