"""Grids of runs: which cells there are, that what is done is skipped, that failures stay alone, and the tables."""

import csv
import json
import os
import signal

import pytest

from minisnn import UsageError, ablation, cli, energy, train
from minisnn.ablation import Cell
from minisnn.data import batches
from minisnn.runs import Run

TINY = {"dataset": "digits", "width": 8, "timesteps": 2, "limit": 32, "epochs": 1, "batch_size": 32}
ARGUMENTS = ["--width", "8", "-T", "2", "--limit", "32", "--epochs", "1", "-b", "32"]


def test_the_grid_crosses_what_makes_a_difference():
    cells = ablation.grid(["or", "syna-t", "ia-c", "syna-c-without-1,3"], ["a", "b"], [0, 1])
    assert [c.name for c in cells[:6]] == [
        "or-seed0",
        "syna-t-a-seed0",
        "syna-t-b-seed0",
        "ia-c-seed0",
        "syna-c-a-without-13-seed0",
        "syna-c-b-without-13-seed0",
    ]
    assert len(cells) == 12 and len({c.name for c in cells}) == 12
    assert cells[4] == Cell("syna-c", "a", 0, (1, 3)) and cells[4].system == "syna-c-a-without-1,3"
    assert ablation.grid(["or", "or"]) == [Cell("or")]


@pytest.mark.parametrize(
    "models, positions, word",
    [
        (["resnet"], ["a"], "resnet"),
        (["or"], ["e"], "'e'"),
        (["or-without-4"], ["a"], "1, 2, 3"),
        (["sew-and-without-1"], ["a"], "sew-and"),
        (["plain-without-1"], ["a"], "plain"),
    ],
)
def test_the_grid_refuses_by_name(models, positions, word):
    with pytest.raises(UsageError, match=word):
        ablation.grid(models, positions)


def result(accuracy, energy, silent=(), pruned=None):
    return {
        "accuracy": accuracy,
        "last_accuracy": accuracy,
        "highest_accuracy": accuracy + 0.05,
        "spikes": 2000.0,
        "mac": 3e6,
        "ac": 5e5,
        "energy_mj": energy,
        "silent": list(silent),
        "pruned": None if pruned is None else {"energy_mj": pruned},
        "spikes_per_neuron": 0.5,
        "seconds": 1.0,
    }


def test_means_and_deviations_by_hand():
    results = {
        Cell("or", seed=0): result(0.8, 0.020),
        Cell("or", seed=1): result(0.9, 0.024),
        Cell("or", seed=2): {"error": "lost"},
        Cell("syna-t", "b", 0): result(0.7, 0.02, [1, 3], pruned=0.01),
    }
    plain, attentive = ablation.summarise(results)
    assert plain["seeds"] == 2 and plain["accuracy"] == pytest.approx(0.85)
    assert plain["accuracy_sd"] == pytest.approx(0.0707107, rel=1e-5)
    assert plain["energy_mj"] == plain["pruned_mj"] == pytest.approx(0.022) and plain["silent"] == {}
    assert attentive["system"] == "syna-t-b" and attentive["accuracy_sd"] is None and attentive["pruned_mj"] == 0.01
    text = ablation.markdown([plain, attentive])
    assert len({line.count("|") for line in text.splitlines()}) == 1
    assert "| or | 2 | 85.00 ± 7.07 | 90.00 ± 7.07 | 2.00 ± 0.00 | 3.000 ± 0.000 |" in text
    assert "| 1 (1), 3 (1) | 10.00 |" in text
    rows = list(csv.DictReader(ablation.table_csv([plain, attentive]).splitlines()))
    assert float(rows[0]["accuracy"]) == pytest.approx(0.85) and rows[1]["silent"] == "1:1 3:1"


