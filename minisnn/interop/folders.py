"""A run in one safetensors file: the network's arrays, and in the metadata the configuration and the record of training.

``network``: the arguments of ``models.from_config``, as JSON; ``config``: what config.json holds, without the folder of the
data;
``record``: the epoch of the checkpoint, and what metrics.csv and firing_rates.csv hold. A file of another program has none of
these, but perhaps ``order`` (arrays.py).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import files, models, runs
from ..catalogue import NAMES
from ..errors import UsageError
from ..nn import Module
from ..options import EARLIER, Options
from ..runs import Run
from ..types import Path
from .arrays import fill

__all__ = ["Known", "described", "known", "write"]


@dataclasses.dataclass
class Known:
    """What a file tells about its network, as far as it does."""

    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of Options
    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the run that was exported; {} if there is none
    record: dict[str, Any] = dataclasses.field(default_factory=dict)  # of its training


def described(run: Run, which: str) -> dict[str, str]:
    """The metadata for a file of a run's checkpoint ``which``."""
    options = run.config["options"] | {"data_dir": None}
    config = {name: value for name, value in run.config.items() if name not in runs.UNTRAINED}
    metrics, record = run.metrics(), {}
    if metrics:
        layers, rates = run.firing_rates()
        record = {
            "metrics": [list(row.values()) for row in metrics],
            "layers": layers,
            "firing_rates": [[row["epoch"], *map(float, each)] for row, each in zip(metrics, rates)],
        }
    epoch = run.load_facts(which).get("epoch")
    return {"config": json.dumps(config | {"options": options}), "record": json.dumps({"epoch": epoch, **record})}


def known(metadata: Mapping[str, str], path: Path) -> Known:
    """What the metadata of a file tells.

    Raises:
        UsageError: it is damaged.
    """
    try:
        config, record, network = (json.loads(metadata.get(name, "{}")) for name in ("config", "record", "network"))
        if not all(isinstance(value, dict) for value in (config, record, network)):
            raise ValueError("not an object")
        if record.get("metrics"):
            runs.check_tables(record, len(record["metrics"]))
        if config:
            runs.check_config(config, path)
            names = {field.name for field in dataclasses.fields(Options)}
            stored = {name: value for name, value in (EARLIER | config["options"]).items() if name in names}
            return Known({**stored, "removed": tuple(config["network"].get("removed", ())), "threads": None}, config, record)
        return Known(of_network(network), {}, record)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UsageError(f"{path} has damaged metadata ({str(error)[:100]}); write it again") from None


def of_network(network):
    """The options that the arguments of ``models.from_config`` tell."""
    if "sizes" in network:
        sizes, more = network["sizes"], {name: network[name] for name in ("neuron", "timesteps") if network.get(name)}
        for name, layers in models.LAYERED.items():
            if layers == models.Layers(len(sizes) - 2, network.get("recurrent")):
                more["model"] = name
        return {"width": sizes[1], **more}
    found = {name: network[name] for name in ("position", "neuron", "width", "timesteps") if name in network}
    found["removed"] = tuple(network.get("removed", ()))
    if network.get("preset") in NAMES:
        found["dataset"] = network["preset"]
    default = {"attention": None, "ma": True, "ia": True}
    for name, system in models.SYSTEMS.items():
        row = default | system
        if network.get("attention") is None:
            row |= {"ma": network.get("ma"), "ia": network.get("ia")}  # they mean nothing then
        if network and all(network.get(key) == value for key, value in row.items()):
            found["model"] = name
    return found if network else {}


def write(
    path: Path,
    options: Options,
    found: Known,
    file: Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    line: str,
) -> Module:
    """Make the folder of a run from a file's arrays: in full or not at all.

    Args:
        path: of the new folder.
        options: of the network and its data.
        found: what the file tells.
        file, arrays, metadata: the file, and what ``read_safetensors`` returned.
        line: the command line, for config.json.

    Returns:
        The network.

    Raises:
        UsageError: the arrays are of another network, or the folder cannot be written.
    """
    network = {"preset": options.dataset, **options.network()}
    try:
        net = models.from_config(network)
    except ValueError as error:  # of options that metadata may hold, and no command line
        raise UsageError(f"{file} describes no network that can be built ({files.first_line(error)}); write it again") from None
    fill(net, file, arrays, metadata)
    same = found.config.get("dataset") if found.config and found.config["options"]["dataset"] == options.dataset else None
    config = {
        "command": found.config.get("command", line),
        "options": options.of_the_run(),
        "network": network,
        "dataset": same or {"name": options.dataset},
        "parameters": sum(p.size for p in net.parameters()),
        "versions": runs.versions(),
        "imported": {"from": str(file), "command": line},
    }

    def complete(run):
        epoch = found.record.get("epoch")
        run.save_network("last", net, {} if epoch is None else {"epoch": epoch})
        run.write_tables({"metrics": [], **found.record})

    runs.write_folder(path, config, complete)
    return net
