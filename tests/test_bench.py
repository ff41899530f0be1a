"""`minisnn bench`: every section runs, and accounts for the time that it measures."""

import dataclasses
import json
import os
import sys

import numpy as np
import pytest

from minisnn import Tensor, bench, cli, contests, data, growth, nn, no_grad, ops, optim, schedule, threads
from minisnn.catalogue import CATALOGUE
from minisnn.cli.bench import NETWORKS
from minisnn.data.base import limited
from minisnn.figures import timings
from minisnn.peer import Peer

SMALL = ["--width", "8", "-T", "2", "-b", "2", "--repeat", "1", "--json"]


def found(capsys, *words):
    assert cli.main(["bench", *words, *SMALL]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_step_is_the_sum_of_its_parts_and_holds_its_loops(capsys):
    step = found(capsys, "step")["step"]
    assert 0.5 < (step["forward"] + step["backward"] + step["optimizer"]) / step["step"] < 2
    timed = {name for _, names in bench.Stopwatch.LOOPS for name in names}
    assert (
        {"mean_and_variance", "norm_fire_forward", "norm_fire_backward", "event_forward"} <= step["operations"].keys() <= timed
    )
    assert 0 < sum(step["operations"].values()) < 2 * step["step"] and 0 < step["firing_rate"] < 1


def test_the_firing_rate_rises_with_the_bias(capsys):
    rates = [row["firing_rate"] for row in found(capsys, "rate")["rate"]]
    assert rates == sorted(rates) and rates[0] < 0.1 < rates[-1]


@pytest.mark.slow
def test_every_section(capsys, tmp_path):
    result = found(capsys, "--figures", str(tmp_path / "figures"))
    assert {"step", "conv", "lif", "rate"} <= result.keys() and len(list((tmp_path / "figures").glob("*.png"))) == 2


def test_what_is_not_to_be_timed_is_refused_in_one_line(capsys):
    for words in (["steps"], ["step", "--width", "12"]):
        assert cli.main(["bench", *words]) == 2 and capsys.readouterr().err.count("\n") == 1
    assert cli.main(["bench", "conv", "--peer", "no-such-python"]) == 2
    assert "--peer" in capsys.readouterr().err


SIZE = bench.Size("digits", 8, 2, 2)


@pytest.fixture
def side(monkeypatch):
    monkeypatch.setitem(bench.SIZES, "digits", SIZE)


def test_sizes_have_a_row_for_each_mode_and_number_of_threads(capsys, side):
    rows = found(capsys, "sizes", "--size", "digits")["sizes"]
    assert {(r["mode"], r["threads"]) for r in rows} == {(m, k) for m in bench.MODES for k in {1, threads.get_num_threads()}}
    assert all(r["size"] == "digits" and r["seconds"] > 0 and r.keys() >= {"peer_seconds", "ratio"} for r in rows)


class Twin:
    """Stands for the other side: the same engine, so that what is asked of it can be checked."""

    def __init__(self, off=0.0, first=0):
        self.off, self.first, self.asked = off, first, []  # how far the loss is off, from which step on

    def ask(self, name, **arguments):
        self.asked.append(name)
        if name == "build":
            self.net = bench.own_network(SIZE, 0)
            with np.load(arguments["weights"]) as file:
                for p, a in zip(self.net.parameters(), [file[name] for name in file.files], strict=True):
                    p.data[...] = a
            self.optimizer = optim.Adam(self.net.parameters(), arguments["lr"])
        elif name == "give":
            with np.load(arguments["path"]) as file:
                self.x, self.y = Tensor(file["x"]), file["y"]
        elif name == "step":
            loss = bench.learn(self.net, self.optimizer, self.x, self.y) if arguments["mode"] == "training" else None
            return {"seconds": 2.0, "loss": loss and loss + self.off * (self.asked.count("step") > self.first)}
        return None


def test_the_other_side_gets_the_same_network_and_batch(side):
    rows = bench.bench_sizes(2, Twin(), ["digits"])
    assert all(r["peer_seconds"] == 2.0 and r["ratio"] > 1 for r in rows)
    assert bench.slowest_in_ratio(rows, "training") == min(
        r["ratio"] for r in rows if r["mode"] == "training" and r["threads"] == threads.get_num_threads()
    )
    with pytest.raises(RuntimeError, match="networks differ"):
        bench.bench_sizes(1, Twin(off=0.5), ["digits"])
    bench.bench_sizes(1, Twin(off=0.5, first=1), ["digits"])  # what both have learned since may drift apart


def test_a_race_ends_at_its_goal_or_is_given_up(monkeypatch):
    whole = data.load("digits")
    few = dataclasses.replace(whole, train=limited(whole.train, 64), test=limited(whole.test, 32))
    monkeypatch.setattr(data, "load", lambda name: few)
    (row,) = bench.bench_race(None, [0], goal=0.0)
    assert row["epochs"] == 1 and row["seconds"] > 0 and row["ratio"] is None
    (row,) = bench.bench_race(None, [0], goal=1.1, epochs=2)
    assert row["epochs"] == 2 and row["seconds"] is None and 0 <= row["accuracy"] <= 1


def test_the_step_at_one_of_the_sizes(capsys, side):
    step = found(capsys, "step", "--size", "digits")["step"]
    assert (step["preset"], step["width"], step["timesteps"], step["batch_size"]) == SIZE[:4]


def test_a_busy_process_is_ended(capsys, side, monkeypatch):
    begun, popen = [], bench.subprocess.Popen

    def begin(*words):
        begun.append(popen(*words))
        return begun[-1]

    monkeypatch.setattr(bench.subprocess, "Popen", begin)
    (row,) = found(capsys, "busy", "--size", "digits")["busy"]
    assert row["size"] == "digits" and row["ratio"] == row["busy"] / row["idle"] > 0
    assert len(begun) == bench.ROUNDS and all(p.returncode not in (0, None) for p in begun)


def test_the_papers_schedule_is_measured_by_its_steps(capsys):
    rows = []
    (row,) = schedule.bench_paper(["mnist"], say=rows.append, width=8, timesteps=2, batch_size=4, epochs=3)
    assert rows == [row] and row["steps"] == 3 * 15_000 and row["width"] == 8
    assert row["hours"] == pytest.approx(row["steps"] * row["seconds"] / 3600) and row["seconds"] > 0
    assert row["peak_mb"] is None or row["peak_mb"] > 50
    assert set(schedule.PUBLISHED) == {"mnist", "fashion-mnist", "dvsgesture", "cifar10dvs"}
    assert all(CATALOGUE[name].paper_samples > 0 for name in schedule.PUBLISHED)


def killed(*arguments):
    os._exit(1)


def test_a_schedule_that_is_killed_says_so(capsys, monkeypatch):
    monkeypatch.setattr(schedule, "second_of_two", killed)
    monkeypatch.setattr(schedule, "PUBLISHED", ("mnist",))
    row = found(capsys, "paper")["paper"][0]
    assert row["seconds"] is row["hours"] is row["peak_mb"] is None and row["steps"] == 46_900


def test_growth_is_measured_beside_its_bound():
    result = growth.bench_growth(1, axes={"batch": (4, 16), "bias": (0.0, 1.0)})
    small, large, quiet, busy = result["rows"]
    for name in (
        "additions",
        "products",
        "bytes",
    ):  # all of the same network, so four times the samples are four times the work
        assert large[name] / small[name] == pytest.approx(4, rel=0.2 if name == "additions" else 1e-9)
    assert busy["firing_rate"] > quiet["firing_rate"] and busy["additions"] > quiet["additions"]
    assert all(r["bound"] == pytest.approx(sum(r[k] / v for k, v in result["rates"].items())) for r in result["rows"])
    assert 0.3 < result["slopes"]["batch"]["memory_mb"] < 1.1 and len(timings.cost_growth(result).axes) == 4


def test_the_exponent_of_a_power_law():
    assert growth.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


class Rival:
    """Stands for another program in the contests: this engine again."""

    def __init__(self, off=0.0):
        self.off = off

    def ask(self, name, **arguments):
        if name == "small":
            with np.load(arguments["path"]) as file:
                given = dict(file)
            row = next(row for row in contests.SMALL.values() if row.sizes == arguments["plan"]["sizes"])
            net = contests.network(row, 1)  # other weights, which are replaced
            for p, a in zip(net.parameters(), [given[n] for n in sorted(given) if n.startswith("p0")], strict=True):
                p.data[...] = a
            train, first = data.Arrays(given["x"], given["y"], row.timesteps), given["orders"][0, : arguments["batch_size"]]
            optimizer = optim.Adam(net.parameters(), arguments["lr"])
            loss = bench.learn(net, optimizer, train.batch(first), train.labels[first], ops.cross_entropy)
            return {"seconds": 7.0, "accuracy": 0.5, "loss": loss + self.off}
        if name == "build":
            self.net = bench.models.build("gestures", width=16, timesteps=8, seed=1).eval()
            with np.load(arguments["weights"]) as file:
                for p, a in zip(self.net.parameters(), [file[name] for name in file.files], strict=True):
                    p.data[...] = a
            assert arguments["plan"]["attention"] is False
        if name == "frames":
            with np.load(arguments["path"]) as file, no_grad():
                scores = self.net(file["x"]).data
            return {"seconds": [3.0] * 8, "scores": (scores + self.off).tolist()}
        return None


def test_small_networks_are_trained_side_by_side(capsys):
    assert tuple(contests.SMALL) == NETWORKS
    said = []
    rows = contests.bench_small({"spikingjelly": Rival()}, ["plain", "recurrent"], epochs=2, say=said.append)
    assert [(r["network"], r["side"]) for r in rows] == [
        (n, s) for n in ("plain", "recurrent") for s in ("minisnn", "spikingjelly")
    ]
    ours, theirs = rows[:2]
    assert said == rows and theirs["ratio"] == 7 / ours["seconds"] and theirs["loss"] == pytest.approx(ours["loss"], rel=1e-6)
    assert ours["accuracy"] > 0.8 and ours["ratio"] == 1
    with pytest.raises(RuntimeError, match="snntorch: the networks differ"):
        contests.bench_small({"snntorch": Rival(0.1)}, ["plain"], epochs=1)
    (row,) = found(capsys, "small", "--network", "learned", "--epochs", "1")["small"][:1]
    assert row["side"] == "minisnn" and row["seconds"] > 0


def test_frames_are_timed_in_turn():
    row = contests.bench_stream(Rival(), frames=8)
    assert row["peer_seconds"] == 3.0 and row["ratio"] == 3.0 / row["seconds"] and row["frames"] == 8
    assert 0.02 < row["firing_rate"] < 0.2 and row["seconds"] <= row["seconds_95"]
    assert contests.bench_stream(None, frames=8)["ratio"] is None
    with pytest.raises(RuntimeError, match="networks differ"):
        contests.bench_stream(Rival(0.5), frames=8)


def test_steps_with_each_kind_of_neurons():
    ratios = contests.bench_neurons(1)
    assert list(ratios) == list(nn.NEURONS) and ratios["lif"] == 1 and all(0.2 < ratio < 5 for ratio in ratios.values())


@pytest.mark.slow
def test_other_programs_train_the_same_small_networks():
    for side in contests.OTHERS:
        with Peer(sys.executable, "torch", side) as peer:
            if not peer:
                pytest.skip(f"this Python cannot import torch and {side}")
            rows = contests.bench_small({side: peer}, epochs=1)  # raises if the losses differ
            assert all(r["accuracy"] > 0.3 for r in rows)
            if side == "spikingjelly":
                assert contests.bench_stream(peer, frames=8)["ratio"] > 0


@pytest.mark.slow
def test_spikingjelly_is_the_same_network_and_can_race():
    with Peer(sys.executable, "torch", "spikingjelly") as peer:
        if not peer:
            pytest.skip("this Python cannot import torch and spikingjelly")
        rows = bench.bench_sizes(1, peer, ["digits"])  # raises if the losses differ
        (row,) = bench.bench_race(peer, [0], goal=0.3, epochs=3)
    assert all(r["ratio"] > 0 for r in rows) and row["peer_accuracy"] >= 0.3