def test_cells_are_trained_once_and_a_failing_one_stays_alone(tmp_path, monkeypatch):
    trained, real = [], train.train

    def sometimes(options, *args, **named):
        trained.append(options.model)
        if options.model == "ms":
            raise MemoryError("too big")
        return real(options, *args, **named)

    monkeypatch.setattr(train, "train", sometimes)
    cells = ablation.grid(["ms", "or", "syna-t"])
    told = []
    results = ablation.run(cells, TINY, tmp_path / "grid", tell=lambda cell, _, so_far: told.append((cell.model, len(so_far))))
    assert told == [("ms", 1), ("or", 2), ("syna-t", 3)] == list(zip(trained, (1, 2, 3)))
    assert results[cells[0]]["error"] == "MemoryError: too big" and "error" not in results[cells[1]]
    assert 0 <= results[cells[1]]["accuracy"] <= 1 and results[cells[1]]["ac"] >= 0
    monkeypatch.setattr(train, "train", real)
    again = ablation.run(cells, TINY, tmp_path / "grid")
    assert "error" not in again[cells[0]] and again[cells[1]]["accuracy"] == results[cells[1]]["accuracy"]
    files = ablation.write_tables(again, tmp_path / "grid")
    assert [row["system"] for row in files] == ["ms", "or", "syna-t-a"]
    assert (tmp_path / "grid" / "figure.png").read_bytes()[:4] == b"\x89PNG"
    for cell in cells:
        net, data = Run.open(tmp_path / "grid" / cell.name).network(), Run.open(tmp_path / "grid" / cell.name).dataset()
        rows = energy.measure(net, batches(data.test, 64)).layers
        spent = sum(row.energy_mj for row in rows if row.name.endswith("attention") or ".attention." in row.name)
        assert again[cell]["attention_mj"] == pytest.approx(spent) and (spent > 0) == (cell.model == "syna-t")
    assert len(list(csv.DictReader((tmp_path / "grid" / "cells.csv").read_text(encoding="utf-8").splitlines()))) == 3


