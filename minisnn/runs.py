"""The folder of a run: what was asked for, what came of it, and the network.

    config.json         every option, the network, the data set's facts, the versions used
    metrics.csv         a row for each epoch
    firing_rates.csv    a row for each epoch, a column for each LIF layer
    last.npz, best.npz  parameters, buffers, optimiser, schedule and random state (see checkpoint.py)
    figures/            what `minisnn plot` draws
"""

import csv
import io
import json
import os
import pathlib
import platform

import numpy as np

from . import checkpoint, data, models
from .errors import UsageError

__all__ = ["Run", "versions", "WHICH"]

CONFIG, METRICS, RATES = "config.json", "metrics.csv", "firing_rates.csv"
WHICH = ("best", "last")
# What whoever opens a run relies on in config.json.
HOLDS = {("command",): str, ("parameters",): int, ("network",): dict, ("dataset",): dict, ("options",): dict,
         **{("options", name): str for name in ("dataset", "model")},
         **{("options", name): int for name in ("timesteps", "seed", "split_seed")},
         ("options", "data_dir"): (str, type(None)), ("options", "data_options"): dict}
NETWORK = "network/"  # in front of the names of parameters and buffers within a checkpoint


def versions():
    """The versions of everything that has a say in the numbers."""
    import importlib.metadata

    from . import __version__

    found = {"minisnn": __version__, "python": platform.python_version()}
    for package in ("numpy", "numba", "llvmlite", "tonic", "scikit-learn"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found | {"machine": platform.machine(), "system": platform.platform()}


class Run:
    """A run folder. ``Run.open`` takes one that is there, ``Run.create`` begins one.

    Attributes:
        path: pathlib.Path of the folder.
        config: what config.json holds, a dict: "options" of training, "network" (arguments of ``models.build``),
            "dataset" (the data set's facts), "versions".
    """

    def __init__(self, path, config):
        self.path, self.config = pathlib.Path(path), config

    @classmethod
    def open(cls, path):
        """The run in a folder.

        Raises:
            UsageError: there is no run, or its config.json is damaged.
        """
        path = pathlib.Path(path)
        try:
            config = json.loads((path / CONFIG).read_text())
        except FileNotFoundError:
            raise UsageError(f"{path} is not the folder of a run: it holds no {CONFIG}; "
                             f"`minisnn train --out {path}` makes one") from None
        except NotADirectoryError:
            raise UsageError(f"{path} is a file; give the folder of a run") from None
        except ValueError as error:  # also of bytes that are no text
            raise UsageError(f"{path / CONFIG} is damaged ({checkpoint.first_line(error)}); "
                             "restore it or train again") from None
        except OSError as error:
            raise UsageError(f"{path / CONFIG} cannot be read ({error.strerror}); check its permissions") from None
        for names, kinds in HOLDS.items():
            value = config
            for name in names:
                value = value.get(name) if isinstance(value, dict) else None
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UsageError(f"{path / CONFIG} does not describe a run: {' '.join(names)} is {str(value)[:40]!r}; "
                                 "restore it or train again")
        return cls(path, config)

    @classmethod
    def create(cls, path, config):
        """Begin a run in a folder, which is made where it does not exist, and write config.json.

        Raises:
            UsageError: the folder holds a run already, or can't be written.
        """
        path = pathlib.Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            taken = [name for name in (CONFIG, METRICS, RATES, "last.npz", "best.npz") if (path / name).exists()]
            if taken:
                raise UsageError(f"{path} already holds a run ({taken[0]}); give another --out, or go on with it by "
                                 f"`minisnn train --resume {path}`")
            checkpoint.write_text(path / CONFIG, json.dumps(config, indent=2) + "\n")
        except FileExistsError:
            raise UsageError(f"{path} is a file; give a folder as --out") from None
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror or error}); give another --out") from None
        return cls(path, config)

    def save(self, which, arrays, facts):
        """Write the checkpoint "last" or "best"."""
        checkpoint.save(self.path / f"{which}.npz", arrays, facts)

    def save_network(self, which, net, facts=None):
        """Write a checkpoint that holds a network alone; ``facts``: more to keep beside it, such as the epoch."""
        self.save(which, network_arrays(net), facts or {})

    def load(self, which="best"):
        """(arrays, facts) of a checkpoint; of the last one where there is no best one yet."""
        if which not in WHICH:
            raise UsageError(f"a run keeps the checkpoints {' and '.join(WHICH)}, not '{which}'")
        path = self.path / f"{which}.npz"
        if which == "best" and not path.exists():
            path = self.path / "last.npz"
        return checkpoint.load(path)

    def network(self, which="best"):
        """The trained network, in evaluation mode.

        Raises:
            UsageError: the checkpoint is missing, damaged, or of another network than config.json says.
        """
        arrays, facts = self.load(which)
        if facts.get("epoch") == 0:
            raise UsageError(f"{self.path} has no finished epoch yet; go on with it by `minisnn train --resume {self.path}`")
        net = self.new_network()
        self.fill(net, arrays, which)
        return net.eval()

    def new_network(self):
        """The network that config.json describes, with its initial weights."""
        try:
            return models.build(**self.config["network"])
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.path / CONFIG} describes no network ({checkpoint.first_line(error)}); restore it or "
                             "train again") from None

    def fill(self, net, arrays, which):
        """Take over a checkpoint's parameters and buffers."""
        try:
            net.load_state_dict({name.removeprefix(NETWORK): a for name, a in arrays.items() if name.startswith(NETWORK)})
        except ValueError as error:
            raise UsageError(f"{self.path / which}.npz does not belong to the network in {CONFIG}: "
                             f"{checkpoint.first_line(error)}; "
                             "restore the pair from one run") from None

    @property
    def held_out(self):
        """Names of the recordings kept for testing, or None: of a copy that has grown since, a new draw would test on what the
        run was trained on."""
        return self.config["dataset"].get("held_out") or None

    def dataset(self, **overrides):
        """The data set, loaded with the run's own options.

        Args:
            **overrides: arguments of ``data.load`` to set otherwise; None leaves the run's. Another ``name`` drops the
                options that belong to the run's data set.
        """
        options = self.config["options"]
        arguments = {"name": options["dataset"], "data_dir": options.get("data_dir"), "timesteps": options["timesteps"],
                     "seed": options["split_seed"]}
        overrides = {key: value for key, value in overrides.items() if value is not None}
        if overrides.get("name", arguments["name"]) == arguments["name"]:
            arguments |= {"keep_out": self.held_out} | options["data_options"]
        return data.load(**arguments | overrides)

    def metrics(self):
        """The rows of metrics.csv: a list of {column: float}, one for each epoch."""
        names, rows = self.read_table(METRICS)
        return [dict(zip(names, row)) for row in rows]

    def firing_rates(self):
        """(names of the LIF layers, [epochs, layers] spikes per neuron and step), from firing_rates.csv."""
        names, rows = self.read_table(RATES)
        return names[1:], np.array(rows)[:, 1:]

    def write_table(self, name, columns, rows):
        """Write a CSV file in one go."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        checkpoint.write_text(self.path / name, text.getvalue())

    def read_table(self, name):
        """(columns, rows of floats) of a CSV file."""
        path = self.path / name
        try:
            with open(path, newline="") as file:
                names, *rows = csv.reader(file)
            numbers = [[float(value) for value in row] for row in rows]
            if names[:1] != ["epoch"] or not numbers:
                raise ValueError("no epochs")
            if any(len(row) != len(names) for row in numbers):
                raise ValueError("rows of different length")
            return names, numbers
        except FileNotFoundError:
            raise UsageError(f"{path} does not exist: the run has no finished epoch yet; go on with it by "
                             f"`minisnn train --resume {self.path}`") from None
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{path} is damaged ({checkpoint.first_line(error)}); `minisnn train --resume {self.path}` "
                             "writes it anew") from None


def merit(test_accuracy, test_loss):
    """By what the best epoch is chosen: test accuracy; of equal ones the lower loss."""
    return test_accuracy, -test_loss


def network_arrays(net):
    """Parameters and buffers by the names that they have in a checkpoint."""
    return {NETWORK + name: array for name, array in net.state_dict().items()}


def next_folder(parent, stem):
    """The first of parent/stem-1, parent/stem-2, ... that does not exist; made, so that no other run takes it."""
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
        raise UsageError(f"{os.path.abspath(parent)} cannot be written ({error.strerror or error}); "
                         "give a folder with --out") from None
