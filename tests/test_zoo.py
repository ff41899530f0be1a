"""The runs that come with the package: whole, small, and what their rows say."""

import json
import os
import pathlib
import shutil

import pytest
from small_runs import complaints

from minisnn import cli, zoo
from minisnn.runs import Run


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, into whose cache the runs are unpacked."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


REAL = os.path.join(os.environ.get("MINISNN_DATA", "nowhere"), "NMNIST")
DATA = {name: name.partition("-")[0] for name in zoo.ZOO}
needs_recordings = pytest.mark.skipif(not os.path.isdir(REAL), reason="the variable MINISNN_DATA names no folder with NMNIST")
MARKS = {"digits": (), "gestures": pytest.mark.slow, "nmnist": (pytest.mark.slow, needs_recordings)}
every_run = pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS[data]) for name, data in DATA.items()])


def call(capsys, *words):
    status = cli.main([*words, "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return json.loads(said.out.splitlines()[-1])


def test_every_run_is_small_and_has_its_row():
    files = {path.stem: path.stat().st_size for path in zoo.FOLDER.glob("*.safetensors")}
    assert files.keys() == zoo.ZOO.keys() and max(files.values()) < 2e6


@every_run
def test_a_run_does_what_its_row_says(name, home, capsys):
    found, row = call(capsys, "evaluate", f"zoo:{name}"), zoo.ZOO[name]
    assert found["test_accuracy"] == pytest.approx(row.accuracy, abs=1.01 / found["samples"])  # CPUs round differently
    assert found["spikes"] == pytest.approx(row.spikes, rel=0.01)
    assert found["energy_mj"] == pytest.approx(row.energy_mj, rel=0.01)
    assert pathlib.Path(found["run"]).parent == home / ".cache" / "minisnn" / "zoo"
    run = Run.open(f"zoo:{name}")
    assert len(run.metrics()) == run.config["options"]["epochs"] and run.config["options"]["data_dir"] is None
    assert run.config["options"]["dataset"] == DATA[name] and "found in" not in run.config["dataset"]["note"]


@every_run
def test_every_command_reads_it(name, capsys):
    name = f"zoo:{name}"
    assert call(capsys, "energy", name, "--limit", "4")["measured_on"] == 4
    assert call(capsys, "prune", name, "--out", "pruned")["identical"]
    assert call(capsys, "report", name, "--limit", "4")
    assert pathlib.Path(Run.open(name).path, "report.html").stat().st_size > 1e5
    assert call(capsys, "plot", name, "--only", "training_curves", "--out", "figures")["figures"]
    assert cli.main(["train", "--resume", name]) == 2
    (line,) = complaints(capsys.readouterr().err)
    assert "not trained further" in line


def test_a_wrong_name_and_a_damaged_file_are_one_line(tmp_path, monkeypatch, capsys):
    shutil.copytree(zoo.FOLDER, tmp_path / "zoo")
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    path = tmp_path / "zoo" / "digits-or.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (tmp_path / "zoo" / "digits-syna-t.safetensors").unlink()
    for name, said in (("x", "give one of zoo:"), ("digits-or", "checksum"), ("digits-syna-t", "cannot be read")):
        assert cli.main(["evaluate", f"zoo:{name}"]) == 2
        (line,) = complaints(capsys.readouterr().err)
        assert said in line


def test_without_a_cache_it_is_unpacked_elsewhere(tmp_path, monkeypatch, capsys):
    (tmp_path / "home").write_text("a file where the home would be", encoding="utf-8")
    assert Run.open("zoo:digits-or").network().config.residual == "or"
