"""Training: the folder of a run, the same bits after every kind of stop, and clear ends."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_runs import complaints

from minisnn import UsageError, checkpoint, data, energy, journal, models, nn, ops, optim, train
from minisnn.data import images
from minisnn.engine import Tensor
from minisnn.runs import Run

TINY = dict(width=8, timesteps=2, epochs=3, batch_size=16, limit=48, threads=1)


@pytest.fixture(autouse=True)
def few_to_test_on(monkeypatch):
    monkeypatch.setattr(images, "TEST_SHARE", 0.02)


def silent(*_):
    pass


def run(path, **options):
    return train.train(train.Options(**TINY | options), out=path, progress=False, say=silent)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and its summary; to be read, not written."""
    before, images.TEST_SHARE = images.TEST_SHARE, 0.02
    path, lines = tmp_path_factory.mktemp("runs") / "a", []
    found = train.train(train.Options(**TINY), out=path, progress=False, say=lines.append)
    images.TEST_SHARE = before
    return path, found, "\n".join(lines)


def test_the_folder_of_a_run(finished):
    path, _found, _ = finished
    assert sorted(os.listdir(path)) == ["config.json", "firing_rates.csv", "last.npz", "metrics.csv"]
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    assert config["options"]["width"] == 8 and config["options"]["lr"] > 0 and config["options"]["seed"] == 0
    assert set(config["options"]) == {f.name for f in dataclasses.fields(train.Options)}
    assert {"minisnn", "python", "numpy", "numba"} <= set(config["versions"]) and config["dataset"]["split"]
    opened = Run.open(path)
    rows = opened.metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3] and all(math.isfinite(v) for row in rows for v in row.values())
    needed = [
        "epoch",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "seconds",
        "samples_per_second",
        "firing_rate",
    ]
    assert list(rows[0])[:8] == needed
    names, rates = opened.firing_rates()
    assert len(names) == 20 and rates.shape == (3, 20) and names[0] == "stem" and "stages.2.shortcut" in names
    with open(path / "firing_rates.csv", encoding="utf-8") as file:
        head = file.readline()
        assert head.startswith("epoch,stem,features.0") and "stages.2.shortcut in training" in head and head.count(",") == 40
    names_again, training = opened.firing_rates(training=True)
    assert (
        names_again == names and training.shape == (3, 20) and 0 < training.mean() < 1 and not np.array_equal(training, rates)
    )
    (path / "last.npz").rename(path / "aside.npz")  # then the table is read
    for mode, expected in ((True, training), (False, rates)):
        assert opened.firing_rates(mode)[0] == names and np.array_equal(opened.firing_rates(mode)[1], expected)
    (path / "aside.npz").rename(path / "last.npz")


def test_the_summary_is_what_evaluation_finds(finished):
    path, found, text = finished
    opened = Run.open(path)
    again = train.evaluate(opened.network(), opened.dataset().test, batch_size=7)
    assert again["accuracy"] == found["test_accuracy"] == opened.metrics()[-1]["test_accuracy"]
    assert found["highest_test_accuracy"] == max(row["test_accuracy"] for row in opened.metrics())
    assert found["checkpoint"] == "last" and found["validation_accuracy"] is None and found["epoch"] == 3
    assert again["report"].spikes == found["spikes"] and again["report"].energy_mj == pytest.approx(found["energy_mj"])
    for word in (
        "test accuracy",
        "spikes",
        "energy",
        "silent shortcuts",
        str(path),
        "minisnn evaluate",
        "minisnn plot",
        "samples/s",
    ):
        assert word in text
    json.dumps(found)


def test_the_repeating_command_repeats(finished):
    path, _, _ = finished
    command = Run.open(path).config["command"]
    assert command.startswith("minisnn train ") and all(
        f in command for f in ("--width 8", "--timesteps 2", "--limit 48", "--seed 0")
    )


def checkpoints(path):
    return {which: checkpoint.load(path / f"{which}.npz") for which in ("last", "best") if (path / f"{which}.npz").exists()}


