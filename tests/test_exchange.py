"""`minisnn export` and `minisnn import`: the same network and record come back, and whatever does not fit is one line."""

import json
import pathlib

import numpy as np
import pytest
from small_runs import complaints, small_run

from minisnn import cli, interop, train
from minisnn.data import images
from minisnn.runs import Run

safetensors = pytest.importorskip("safetensors.numpy")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small run of SynA-T without training, whose second shortcut is silent; to be read, not written."""
    before, images.TEST_SHARE = images.TEST_SHARE, 0.02
    path = tmp_path_factory.mktemp("exchange") / "run"
    small_run(path, "syna-t", silent=(2,))
    images.TEST_SHARE = before
    return path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TEST_SHARE", 0.02)
    monkeypatch.chdir(tmp_path)


def call(capsys, *words):
    """(status, the object of --json or None, lines on standard error) of a command line."""
    status = cli.main([*map(str, words), "--json"])
    said = capsys.readouterr()
    found = json.loads(said.out.splitlines()[-1]) if status == 0 else None
    return status, found, complaints(said.err)


def evaluated(capsys, run):
    status, found, lines = call(capsys, "evaluate", run)
    assert status == 0, lines
    return {name: value for name, value in found.items() if name != "run"}


def test_a_run_comes_back_with_its_record(source, capsys):
    status, found, _ = call(capsys, "export", source, "--to", "safetensors", "--out", "net.safetensors")
    assert status == 0 and found["checkpoint"] == "last" and found["to"] == "safetensors"
    status, found, _ = call(capsys, "import", "net.safetensors", "--out", "copy")
    assert status == 0 and found["model"] == "syna-t" and found["width"] == 8 and found["epoch"] == 3
    assert evaluated(capsys, "copy") == evaluated(capsys, source)
    first, second = Run.open(source), Run.open("copy")
    assert second.metrics() == first.metrics()
    assert second.firing_rates()[0] == first.firing_rates()[0]
    np.testing.assert_allclose(second.firing_rates()[1], first.firing_rates()[1])
    assert second.config["options"]["limit"] == 64  # so that pruning counts on what it was trained on


@pytest.mark.parametrize(
    "words", [["energy"], ["prune", "--out", "pruned"], ["plot", "--only", "training_curves", "thermogram"]]
)
def test_the_imported_run_works_with_every_command(words, source, capsys):
    call(capsys, "export", source, "--to", "safetensors", "--out", "net.safetensors")
    call(capsys, "import", "net.safetensors", "--out", "copy")
    status, found, lines = call(capsys, words[0], "copy", *words[1:])
    assert status == 0, lines
    if words[0] == "prune":
        assert found["pruned"] == [2] and found["identical"]
        call(capsys, "export", "pruned", "--to", "safetensors", "--out", "pruned.safetensors")
        status, found, _ = call(capsys, "import", "pruned.safetensors", "--out", "again")
        assert status == 0 and Run.open("again").network().config.removed == (2,)
    status, _, (line,) = call(capsys, "train", "--resume", "copy")
    assert status == 2 and "written by `minisnn import`" in line


def foreign(run, **changes):
    """The arrays of a run under names in the style of torch.nn.Sequential, with their order in the metadata."""
    net = Run.open(run).network()
    state, renamed = net.state_dict(), {}
    for k, name in enumerate(interop.arrays.in_order(net)):
        last = name.rpartition(".")[2]
        renamed[f"{k:03d}.{last if last.startswith('running') else 'weight'}"] = state[name]
    return renamed | changes


def test_arrays_of_another_program_become_a_run(source, capsys):
    arrays = foreign(source)
    safetensors.save_file(arrays, "net.safetensors", {"order": "\n".join(arrays)})
    words = ["--dataset", "digits", "--model", "syna-t", "-T", 2, "--out", "copy"]
    status, found, lines = call(capsys, "import", "net.safetensors", *words)
    assert status == 0 and found["width"] == 8 and found["epoch"] is None, lines
    ours, theirs = evaluated(capsys, source), evaluated(capsys, "copy")
    assert theirs["confusion"] == ours["confusion"] and theirs["spikes"] == ours["spikes"]
    assert theirs["highest_test_accuracy"] is None
    assert Run.open("copy").metrics() == [] and not len(Run.open("copy").firing_rates()[1])
    assert call(capsys, "report", "copy", "--limit", 4)[0] == 0
    assert "minisnn import net.safetensors" in pathlib.Path("copy/report.html").read_text(encoding="utf-8")


def test_a_network_saved_from_python_says_what_it_is(source, capsys):
    net = Run.open(source).network()
    interop.save_safetensors(net, "net.safetensors")
    status, found, lines = call(capsys, "import", "net.safetensors", "--out", "copy")
    assert status == 0 and (found["dataset"], found["model"], found["timesteps"]) == ("digits", "syna-t", 2), lines
    status, found, _ = call(capsys, "import", "net.safetensors", "--dataset", "mnist", "--out", "other")
    assert status == 0 and found["dataset"] == "mnist"


def test_what_does_not_fit_is_one_line_and_writes_nothing(source, capsys, tmp_path):
    arrays = foreign(source)
    order = {"order": "\n".join(arrays)}
    short = {name: array for name, array in arrays.items() if name != max(arrays)}
    safetensors.save_file(arrays, "net.safetensors", order)
    safetensors.save_file(short, "short.safetensors", {"order": "\n".join(short)})
    call(capsys, "export", source, "--to", "safetensors", "--out", "ours.safetensors")
    content, metadata = safetensors.load_file("ours.safetensors"), interop.arrays.read_safetensors("ours.safetensors")[1]
    config = json.loads(metadata["config"])
    for name, change in {
        "bad-json": {"config": "{"},
        "a-list": {"config": "[1]"},
        "no-run": {"config": '{"command": "x"}'},
        "odd-record": {"record": '{"metrics": [[1, "x"]], "layers": [], "firing_rates": []}'},
        "deep": {"record": "[" * 100_000},
        "odd-option": {"config": json.dumps(config | {"options": config["options"] | {"lr": "fast"}})},
        "no-position": {"config": json.dumps(config | {"options": config["options"] | {"position": None}})},
        "too-wide": {"config": json.dumps(config | {"options": config["options"] | {"width": 10**30}})},
        "odd-removed": {"config": json.dumps(config | {"network": config["network"] | {"removed": 7}})},
    }.items():
        safetensors.save_file(content, f"{name}.safetensors", metadata | change)
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "net.safetensors").read_bytes()[:-4])
    (tmp_path / "net.pt").write_bytes(b"PK\3\4")
    of = ["--dataset", "digits", "--model", "syna-t", "-T", "2"]
    before = sorted(tmp_path.iterdir())
    for file, words, said in (
        ("net.safetensors", of[2:], "give --dataset"),
        ("net.safetensors", of[:2], "give --model"),
        ("net.safetensors", [*of[:2], "--model", "or"], "these arrays are of another model"),
        ("net.safetensors", [*of, "-T", "16"], "these arrays are of another model"),
        ("net.safetensors", [*of, "--width", "16"], "these arrays are of another model"),
        ("short.safetensors", of, "has none"),
        ("damaged.safetensors", of, "is damaged"),
        ("net.pt", of, "convert it with: python -c"),
        ("none.safetensors", of, "cannot be read"),
        ("bad-json.safetensors", [], "damaged metadata"),
        ("a-list.safetensors", [], "damaged metadata"),
        ("no-run.safetensors", [], "does not describe a run"),
        ("odd-record.safetensors", [], "damaged metadata"),
        ("deep.safetensors", [], "damaged metadata"),
        ("odd-option.safetensors", [], "--lr: 'fast' is out of range"),
        ("odd-removed.safetensors", [], "damaged metadata"),
        ("no-position.safetensors", [], "describes no network that can be built (position is None"),
        ("too-wide.safetensors", [], "describes no network that can be built"),
        ("ours.safetensors", ["--model", "plain"], "these parameters are of another model"),
    ):
        status, _, lines = call(capsys, "import", file, *words, "--out", "copy")
        assert status == 2 and len(lines) == 1 and said in lines[0] and file.partition(".")[0] in lines[0] + "odd-option", lines
        assert sorted(tmp_path.iterdir()) == before, file
    status, _, (line,) = call(capsys, "import", "net.safetensors", *of, "--out", ".")
    assert status == 2 and "already exists" in line
    status, _, (line,) = call(capsys, "export", source, "--to", "safetensors", "--out", "no/such/folder.safetensors")
    assert status == 2 and "folder.safetensors" in line
    status, _, (line,) = call(capsys, "export", "none", "--to", "safetensors", "--out", "x")
    assert status == 2 and "is not the folder of a run" in line


def test_a_folder_that_cannot_be_completed_is_not_left_behind(source, capsys, monkeypatch, tmp_path):
    call(capsys, "export", source, "--to", "safetensors", "--out", "net.safetensors")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train.Run, "save_network", full)
    status, _, (line,) = call(capsys, "import", "net.safetensors", "--out", "copy")
    assert status == 2 and "free some space" in line
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
