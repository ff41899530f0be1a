"""Natural pruning: what goes, what stays, and that nothing else changes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import fire, silence, small_run

from minisnn import UsageError, cli, energy, models, nn, pruning, runs
from minisnn.runs import Run


def network(silent=(), residual="or", attention=None, seed=0):
    net = models.build("digits", width=8, timesteps=2, residual=residual, attention=attention, seed=seed)
    x = np.random.default_rng(seed).random((2, 4, 1, 8, 8), dtype=np.float32) * 4
    return silence(fire(net, x), silent), x


@settings(deadline=None, max_examples=8)
@given(st.sets(st.integers(1, 3)), st.sampled_from(["or", "add"]), st.sampled_from([None, "t", "c", "s"]))
def test_silent_shortcuts_go_and_every_bit_stays(silent, residual, attention):
    net, x = network(silent, residual, attention)
    rates = pruning.shortcut_rates(net, x)
    silent = {k for k, rate in rates.items() if rate == 0}  # attention may have silenced more
    found = pruning.prune(net, lambda: [x[:, :2], x[:, 2:]], lambda: [x])
    assert set(found.removed) == silent and found.kept == ()
    assert found.identical and np.array_equal(found.scores_after, pruning.scores(found.network, x))
    assert np.ptp(found.scores_before) > 0
    for k, (stage, old) in enumerate(zip(found.network.stages, net.stages), 1):
        assert (stage.shortcut is None) == (k in silent) and old.shortcut is not None
    gone = sum(p.size for k in silent for p in net.stages[k - 1].shortcut.parameters())
    assert sum(p.size for p in net.parameters()) - gone == sum(p.size for p in found.network.parameters())
    before, after = energy.measure(net, x), energy.measure(found.network, x)
    of_ia = {f"stages.{k - 1}.shortcut.attention" for k in silent}
    assert after.spikes == pytest.approx(before.spikes - sum(r.spikes for r in before.layers if r.name in of_ia))
    assert (after.ac < before.ac and after.energy_mj < before.energy_mj) if silent else after.ac == before.ac


def test_a_shortcut_that_fires_makes_a_difference():
    net, x = network()
    assert not np.array_equal(pruning.scores(pruning.without(net, (1,)), x), pruning.scores(net, x))


def test_rates_are_those_of_the_report():
    net, x = network(silent=(2,))
    rates, report = pruning.shortcut_rates(net, [x[:, :1], x[:, 1:]]), energy.measure(net, x)
    assert rates == pytest.approx({k: report.rates[f"stages.{k - 1}.shortcut"] for k in (1, 2, 3)})
    assert rates[2] == 0 < min(rates[1], rates[3])


def test_silent_in_training_only_is_kept_unless_tolerated():
    net, x = network()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # only scales: without light nothing fires
            module.running_mean[...], module.running_var[...], module.bias.data[...], module.weight.data[...] = 0, 1, 0, 40
    dark = np.zeros_like(x)
    found = pruning.prune(net, lambda: [dark], lambda: [x])
    lit = tuple(k for k, rate in found.test_rates.items() if rate > 0)
    assert set(found.train_rates.values()) == {0.0} and 1 in lit
    assert found.kept == lit and set(found.removed) == {1, 2, 3} - set(lit) and found.identical
    tolerant = pruning.prune(net, lambda: [dark], lambda: [x], tolerance=1e-9)
    assert tolerant.removed == (1, 2, 3) and not tolerant.identical


@pytest.mark.parametrize(
    "residual, word",
    [
        ("and", "AND join silent"),
        ("iand", "IAND join silent"),
        ("vanilla", "batch norm"),
        ("ms", "batch norm"),
        ("none", "no shortcuts"),
    ],
)
def test_joins_that_cannot_do_without_say_why(residual, word):
    net = models.build("digits", width=8, timesteps=2, residual=residual, seed=0)
    with pytest.raises(ValueError, match=word):
        pruning.prune(net, None, None)
    with pytest.raises(ValueError, match=word):
        pruning.without(net, (1,))


def test_pruning_needs_samples():
    net, x = network()
    with pytest.raises(ValueError, match="no samples"):
        pruning.prune(net, list, lambda: [x])


# ---- the command -------------------------------------------------------------------------------------------------------


def command(capsys, *arguments):
    status = cli.main([str(a) for a in arguments] + ["--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out.splitlines()[-1]) if out and status == 0 else out, err


def test_prune_writes_a_run_that_every_command_reads(tmp_path, capsys):
    old = small_run(tmp_path / "run", model="syna-c", silent=(1, 3))
    status, result, _ = command(capsys, "prune", old.path, "--out", tmp_path / "pruned")
    assert status == 0 and {1, 3} <= set(result["pruned"]) and result["identical"] and result["changed_predictions"] == 0
    assert result["parameters_after"] < result["parameters_before"] and result["energy_mj_after"] < result["energy_mj_before"]
    assert result["ac_after"] < result["ac_before"] and result["mac_after"] < result["mac_before"]
    new = Run.open(tmp_path / "pruned")
    assert new.network().config.removed == tuple(result["pruned"]) and new.config["pruned"]["from"] == str(old.path)
    assert not any("stages.0.shortcut" in name for name in new.load()[0])
    assert len(new.metrics()) == len(old.metrics())
    x = old.dataset().test.batch(range(8))
    assert np.array_equal(pruning.scores(old.network(), x), pruning.scores(new.network(), x))
    _, energy_now, _ = command(capsys, "energy", new.path)
    assert energy_now["energy_mj"] == pytest.approx(result["energy_mj_after"])
    status, again, _ = command(capsys, "prune", new.path, "--out", tmp_path / "twice")
    assert status == 0 and again["pruned"] == [] and again["parameters_after"] == result["parameters_after"]
    assert Run.open(tmp_path / "twice").config["pruned"]["before"]["pruned"] == result["pruned"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pruned", "run", "twice"]  # no drafts left


def test_tolerance_reports_what_changes(tmp_path, capsys):
    old = small_run(tmp_path / "run")
    status, result, _ = command(capsys, "prune", old.path, "--out", tmp_path / "pruned", "--tolerance", 1)
    assert status == 0 and result["pruned"] == [1, 2, 3] and not result["identical"]
    assert 0 <= result["accuracy_after"] <= 1 and result["changed_predictions"] > 0
    assert Run.open(tmp_path / "pruned").network().config.removed == (1, 2, 3)


def test_unusable_input_is_refused_and_nothing_written(tmp_path, capsys):
    old = small_run(tmp_path / "run", model="sew-and")
    (tmp_path / "there").mkdir()
    for arguments, word in (
        (("prune", old.path, "--out", tmp_path / "new"), "AND"),
        (("prune", old.path, "--out", tmp_path / "there"), "exists"),
        (("prune", tmp_path / "no", "--out", tmp_path / "new"), "config.json"),
        (("prune", old.path, "--out", tmp_path / "new", "--tolerance", 2), "tolerance"),
    ):
        status, _, err = command(capsys, *arguments)
        assert status == 2 and word in err and err.count("\n") == 1 and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "there"]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    old = small_run(tmp_path / "run", silent=(2,))
    x = old.dataset().test.batch(range(4))
    found = pruning.prune(old.network(), lambda: [x], lambda: [x])
    monkeypatch.setattr(Run, "save_network", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UsageError, match="disk full"):
        runs.write_run(old, found.network, tmp_path / "new", "last", {})
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    with pytest.raises(UsageError, match="exists"):
        runs.check_new(tmp_path / "run")
    with pytest.raises(UsageError, match="--out: .*config.json/new cannot be written"):
        runs.write_run(old, found.network, old.path / "config.json/new", "last", {})