def assert_same_bits(a, b):
    found, expected = checkpoints(a), checkpoints(b)
    assert found.keys() == expected.keys()
    for which in expected:
        (arrays, facts), (arrays_b, facts_b) = found[which], expected[which]
        assert arrays.keys() == arrays_b.keys()
        assert [name for name in arrays if arrays[name].tobytes() != arrays_b[name].tobytes()] == []
        assert facts["firing_rates"] == facts_b["firing_rates"] and facts["best"] == facts_b["best"]
        assert facts["last"] == facts_b["last"]
    seconds = ("seconds", "samples_per_second", "waiting")
    rows, rows_b = ([{k: v for k, v in row.items() if k not in seconds} for row in Run.open(p).metrics()] for p in (a, b))
    assert rows == rows_b
    assert (a / "firing_rates.csv").read_bytes() == (b / "firing_rates.csv").read_bytes()


def test_same_seed_same_bits_and_another_seed_others(finished, tmp_path):
    run(tmp_path / "b")
    assert_same_bits(tmp_path / "b", finished[0])
    run(tmp_path / "c", seed=1, epochs=1)
    assert Run.open(tmp_path / "c").metrics()[0]["train_loss"] != Run.open(finished[0]).metrics()[0]["train_loss"]


def interrupt_at(monkeypatch, name, call):
    """Ctrl-C at that call of a function of train.py, or of a method there; returns what undoes it."""
    *holders, name = name.split(".")
    holder = getattr(train, holders[0]) if holders else train
    calls, function = [], getattr(holder, name)

    def stop(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(holder, name, stop)
    return lambda: monkeypatch.setattr(holder, name, function)


@pytest.mark.parametrize(
    "where, call",
    [("loss_of", 2), ("loss_of", 6), ("evaluate", 2), ("Run.write_tables", 1)],
    ids=["in the first epoch", "in the second epoch", "while evaluating", "before the tables"],
)
def test_ctrl_c_then_resume_gives_the_bits_of_one_go(finished, tmp_path, monkeypatch, where, call):
    undo = interrupt_at(monkeypatch, where, call)
    with pytest.raises(KeyboardInterrupt, match="minisnn train --resume"):
        run(tmp_path / "b")
    undo()
    np.random.default_rng().random(3)
    train.resume(tmp_path / "b", progress=False, say=silent)
    assert_same_bits(tmp_path / "b", finished[0])


def test_resume_with_momentum_and_cross_entropy(tmp_path, monkeypatch):
    options = dict(optimizer="sgd", loss="ce", lr=0.05, model="ms", epochs=2)
    run(tmp_path / "a", **options)
    undo = interrupt_at(monkeypatch, "loss_of", 6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", **options)
    undo()
    train.resume(tmp_path / "b", progress=False, say=silent)
    assert_same_bits(tmp_path / "b", tmp_path / "a")


def test_a_validation_chooses_and_the_test_set_does_not(tmp_path, monkeypatch):
    options = dict(validation=0.25, epochs=4, lr=0.02, limit=64)
    found = run(tmp_path / "a", **options)
    opened = Run.open(tmp_path / "a")
    rows, (_, best) = opened.metrics(), checkpoint.load(tmp_path / "a/best.npz")
    key = [(row["validation_accuracy"], -row["validation_loss"]) for row in rows]
    chosen = rows[key.index(max(key))]
    assert found["epoch"] == best["epoch"] == chosen["epoch"] and found["checkpoint"] == opened.chosen == "best"
    assert found["validation_accuracy"] == chosen["validation_accuracy"] and found["test_accuracy"] == chosen["test_accuracy"]
    held, kept = opened.dataset(), opened.trained_on(opened.dataset())
    assert len(kept) + len(data.training_parts(held.train, opened.config["options"])[1]) == 64
    validation = data.training_parts(held.train, opened.config["options"])[1]
    assert train.evaluate(opened.network(), validation)["accuracy"] == chosen["validation_accuracy"]
    with open(tmp_path / "a/metrics.csv", encoding="utf-8") as file:
        assert file.readline().rstrip().endswith("waiting,validation_loss,validation_accuracy")
    undo = interrupt_at(monkeypatch, "Training.save", 2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", **options)
    undo()
    train.resume(tmp_path / "b", progress=False, say=silent)
    assert_same_bits(tmp_path / "b", tmp_path / "a")


def test_the_choice_is_deaf_to_the_test_set(tmp_path, monkeypatch):
    """Whatever the test set says, the chosen epoch is the same."""
    options, told = dict(validation=0.25, epochs=4, lr=0.02, limit=64), []
    for turn in (1, -1):
        real = train.Training.evaluate

        def evaluate(self, samples, what, real=real, turn=turn):
            found = real(self, samples, what)
            return found | {"accuracy": 0.5 + turn * self.epoch / 10} if what == "test" else found

        with monkeypatch.context() as patch:
            patch.setattr(train.Training, "evaluate", evaluate)
            told.append(run(tmp_path / f"{turn}", **options)["epoch"])
    assert told[0] == told[1]


def test_held_out_samples_are_a_share_of_each_class_and_windows_stay_together():
    labels = np.repeat([0, 1, 2], [40, 20, 1])
    samples = data.Samples()
    samples.labels, samples.size, samples.timesteps = labels, (1, 2, 2), 1
    options = {"limit": None, "seed": 0, "split_seed": 3, "validation": 0.25}
    kept, held = data.training_parts(samples, options)
    assert np.bincount(held.labels, minlength=3).tolist() == [10, 5, 0] and not set(kept.indices) & set(held.indices)
    assert len(kept) + len(held) == 61 and not np.array_equal(
        held.indices, data.training_parts(samples, options | {"split_seed": 4})[1].indices
    )
    samples.groups = np.arange(61) // 4  # windows of one recording
    kept, held = data.training_parts(samples, options)
    assert not set(kept.groups) & set(held.groups) and len(kept) + len(held) == 61
    samples.groups = labels
    with pytest.raises(UsageError, match="--validation: each class has a single recording"):
        data.training_parts(samples, options)
    assert data.training_parts(samples, options | {"validation": None}) == (samples, None)


def as_an_earlier_version(path):
    """Turn the folder of a run into what a version without --validation would have written."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    for name in ("validation", "recalibrate", "recipe", "ema"):
        del config["options"][name]
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    arrays, facts = checkpoint.load(path / "last.npz")
    facts["best"] = facts.pop("last") | {"epoch": 1}
    checkpoint.save(path / "last.npz", arrays, facts)
    checkpoint.save(path / "best.npz", arrays, facts | {"epoch": 1})


def test_an_earlier_versions_folder_opens_and_says_what_it_is(tmp_path):
    expected = run(tmp_path / "a", recalibrate=0)
    as_an_earlier_version(tmp_path / "a")
    opened = Run.open(tmp_path / "a")
    assert train.options_of(opened).recalibrate == 0
    assert opened.chosen == "last" and "highest test accuracy; the last epoch is read" in opened.note()
    assert opened.network("best") and not opened.note("best").endswith("read")
    again = train.resume(tmp_path / "a", progress=False, say=silent)
    for name in ("test_accuracy", "spikes", "energy_mj", "checkpoint", "epoch"):
        assert again[name] == expected[name], name


def test_without_a_validation_there_is_no_best(finished):
    opened = Run.open(finished[0])
    assert opened.note() == "" and opened.accuracies()["highest_test_accuracy"] == finished[1]["highest_test_accuracy"]
    with pytest.raises(UsageError, match=r"has no best\.npz, since nothing chose an epoch"):
        opened.network("best")


def test_a_finished_run_resumes_to_its_summary(finished, tmp_path):
    path, found, _ = finished
    lines = []
    again = train.resume(path, progress=False, say=lines.append)
    assert again["test_accuracy"] == found["test_accuracy"] and "nothing is left to do" in "\n".join(lines)


def command_line(*arguments):
    return [sys.executable, "-m", "minisnn", *map(str, arguments)]


def heed_interrupts():
    # Whoever runs these tests in the background of a shell script hands down that Ctrl-C is to be ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# Windows ends a process at once for either, and knows no such function.
HEEDFUL = {} if os.name == "nt" else {"preexec_fn": heed_interrupts}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "Ctrl-C"])
def test_killed_then_resumed(tmp_path, how):
    if how == "Ctrl-C" and os.name == "nt":
        pytest.skip("Windows has other signals")
    options = ["--width", "8", "-T", "2", "--epochs", "6", "-b", "16", "--limit", "160", "--threads", "1"]
    subprocess.run(command_line("train", *options, "--out", tmp_path / "a"), check=True, capture_output=True)
    victim = subprocess.Popen(
        command_line("train", *options, "--out", tmp_path / "b"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **HEEDFUL,
    )
    while not (tmp_path / "b/metrics.csv").exists():
        assert victim.poll() is None
        time.sleep(0.01)
    victim.kill() if how == "kill" else victim.send_signal(signal.SIGINT)
    error = victim.communicate()[1]
    assert victim.returncode == 130 if how == "Ctrl-C" else victim.returncode != 0
    if how == "Ctrl-C":
        assert "minisnn train --resume" in error and "Traceback" not in error
    assert 1 <= checkpoint.load(tmp_path / "b/last.npz")[1]["epoch"] < 6
    subprocess.run(command_line("train", "--resume", tmp_path / "b"), check=True, capture_output=True)
    assert_same_bits(tmp_path / "b", tmp_path / "a")


def test_a_loss_that_is_no_number_stops_with_a_mend(tmp_path, monkeypatch):
    def spoil(self):
        if self.steps == 4:
            self.parameters[-1].data[:] = np.nan
        return step(self)

    step = optim.Adam.step
    monkeypatch.setattr(optim.Adam, "step", spoil)
    with pytest.raises(
        UsageError, match=r"parameter head.bias holds NaN or infinity: in epoch 2, batch 2; lower --lr .*last good epoch, 1"
    ) as error:
        run(tmp_path / "a")
    assert "\n" not in str(error.value)
    arrays, facts = checkpoint.load(tmp_path / "a/last.npz")
    assert facts["epoch"] == 1 and all(np.isfinite(a).all() for a in arrays.values())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_input_that_is_no_number_is_said_in_its_batch(tmp_path, monkeypatch, value):
    real = images.Images.batch

    def batch(self, indices, rng=None):
        x = real(self, indices, rng)
        if rng is not None and 7 in indices:
            x = np.array(x)
            x[-1, list(indices).index(7), 0, 0, 0] = value
        return x

    monkeypatch.setattr(images.Images, "batch", batch)
    with pytest.raises(UsageError, match=r"the input holds NaN or infinity: in epoch 1, batch \d"):
        run(tmp_path / "a", limit=None, validation=None)


def test_a_broken_weight_that_spikes_swallow_is_said_in_its_batch(tmp_path, monkeypatch):
    def spoil(self):
        step(self)
        if self.steps == 2:  # behind a neuron that never fires, the loss would stay finite
            self.parameters[0].data[0] = np.inf

    step = optim.Adam.step
    monkeypatch.setattr(optim.Adam, "step", spoil)
    with pytest.raises(UsageError, match="parameter stem.conv.weight holds NaN or infinity: in epoch 1, batch 2"):
        run(tmp_path / "a")


def test_recalibrated_statistics_are_means_over_batches_and_nothing_else_changes():
    net = models.build("digits", width=8, timesteps=2, seed=0)
    d = data.load("digits", timesteps=2)
    batches = [np.array(d.train.batch(np.arange(k, k + 16))) for k in (0, 16, 32)]
    before, modes = net.state_dict(), [module.training for module in net.modules()]
    net.features[0].train(False)
    train.recalibrate(net, batches)
    after = net.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before if "running" not in name)
    each = [ops.conv2d(Tensor(x), net.stem.conv.weight, 1, 1).data for x in batches]
    means = np.mean([y.mean((0, 1, 3, 4)) for y in each], 0)
    assert after["stem.norm.running_mean"] == pytest.approx(means, abs=1e-5)
    assert after["stem.norm.running_var"] == pytest.approx(np.mean([y.var((0, 1, 3, 4), ddof=1) for y in each], 0), rel=1e-4)
    assert not net.features[0].norm.training and net.stem.norm.training and len(modes)
    assert net.stem.norm.momentum == 0.1
    train.recalibrate(net, batches)  # whatever the statistics were
    assert all(np.array_equal(after[name], array) for name, array in net.state_dict().items())


def test_recalibration_changes_evaluations_alone(tmp_path, monkeypatch):
    assert train.Options().recalibrate == 20
    run(tmp_path / "a", recalibrate=2)
    run(tmp_path / "plain", recalibrate=0)
    rows, plain = (Run.open(tmp_path / name).metrics() for name in ("a", "plain"))
    for name in ("train_loss", "train_accuracy"):
        assert [row[name] for row in rows] == [row[name] for row in plain]
    assert [row["test_loss"] for row in rows] != [row["test_loss"] for row in plain]
    undo = interrupt_at(monkeypatch, "recalibrate", 2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", recalibrate=2)
    undo()
    train.resume(tmp_path / "b", progress=False, say=silent)
    assert_same_bits(tmp_path / "b", tmp_path / "a")


def test_numbers_that_overflow_are_said_once(tmp_path):
    options = ["--width", "8", "-T", "2", "--epochs", "3", "--limit", "64", "--lr", "1e30", "--warmup", "0"]
    found = subprocess.run(command_line("train", *options, "--out", tmp_path / "a"), capture_output=True, text=True)
    lines = complaints(found.stderr)
    assert found.returncode == 2 and len(lines) == 1 and "lower --lr" in lines[0]


def test_removed_shortcuts_and_every_system(tmp_path):
    for name in models.SYSTEMS:
        assert models.build("digits", width=8, **{k: v for k, v in train.Options(model=name).network().items() if k != "width"})
    found = run(tmp_path / "a", removed=(1, 3), epochs=1)
    net = Run.open(tmp_path / "a").network()
    assert [stage.shortcut is None for stage in net.stages] == [True, False, True] and 1 not in found["silent_shortcuts"]
    with pytest.raises(UsageError, match="--remove"):
        run(tmp_path / "b", model="sew-and", removed=(1,))
    assert not (tmp_path / "b").exists()


def test_gain_is_where_batch_norms_start():
    d = data.load("digits", timesteps=2)
    net, config = train.new_network(train.Options(**TINY, gain=1.25), d)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20 and all((m.weight.data == 1.25).all() and not m.bias.data.any() for m in norms)
    plain = models.build(**config)
    assert np.array_equal(plain.stem.conv.weight.data, net.stem.conv.weight.data)


def test_the_progress_bar_fits_into_80_columns(monkeypatch):
    import io

    class Terminal(io.StringIO):
        isatty = lambda self: True  # noqa: E731

    for columns in (80, 120):
        monkeypatch.setattr(train.shutil, "get_terminal_size", lambda columns=columns: os.terminal_size((columns, 24)))
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        options = train.Options(**TINY)
        d = options.load()
        training = train.Training(options, train.new_network(options, d)[0], d)
        with train.progress_bar(training, True) as bar:
            training.run_epoch(bar)
            bar.refresh()
        last = terminal.getvalue().split("\r")[-1].rstrip()
        assert len(last) <= columns
        for word in ("samples/s", "loss", "accuracy", "firing rate 0.", "left"):
            assert word in last


def test_default_folders_count_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [run(None, epochs=1, limit=16, model="plain")["run"] for _ in range(2)]
    assert names == [os.path.join("runs", f"digits-plain-{n}") for n in (1, 2)]


def test_the_loss_falls(tmp_path):
    run(tmp_path / "a", epochs=8, limit=64, augment=False, batch_size=8)
    losses = [row["train_loss"] for row in Run.open(tmp_path / "a").metrics()]
    assert losses[-1] < 0.9 * losses[0]


def test_evaluation_by_hand():
    d = data.load("digits", timesteps=2)
    net = models.build("digits", width=8, timesteps=2, seed=0)
    found = train.evaluate(net, d.test, batch_size=16)
    net.eval()
    scores = net(Tensor(np.array(d.test.batch(np.arange(len(d.test)))))).data
    right = scores.argmax(1) == d.test.labels
    assert found["accuracy"] == right.mean() and np.trace(found["confusion"]) == right.sum()
    assert np.array_equal(found["confusion"].sum(1), np.bincount(d.test.labels, minlength=10))
    assert found["loss"] == pytest.approx(np.mean((scores - np.eye(10)[d.test.labels]) ** 2), rel=1e-4)
    assert found["class_accuracy"][3] == right[d.test.labels == 3].mean()
    whole = energy.measure(net, np.array(d.test.batch(np.arange(len(d.test)))))
    assert found["report"].spikes == pytest.approx(whole.spikes) and found["report"].ac == pytest.approx(whole.ac)
    limited = train.evaluate(net, d.test, limit=5)
    assert limited["report"].samples == 5 and np.isnan(limited["class_accuracy"]).any()


def test_a_step_of_the_engine_takes_frames_as_a_view():
    d = data.load("digits", timesteps=4)
    x = d.train.batch(np.arange(4))
    net = models.build("digits", width=8, timesteps=4, seed=0)
    assert Tensor(x).storage.strides[0] == 0  # one image in memory, not T
    net(Tensor(x)).sum().backward()
    view = net.stem.conv.weight.grad
    net.zero_grad()
    net(Tensor(np.array(x))).sum().backward()
    assert np.array_equal(view, net.stem.conv.weight.grad)


def test_the_scores_of_steps_and_the_loss_of_each():
    net = models.build("digits", width=8, timesteps=2, seed=0).eval()
    x = np.array(data.load("digits", timesteps=2).test.batch(np.arange(5)))
    steps, labels = net.steps(x), np.array([3, 1, 4, 1, 5])
    assert steps.shape == (2, 5, 10) and np.array_equal(steps.mean(0).data, net(x).data)
    each = [ops.cross_entropy(Tensor(steps.data[t]), labels).item() for t in range(2)]
    assert train.loss_of(steps, labels, "tet").item() == pytest.approx(np.mean(each), rel=1e-6)
    assert train.loss_of(net(x), labels, "tet").item() == train.loss_of(net(x), labels, "ce").item()


SMALL = {
    "tet": dict(loss="tet"),
    "clip": dict(clip=0.01),
    "weight decay": dict(weight_decay=0.1),
    "ema": dict(ema=0.9, recalibrate=1),
    "dropout": dict(dropout=0.5),
    "pytorch's start": dict(start="pytorch"),
    "normalize": dict(normalize=True),
}


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_each_small_option_changes_the_run_and_resumes_to_its_bits(options, finished, tmp_path, monkeypatch):
    found = run(tmp_path / "a", epochs=2, **options)
    plain = Run.open(finished[0])
    name = "test_loss" if "ema" in options else "train_loss"
    assert [row[name] for row in Run.open(tmp_path / "a").metrics()] != [row[name] for row in plain.metrics()[:2]]
    undo = interrupt_at(monkeypatch, "loss_of", 6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", epochs=2, **options)
    undo()
    train.resume(tmp_path / "b", progress=False, say=silent)
    assert_same_bits(tmp_path / "b", tmp_path / "a")
    opened = Run.open(tmp_path / "a")
    again = train.evaluate(opened.network(), opened.dataset().test, loss=options.get("loss", "mse"))
    assert again["accuracy"] == found["test_accuracy"] and again["loss"] == pytest.approx(found["test_loss"])


def test_the_running_mean_by_hand(tmp_path, monkeypatch):
    seen, step = [], optim.AdamW.step

    def spy(self):
        step(self)
        seen.append(self.parameters[-1].data.copy())

    options = train.Options(**TINY | dict(epochs=1, ema=0.5))
    d = options.load()
    net, _ = train.new_network(options, d)
    mean = net.head.bias.data.copy()
    monkeypatch.setattr(optim.AdamW, "step", spy)
    training = train.Training(options, net, d)
    training.step(train.NoBar())
    for n, bias in enumerate(seen, 1):
        share = min(0.5, (1 + n) / (10 + n))
        mean = share * mean + (1 - share) * bias
    assert training.average["head.bias"] == pytest.approx(mean, rel=1e-5)
    assert np.array_equal(net.head.bias.data, seen[-1]) and not np.allclose(mean, seen[-1], rtol=1e-4)


def test_the_papers_recipe():
    """Table X, and what the options given say before it."""
    rows = {
        "dvsgesture": (1e-4, 32, 32, 1000, False, False),
        "cifar10dvs": (1e-3, 16, 128, 500, True, False),
        "mnist": (1e-2, 16, 128, 100, False, False),
        "fashion-mnist": (1e-2, 16, 128, 100, True, True),
    }
    for name, row in rows.items():
        o = train.Options(dataset=name, recipe="paper")
        assert (o.lr, o.timesteps, o.batch_size, o.epochs, o.augment, o.normalize) == row, name
        assert (o.width, o.start, o.gain, o.warmup, o.recalibrate) == (64, "pytorch", 1.0, 0.0, 0)
        assert (o.loss, o.optimizer) == ("mse", "adam")
    assert train.Options(dataset="mnist", recipe="paper", epochs=2, start="open").network().get("start", "open") == "open"
    with pytest.raises(UsageError, match="--recipe: the paper does not train on digits; .* mnist"):
        train.Options(recipe="paper")


def test_pytorchs_start_has_weights_of_both_signs():
    for start, signs in (("open", {1}), ("pytorch", {-1, 1})):
        net = models.build("digits", attention="s", width=8, timesteps=2, seed=0, start=start)
        weights = [m.weights[0].data for m in net.modules() if isinstance(m, nn.Attention)]
        assert {int(s) for w in weights for s in np.sign(w).ravel()} == signs
    with pytest.raises(ValueError, match="start is 'shut'"):
        models.build("digits", start="shut")


def test_a_stratified_limit_draws_from_each_class_alike():
    samples = data.Samples()
    samples.labels, samples.size, samples.timesteps = np.repeat([0, 1, 2], [60, 30, 10]), (1, 2, 2), 1
    for limit in (10, 20, 37, 50):
        counts = np.bincount(data.limited(samples, limit, 0, stratified=True).labels, minlength=3)
        assert counts.sum() == limit and (abs(counts - limit * np.array([0.6, 0.3, 0.1])) <= 1).all()
    drawn = [data.limited(samples, 20, seed, stratified=True).indices for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    skewed = [np.bincount(data.limited(samples, 20, seed).labels, minlength=3).tolist() for seed in range(9)]
    assert skewed != [[12, 6, 2]] * 9
    options = {"limit": 20, "seed": 0, "stratified": True, "split_seed": 0}
    assert np.bincount(data.training_parts(samples, options)[0].labels).tolist() == [12, 6, 2]


class Noted:
    """Stands in for tensorboardX's writer."""

    made: list = []

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge, self.scalars, self.histograms, self.closed = folder, purge_step, {}, {}, False
        self.made.append(self)

    def flush(self):
        pass

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def add_histogram(self, name, array, step):
        self.histograms[name, step] = array

    def close(self):
        self.closed = True


def test_what_is_logged_is_what_the_tables_say(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "writer", lambda: Noted)
    monkeypatch.setattr(Noted, "made", [])
    undo = interrupt_at(monkeypatch, "loss_of", 6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", log="tensorboard", epochs=2)
    undo()
    train.resume(tmp_path / "a", progress=False, say=silent)
    first, second = Noted.made
    assert first.closed and second.closed and (first.purge, second.purge) == (None, 2)
    assert second.folder == f"{tmp_path / 'a'}/tensorboard"
    opened = Run.open(tmp_path / "a")
    rows, (names, rates), (_, training) = opened.metrics(), opened.firing_rates(), opened.firing_rates(training=True)
    for k, log in enumerate((first, second)):
        assert log.scalars["accuracy/test", k + 1] == rows[k]["test_accuracy"]
        assert log.scalars["lr", k + 1] == rows[k]["lr"]
        assert log.scalars[f"firing_rate/{names[3]}", k + 1] == rates[k, 3]
        assert log.scalars[f"firing_rate_in_training/{names[3]}", k + 1] == training[k, 3]
    assert np.array_equal(second.histograms["head/weight", 2], opened.network().head.weight.data)


def test_the_package_of_a_log_is_asked_for_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"--log tensorboard needs the package tensorboardX; install it: pip install"):
        run(tmp_path / "a", log="tensorboard")
    assert not (tmp_path / "a").exists()


def test_tensorboards_own_files(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    run(tmp_path / "a", log="tensorboard", epochs=1)
    (file,) = (tmp_path / "a/tensorboard").iterdir()
    content = file.read_bytes()
    for tag in (b"accuracy/test", b"firing_rate/stem", b"firing_rate_in_training/stem", b"head/weight"):
        assert tag in content
