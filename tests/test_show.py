"""minisnn show: figures that are there, in the format of their name, and wrong arguments that leave nothing behind."""

import json

import event_files as files
import numpy as np
import pytest

from minisnn.cli import main
from minisnn.figures import samples


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINISNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_figure_and_a_moving_one(own_folder, capsys):
    from PIL import Image

    assert main(["show", "gestures", "--index", "4", "--gif", "moving.gif", "--json"]) == 0
    *text, last = capsys.readouterr().out.strip().splitlines()
    facts = json.loads(last)
    assert facts["class"] == "right arm counter-clockwise" and facts["timesteps"] == 8 and facts["figure"] == "gestures-4.png"
    assert facts["on"] < facts["events"] and any(f"{facts['events']:,} events" in line for line in text)
    with Image.open(own_folder / "gestures-4.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 500 and len(np.unique(np.asarray(picture.convert("L")))) > 50
    with Image.open(own_folder / "moving.gif") as picture:
        assert picture.n_frames == 8 and picture.size == (256, 256) and picture.info["duration"] >= 40


@pytest.mark.parametrize("options", [["--slicing", "time"], ["--window", "100", "-T", "40", "--part", "test"]])
def test_recordings_sliced_by_time_and_in_windows(options, own_folder):
    files.write_nmnist(own_folder)
    assert main(["show", "nmnist", "--data-dir", str(own_folder), "--out", "n.svg", *options]) == 0
    assert (own_folder / "n.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_a_still_image(own_folder):
    assert main(["show", "digits", "--index", "3"]) == 0
    assert (own_folder / "digits-3.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, culprit",
    [
        (["gestures", "--index", "1100"], "--index"),
        (["gestures", "--out", "a.txt"], "--out"),
        (["gestures", "--gif", "a.png"], "--gif"),
        (["digits", "--gif", "a.gif"], "--gif"),
        (["gestures", "--out", "nowhere/a.png"], "nowhere/a.png"),
        (["what"], "what"),
        (["model", "--gif", "a.gif"], "--gif"),
        (["model", "--width", "9"], "--width"),
        (["digits", "--model", "or"], "--model"),
        (["digits", "--dataset", "mnist"], "--dataset"),
        (["gestures", "--index", "-1"], "--index"),
        (["digits", "--window", "5"], "--window"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_leaves_nothing(arguments, culprit, own_folder, capsys):
    assert main(["show", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert culprit in error and "\n" not in error and "Traceback" not in error
    assert [path for path in own_folder.iterdir() if path.name != "cache"] == []


def test_polarity_is_what_prevails():
    frames = np.zeros((1, 2, 1, 4), np.uint8)
    frames[0, :, 0] = [[2, 0, 1, 0], [0, 2, 1, 0]]
    assert samples.polarity(frames)[0, 0].tolist() == [-1, 1, 0, 0]
    assert samples.gif_frames(frames, side=8)[0, :, ::2].tolist() == [[0, 255, 128, 128]] * 2


def test_a_model_is_a_table_of_its_layers(capsys):
    from minisnn import models

    assert main(["show", "model", "--dataset", "mnist", "--model", "syna-s", "--width", "16", "-T", "4", "--json"]) == 0
    *text, last = capsys.readouterr().out.strip().splitlines()
    facts = json.loads(last)
    net = models.build("mnist", attention="s", width=16, timesteps=4)
    assert "\n".join(text).strip() == repr(net)
    assert facts["parameters"] == sum(p.size for p in net.parameters())
    assert [row["name"] for row in facts["layers"]][:3] == ["stem", "feature 1", "feature 2"]
