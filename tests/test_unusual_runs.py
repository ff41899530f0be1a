"""Every command on runs that nobody hopes for: neurons that never fire, one class, one sample, one epoch, one time step."""

import json

import numpy as np
import pytest
from small_runs import complaints, small_run
from test_data_images import idx

from minisnn import cli
from minisnn.runs import Run

TINY = ["--width", "8", "-T", "1", "--epochs", "1", "-b", "4"]
COMMANDS = [
    ["evaluate"],
    ["evaluate", "--shuffle-time", "--part", "train", "--limit", "4"],
    ["energy"],
    ["energy", "--accounting", "published", "--limit", "1"],
    ["energy", "--fold-norm", "--limit", "1"],
    ["prune", "--out", "pruned"],
    ["plot", "--limit", "2"],
    ["report", "--limit", "2"],
    ["train", "--resume"],
]


def idx_set(folder, train_labels, test_labels):
    """An MNIST of a few random images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, labels in (("train", train_labels), ("t10k", test_labels)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (len(labels), 28, 28), np.uint8)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array(labels, np.uint8)))


def dead(run):
    """Make every neuron of a run silent."""
    arrays, facts = run.load()
    for name, array in arrays.items():
        if name.endswith("norm.bias"):
            array[...] = -100
    run.save("last", arrays, facts)


UNUSUAL = {
    "one training sample": (["--limit", "1"], None, None),
    "one class": ([], [3] * 6, [3] * 4),
    "one test sample": (["--limit", "2"], [1, 2, 3], [5]),
    "a last batch of one": (["--limit", "5"], None, None),
    "classes without a sample": ([], [0, 9, 9, 0], [9, 0, 9]),
    "no neuron fires": (["--limit", "8"], None, None),
}


@pytest.mark.parametrize(
    "name, model",
    [
        *((name, "or") for name in UNUSUAL),
        *(
            pytest.param(name, model, marks=pytest.mark.slow)
            for name, model in (
                ("one training sample", "syna-t"),
                ("no neuron fires", "vanilla"),
                ("no neuron fires", "sew-and"),
            )
        ),
    ],
)
def test_every_command_on_an_unusual_run(name, model, tmp_path, monkeypatch, capsys):
    options, train_labels, test_labels = UNUSUAL[name]
    monkeypatch.chdir(tmp_path)
    data = []
    if train_labels is not None:
        idx_set(tmp_path / "data/MNIST/raw", train_labels, test_labels)
        data = ["--dataset", "mnist", "--data-dir", "data"]
    assert cli.main(["train", *TINY, *data, *options, "--model", model, "--out", "run", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= result["test_accuracy"] <= 1
    if name == "no neuron fires":
        dead(Run.open("run"))
    for command in COMMANDS:
        status = cli.main(
            [command[0], *command[1:], "run", "--json"] if "--resume" not in command else [*command, "run", "--json"]
        )
        said = capsys.readouterr()
        refused = (command[0] == "prune" and model in ("vanilla", "sew-and")) or ("published" in command and model == "vanilla")
        assert status == (2 if refused else 0), (command, said.err)
        lines = complaints(said.err)
        assert len(lines) == (1 if refused else 0), (command, lines)
        if not refused:
            found = json.loads(said.out.splitlines()[-1])
            assert "NaN" not in json.dumps({k: v for k, v in found.items() if k != "layers"}), (command, found)
            if name == "no neuron fires" and command[0] in ("evaluate", "energy"):
                assert found["spikes"] == 0


def test_every_command_on_a_network_whose_shortcuts_alone_are_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small_run(tmp_path / "run", silent=(1, 2, 3), epochs=1)
    for command in COMMANDS[:-1]:
        assert cli.main([command[0], *command[1:], "run"]) == 0, command
    assert "pruned" in capsys.readouterr().out
