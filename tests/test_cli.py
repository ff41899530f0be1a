"""The command line: exit statuses, one line for an error, JSON last, and nothing overwritten."""

import json
import os
import shutil

import numpy as np
import pytest
from small_runs import complaints, other_files

from minisnn import cli, train
from minisnn.data import images

TINY = ["--width", "8", "-T", "2", "--epochs", "1", "-b", "16", "--limit", "16", "--threads", "1"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TEST_SHARE", 0.02)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINISNN_DATA", str(tmp_path / "data"))
    for name in ("mnist", "fashion-mnist"):  # no test reaches for the network
        other_files(monkeypatch, name, url="http://127.0.0.1:9/", installed=())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small finished run; to be read, not written."""
    before, images.TEST_SHARE = images.TEST_SHARE, 0.02
    path = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main(["train", *TINY, "--out", str(path)]) == 0
    images.TEST_SHARE = before
    return path


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def errors(capsys):
    return complaints(capsys.readouterr().err)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- what works --------------------------------------------------------------------------------------------------------


def test_train_prints_json_last(tmp_path, capsys):
    assert cli.main(["train", *TINY, "--json", "--model", "or"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"test_accuracy", "spikes", "energy_mj", "silent_shortcuts", "run"} <= set(found) and found["model"] == "or"
    assert os.path.isfile(os.path.join(found["run"], "last.npz")) and found["run"] == "runs/digits-or-1".replace("/", os.sep)


def test_evaluate(trained, capsys):
    assert cli.main(["evaluate", str(trained), "--json"]) == 0
    *text, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert {"test_accuracy", "spikes", "energy_mj", "confusion", "class_accuracy"} <= set(found)
    confusion = np.array(found["confusion"])
    assert confusion.shape == (10, 10) and np.trace(confusion) / confusion.sum() == found["test_accuracy"]
    assert any("confusion matrix" in line for line in text) and any("energy" in line for line in text)


def test_resume_of_a_finished_run(copy, capsys):
    assert cli.main(["train", "--resume", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["epochs"] == 1


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_tells_the_defaults(command, capsys):
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: minisnn {command}" in text and "default:" in text
    for option in ("--json", "--seed", "--threads", "--batch-size", "-b"):
        assert option in text


def test_help_lists_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.COMMANDS)
    assert cli.main([]) == 2 and cli.main(["--version"]) == 0


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_is_there(command):
    parser, module = cli.parser_of(command)
    assert callable(module.run)
    text = parser.format_help()
    assert all(option in text for option in ("--json", "--seed", "--threads"))


def test_ctrl_c(monkeypatch, capsys, tmp_path):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "loss_of", stop)
    assert cli.main(["train", *TINY, "--out", "a"]) == 130
    (line,) = errors(capsys)
    assert "minisnn train --resume a" in line


def test_ctrl_c_where_nothing_is_lost(monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.Options, "load", stop)
    assert cli.main(["train", *TINY]) == 130
    assert errors(capsys) == ["minisnn: stopped"]


# ---- what does not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, culprit",
    [
        ("trian", "trian"),
        ("train --epoch 3", "--epoch"),
        ("train more", "more"),
        ("train --epochs 0", "--epochs"),
        ("train --epochs x", "--epochs"),
        ("train --epochs 1.5", "--epochs"),
        ("train --width 12", "--width"),
        ("train --width 0", "--width"),
        ("train -T 0", "--timesteps"),
        ("train -b 0", "--batch-size"),
        ("train --lr 0", "--lr"),
        ("train --lr nan", "--lr"),
        ("train --lr inf", "--lr"),
        ("train --lr -1", "--lr"),
        ("train --limit 0", "--limit"),
        ("train --seed -1", "--seed"),
        ("train --threads 0", "--threads"),
        ("train --threads 9999", "--threads"),
        ("train --model resnet", "--model"),
        ("train --dataset imagenet", "--dataset"),
        ("train --position e", "--position"),
        ("train --remove 4", "--remove"),
        ("train --remove x", "--remove"),
        ("train --remove 1 --model plain", "--remove"),
        ("train --loss l1", "--loss"),
        ("train --optimizer lion", "--optimizer"),
        ("train --warmup -1", "--warmup"),
        ("train --gain 0", "--gain"),
        ("train --gain 1e300", "--gain"),
        ("train --warmup 9 --epochs 2", "--warmup"),
        ("train --dataset mnist", "data/MNIST/raw"),
        ("train --dataset mnist --data-dir none", "none"),
        ("train --resume none", "none"),
        ("evaluate none", "none"),
        ("evaluate", "RUN"),
        ("evaluate x --checkpoint first", "--checkpoint"),
    ],
)
def test_wrong_arguments(arguments, culprit, tmp_path, capsys):
    assert cli.main(arguments.split()) == 2
    (line,) = errors(capsys)
    assert culprit in line and "Traceback" not in line
    assert not files(tmp_path)


def test_a_folder_that_holds_a_run(copy, capsys):
    before = files(copy)
    assert cli.main(["train", *TINY, "--out", str(copy)]) == 2
    (line,) = errors(capsys)
    assert str(copy) in line and "--resume" in line and files(copy) == before


def test_a_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out in ("file", os.path.join("file", "run")):
        assert cli.main(["train", *TINY, "--out", out]) == 2
        (line,) = errors(capsys)
        assert out in line and "--out" in line
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert cli.main(["train", *TINY, "--out", "locked/run"]) == 2
    (line,) = errors(capsys)
    assert "locked/run" in line and "Permission denied" in line


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder that even root cannot write")
def test_a_folder_of_the_system_that_cannot_be_written(capsys):
    assert cli.main(["train", *TINY, "--out", "/proc/minisnn/run"]) == 2
    (line,) = errors(capsys)
    assert "/proc/minisnn/run" in line


def test_options_beside_resume(copy, capsys):
    before = files(copy)
    for extra in (["--epochs", "5"], ["--lr", "1"], ["--out", "b"], ["--seed", "3"], ["--window", "40"]):
        assert cli.main(["train", "--resume", str(copy), *extra]) == 2
        (line,) = errors(capsys)
        assert extra[0] in line
    assert files(copy) == before


# What is done to config.json, and the file that is then named.
CONFIG_CHANGES = {
    "of another model": (lambda config: config["network"].update(width=16), "npz"),
    "config describes no network": (lambda config: config["network"].update(shape=3), "config.json"),
    "config without dataset": (lambda config: config["options"].pop("dataset"), "config.json"),
    "config without timesteps": (lambda config: config["options"].pop("timesteps"), "config.json"),
    "config of other kinds": (lambda config: (config.update(dataset=[]), config["options"].update(data_dir=5)), "config.json"),
}


def spoil(folder, how):
    last, config = folder / "last.npz", folder / "config.json"
    if how in CONFIG_CHANGES:
        change, culprit = CONFIG_CHANGES[how]
        content = json.loads(config.read_text(encoding="utf-8"))
        change(content)
        config.write_text(json.dumps(content), encoding="utf-8")
        return culprit
    if how == "cut short":
        last.write_bytes(last.read_bytes()[:-200])
        return "npz"
    if how == "no checkpoint":
        last.write_text("hello", encoding="utf-8")
        return "npz"
    if how == "missing":
        last.unlink()
        return "last.npz"
    if how == "config is no JSON":
        config.write_text("{", encoding="utf-8")
        return "config.json"
    if how == "config is something else":
        config.write_text("[1]", encoding="utf-8")
        return "config.json"
    config.unlink()
    return str(folder)


@pytest.mark.parametrize("command", [["evaluate"], ["train", "--resume"]], ids=" ".join)
@pytest.mark.parametrize(
    "how",
    ["cut short", "no checkpoint", "missing", "config is no JSON", "config is something else", "no config", *CONFIG_CHANGES],
)
def test_damaged_runs(copy, capsys, command, how):
    culprit = spoil(copy, how)
    if how == "missing" and command == ["train", "--resume"]:
        pytest.skip("a run without a checkpoint is begun again from config.json")
    before = files(copy)
    assert cli.main([*command, str(copy)]) == 2
    (line,) = errors(capsys)
    assert culprit in line and "; " in line and "Traceback" not in line
    assert files(copy) == before


def test_a_data_set_that_does_not_fit(trained, capsys):
    assert cli.main(["evaluate", str(trained), "--dataset", "gestures"]) == 2
    (line,) = errors(capsys)
    assert "gestures" in line and "channels" in line


def test_a_copy_without_its_training_part_evaluates_but_does_not_train(tmp_path, monkeypatch, capsys):
    from test_data_images import write_set

    write_set(tmp_path / "data/MNIST/raw", parts=("t10k",))
    assert cli.main(["train", *TINY, "--dataset", "mnist"]) == 2
    (line,) = errors(capsys)
    assert "mnist has no samples to train with" in line and str(tmp_path) in line
    write_set(tmp_path / "whole/MNIST/raw")
    assert cli.main(["train", *TINY, "--dataset", "mnist", "--data-dir", "whole", "--out", "a"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["evaluate", "../a"]) == 0  # finds the data that it was trained on
    assert cli.main(["evaluate", "../a", "--data-dir", "../data", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["samples"] == 12


def test_a_full_disk_is_one_line(monkeypatch, capsys, tmp_path):
    from minisnn import checkpoint

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    assert cli.main(["train", *TINY, "--out", "a"]) == 2
    (line,) = errors(capsys)
    assert "No space left" in line