def test_a_stopped_cell_goes_on_and_others_are_not_touched(tmp_path, monkeypatch):
    cell, options = Cell("or"), TINY | {"epochs": 2}
    real = train.Training.step

    def stop_after_one(self, bar):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return real(self, bar)

    monkeypatch.setattr(train.Training, "step", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        ablation.run([cell], options, tmp_path / "grid")
    monkeypatch.setattr(train.Training, "step", real)
    assert len(Run.open(tmp_path / "grid" / "or-seed0").metrics()) == 1
    monkeypatch.setattr(train, "train", lambda *_, **__: pytest.fail("it should have gone on, not begun again"))
    (found,) = ablation.run([cell], options, tmp_path / "grid").values()
    both = Run.open(tmp_path / "grid" / "or-seed0").metrics()
    assert "error" not in found and len(both) == 2
    assert found["training_seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in both))


def test_a_folder_with_other_options_is_refused(tmp_path):
    ablation.claim(tmp_path / "grid", TINY)
    ablation.claim(tmp_path / "grid", TINY | {"data_dir": "elsewhere"})
    with pytest.raises(UsageError, match="epochs 1, not 2"):
        ablation.claim(tmp_path / "grid", TINY | {"epochs": 2})
    ablation.claim(tmp_path / "grid", TINY | {"ema": None, "loss": "mse", "recalibrate": 0})  # of an earlier version
    with pytest.raises(UsageError, match="recalibrate 0, not 20"):
        ablation.claim(tmp_path / "grid", TINY | {"recalibrate": 20})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is not an ablation"):
        ablation.claim(tmp_path / "full", TINY)
    (tmp_path / "grid" / "ablation.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="ablation.json"):
        ablation.claim(tmp_path / "grid", TINY)


def test_the_command_and_its_json(tmp_path, capsys):
    arguments = ["ablate", "--models", "or", "syna-c-without-2", "--out", str(tmp_path / "grid"), *ARGUMENTS, "--json"]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert [row["system"] for row in found["table"]] == ["or", "syna-c-a-without-2"] and found["failed"] == {}
    assert "| or | 1 |" in out and "[2/2]" in err and "0 of them already done" in err
    assert Run.open(tmp_path / "grid" / "syna-c-a-without-2-seed0").network().config.removed == (2,)
    assert cli.main(arguments) == 0
    assert "2 of them already done" in capsys.readouterr().err
    for wrong, word in ((["--models", "nothing"], "nothing"), (["--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"], "--jobs")):
        assert cli.main(["ablate", "--out", str(tmp_path / "other"), *wrong]) == 2
        assert word in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_each_seed_tests_on_its_own_fold(tmp_path, capsys):
    words = ["ablate", "--models", "or", "--out", str(tmp_path / "grid"), *ARGUMENTS, "--folds", "2"]
    assert cli.main([*words, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])["cells"]) == {"or-seed0", "or-seed1"}
    tested = [set(Run.open(tmp_path / "grid" / f"or-seed{k}").dataset().test.indices) for k in (0, 1)]
    assert not tested[0] & tested[1] and len(tested[0] | tested[1]) == 1797
    for wrong, word in ((["--seeds", "2"], "fold 2 of 2"), (["--split-seed", "1"], "--split-seed")):
        assert cli.main([*words, *wrong]) == 2
        assert word in capsys.readouterr().err


def test_every_epoch_of_every_cell_with_the_rates_of_both_modes(tmp_path):
    cells = ablation.grid(["or", "plain"])
    results = ablation.run(cells, TINY | {"epochs": 2}, tmp_path / "grid")
    ablation.write_tables(results, tmp_path / "grid")
    rows = list(csv.DictReader((tmp_path / "grid" / "epochs.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["cell"], row["epoch"]) for row in rows] == [(f"{m}-seed0", e) for m in ("or", "plain") for e in "12"]
    run = Run.open(tmp_path / "grid" / "or-seed0")
    for training, ending in ((False, ""), (True, " in training")):
        layers, rates = run.firing_rates(training)
        assert [float(rows[1][layer + ending]) for layer in layers] == pytest.approx(rates[1])
    assert float(rows[1]["test_accuracy"]) == run.metrics()[1]["test_accuracy"]
    assert rows[0]["stages.0.shortcut"] and not rows[2]["stages.0.shortcut"]  # a plain network has none
    (tmp_path / "grid" / "or-seed0" / "last.npz").write_bytes(b"damaged")
    ablation.write_tables(results, tmp_path / "grid")
    assert "or-seed0" not in (tmp_path / "grid" / "epochs.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    cells = ablation.grid(["or", "sew-add"])
    alone = ablation.run(cells, TINY, tmp_path / "one", threads=1)
    beside = ablation.run(cells, TINY, tmp_path / "two", jobs=2, threads=2)
    for cell in cells:
        one, two = ({k: v for k, v in found[cell].items() if "seconds" not in k} for found in (alone, beside))
        assert one == two
        assert Run.open(tmp_path / "two" / cell.name).config["options"]["threads"] == 1  # two threads, two workers


def die(cell, *_):
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has the one


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_own_cells(tmp_path, monkeypatch):
    cells = ablation.grid(["or", "sew-add"])
    ablation.run(cells[:1], TINY, tmp_path / "grid", threads=1)
    monkeypatch.setattr(ablation, "named_cell", die)
    results = ablation.run(cells, TINY, tmp_path / "grid", jobs=2, threads=2)
    assert "error" not in results[cells[0]] and "lost" in results[cells[1]]["error"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of other people's packages
def test_a_local_dask_cluster(tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    cells = ablation.grid(["or", "sew-add"])
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, host="127.0.0.1") as cluster:
        results = ablation.run(cells, TINY, tmp_path / "grid", scheduler=cluster.scheduler_address)
        assert all("error" not in r for r in results.values())
        assert (tmp_path / "grid" / cells[1].name / "cell.json").exists()
    with pytest.raises(UsageError, match="no scheduler responds"):
        ablation.connect("tcp://127.0.0.1:9")
