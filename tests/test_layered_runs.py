"""Networks without maps on the command line: trained, evaluated, drawn, exported; what has no meaning for them is one line."""

import json

import numpy as np
import pytest
from small_runs import complaints, small_run

from minisnn import cli, energy, models, nn, train
from minisnn.data import images
from minisnn.models import LAYERED
from minisnn.runs import Run

SHD = ["--dataset", "shd", "--data-dir", "data", "--width", "32", "-T", "10", "-b", "8", "--epochs", "8", "--lr", "1e-2"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TEST_SHARE", 0.02)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sounds(tmp_path):
    """Forty recordings of two words, as tonic lays them out."""
    pytest.importorskip("h5py")
    from test_layered import write

    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        labels = np.arange(40) % 2 + 3
        recordings = [(np.sort(rng.uniform(0, 1.3, 60)), rng.integers(0, 200, 60) + 300 * (k - 3)) for k in labels]
        write(tmp_path / "data" / "SHD" / f"shd_{part}.h5", recordings, labels)


def call(capsys, *words):
    """(status, the object of --json or None, lines on standard output, lines on standard error) of a command line."""
    status = cli.main([*map(str, words), "--json"])
    said = capsys.readouterr()
    *text, last = said.out.splitlines() or [""]
    return status, json.loads(last) if status == 0 else None, text, complaints(said.err)


def test_spoken_digits_are_trained_on_and_read(sounds, capsys):
    status, found, _, _ = call(capsys, "train", *SHD, "--out", "run")
    assert status == 0 and found["model"] == "recurrent" and found["test_accuracy"] > 0.8 and found["mac"] == 0
    run = Run.open("run")
    assert run.config["network"]["sizes"] == [700, 32, 20] and run.config["options"]["loss"] == "ce"
    assert [type(m) for m in run.network().layers] == [nn.Linear, nn.Recurrent]
    status, read, text, _ = call(capsys, "evaluate", "run", "--stream")
    assert status == 0 and read["test_accuracy"] == found["test_accuracy"] == read["stream"]["accuracy"][-1]
    assert read["spikes"] == found["spikes"] and any("German" in line for line in text)
    status, drawn, _, _ = call(capsys, "plot", "run")
    assert [name.split("/")[-1] for name in drawn["figures"]] == [
        "training_curves.png",
        "thermogram.png",
        "energy_by_layer.png",
    ]
    status, resumed, _, _ = call(capsys, "train", "--resume", "run")
    assert status == 0 and resumed["epochs"] == 8 and resumed["test_accuracy"] == found["test_accuracy"]


def test_a_recording_is_shown(sounds, capsys):
    status, found, text, _ = call(capsys, "show", "shd", "--data-dir", "data", "--index", "1", "--out", "a.png")
    assert status == 0 and found["class"] == "English 4" and 0 < found["spikes"] <= 60
    assert any(f"{found['spikes']} spikes in 100 time steps" in line for line in text)
    with open("a.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"
    status, _, _, lines = call(capsys, "show", "shd", "--data-dir", "data", "--gif", "a.gif")
    assert status == 2 and "--gif: shd holds sounds" in lines[0]


@pytest.mark.parametrize("model", LAYERED)
def test_digits_as_features(model, capsys):
    words = ["--model", model, "--width", "32", "--epochs", "4", "--neuron", "plif", "--dropout", "0.1", "--validation", "0.1"]
    status, found, text, _ = call(capsys, "train", *words, "--loss", "tet", "--out", "run")
    assert status == 0 and found["test_accuracy"] > 0.6 and found["checkpoint"] == "best"
    assert not any("shortcut" in line for line in text)
    net = Run.open("run").network()
    assert net.config.sizes == (256, *[32] * LAYERED[model].depth, 10) and net.dropout.share == 0.1
    neurons = [m for m in net.modules() if isinstance(m, nn.PLIF)]
    assert len(neurons) == LAYERED[model].depth and all(m.tau != 2 for m in neurons)
    status, table, text, _ = call(capsys, "energy", "run")
    assert status == 0 and table["spikes"] == found["spikes"] and table["layers"][0]["mac"] == 4 * 256 * 32
    assert any(line.startswith("layer 1") for line in text)
    status, drawn, _, _ = call(capsys, "plot", "run")
    assert status == 0 and len(drawn["figures"]) == 3  # no potentials: they are not those of LIF with constants
    status, page, _, _ = call(capsys, "report", "run")
    with open("run/report.html", encoding="utf-8") as file:
        text = file.read()
    assert status == 0 and page["figures"] == 3 and "not those without maps" in text and "removed shortcuts" not in text


def test_potentials_of_the_first_layer(tmp_path, capsys):
    small_run("run", "fully-connected")
    status, drawn, _, _ = call(capsys, "plot", "run", "--only", "membranes", "--neurons", "3,0,0")
    assert status == 0 and len(drawn["figures"]) == 1
    status, _, _, lines = call(capsys, "plot", "run", "--only", "membranes", "--neurons", "8,0,0")
    assert status == 2 and "is not in layers.1; give CHANNEL,ROW,COLUMN below 8,1,1" in lines[0]


@pytest.mark.parametrize(
    "words, culprit",
    [
        ("train --model recurrent --position b", "--position has no meaning for the model 'recurrent'"),
        ("train --model recurrent --remove 1", "--remove has no meaning"),
        ("train --model fully-connected --start pytorch", "--start has no meaning"),
        (
            "train --model fully-connected --recipe paper --dataset mnist",
            "--recipe: the paper does not train the model 'fully-",
        ),
        (
            "train --dataset shd --model syna-t",
            "--dataset: shd has no maps, which the model 'syna-t' convolves; give one of fully-",
        ),
        ("train --dataset shd --data-dir data", "shd is not in"),
        ("train --dataset shd --frame-size 16", "--frame-size has no meaning"),
        ("ablate --dataset shd --models or", "--dataset: shd has no maps"),
        ("ablate --models recurrent", "there is no model 'recurrent'; give some of plain"),
        ("show model --dataset shd --model or", "--dataset: shd has no maps"),
        ("prune run --out new", "run: a network without maps has nothing to prune: it has no shortcuts"),
        (
            "energy run --accounting published",
            "--accounting published: the published scripts count the networks of the paper only",
        ),
        ("evaluate run --dataset gestures", "reads 256 features into 10 classes, but gestures has 2 x 32 x 32"),
        ("plot run --only attention --layer x --sample 9999", ""),
        ("plot other --only spike_intensity --compare run", "--compare: the network of run has no maps"),
        ("plot run --only membranes --layer x", "--layer: there is no layer of neurons 'x'; give one of layers.1"),
    ],
)
def test_what_has_no_meaning_is_one_line(words, culprit, tmp_path, capsys):
    if " run" in words:
        small_run("run", "recurrent")
    if " other" in words:
        small_run("other", "or")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    status, _, _, lines = call(capsys, *words.split())
    if culprit:
        assert status == 2 and len(lines) == 1 and culprit in lines[0], lines
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
    else:  # a figure for which there is nothing
        assert status == 0 and not lines


@pytest.mark.parametrize("model, dataset", [("recurrent", "digits"), ("fully-connected", "gestures"), (None, "shd")])
def test_a_model_is_a_table_of_its_layers(model, dataset, capsys):
    words = ["--dataset", dataset, "--width", "16", "-T", "3", *(["--model", model] if model else [])]
    status, found, text, _ = call(capsys, "show", "model", *words)
    options = train.Options(dataset=dataset, model=model, width=16, timesteps=3)
    net = models.from_config(options.network())
    assert status == 0 and "\n".join(text).strip() == repr(net) and found["model"] == options.model
    assert found["parameters"] == sum(p.size for p in net.parameters())
    rows = [row.name for row in net.plan()]
    x = np.ones((3, 1, net.config.sizes[0]), np.float32) * 4
    assert rows == list(dict.fromkeys(row.name for row in energy.measure(net, x).layers))  # the names are the reports'


@pytest.mark.parametrize("model", LAYERED)
def test_runs_go_out_and_come_back(model, capsys):
    pytest.importorskip("safetensors")
    small_run("run", model, neuron="if")
    assert call(capsys, "export", "run", "--to", "safetensors", "--out", "net.safetensors")[0] == 0
    status, found, _, lines = call(capsys, "import", "net.safetensors", "--out", "copy")
    assert status == 0 and found["model"] == model and found["width"] == 8, lines
    one, two = (call(capsys, "evaluate", path)[1] for path in ("run", "copy"))
    assert {**one, "run": ""} == {**two, "run": ""}
    assert call(capsys, "import", "net.safetensors", "--width", "16", "--out", "b")[0] == 2

    from minisnn import interop

    net = models.from_config(Run.open("run").config["network"])
    interop.save_safetensors(net, "alone.safetensors")  # without a run: the network is known, its data is not
    status, found, _, lines = call(capsys, "import", "alone.safetensors", "--dataset", "digits", "--out", "alone")
    assert status == 0 and found["model"] == model and found["width"] == 8, lines
    interop.save_safetensors(models.recurrent((4, 8, 2), tau=3.0, neuron="lif"), "own.safetensors")
    status, _, _, lines = call(capsys, "import", "own.safetensors", "--out", "own")
    assert status == 2 and "does not say what network" in lines[0]  # nothing tells that tau is 3


def test_graphs_of_nir(capsys):
    pytest.importorskip("nir")
    from minisnn import interop

    small_run("run", "fully-connected")
    status, found, _, _ = call(capsys, "export", "run", "--to", "nir", "--out", "net.nir")
    assert status == 0 and found["size"] == [1, 16, 16]
    net, x = Run.open("run").network(), np.random.default_rng(0).random((2, 3, 1, 16, 16), np.float32) * 3
    again = interop.load_nir("net.nir")
    assert np.allclose(again(x).data, net(x).data, atol=1e-5) and energy.measure(net, x).spikes > 0
    small_run("other", "recurrent")
    status, _, _, lines = call(capsys, "export", "other", "--to", "nir", "--out", "other.nir")
    assert status == 2 and "NIR has no node for layers.1, a Recurrent" in lines[0]
