"""Figures: which a run has, what they are drawn from, and the command that writes them."""

import json
import struct

import numpy as np
import pytest
from small_runs import fire, small_run

from minisnn import UsageError, cli, energy, figures, models, ops
from minisnn.figures import activity, plots, run
from minisnn.runs import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of three systems, and one with other time steps."""
    path = tmp_path_factory.mktemp("runs")
    for model in ("syna-t", "or", "sew-add", "vanilla", "ms", "plain", "syna-s"):
        small_run(path / model, model=model, silent=(2,) if model == "syna-t" else ())
    small_run(path / "longer", timesteps=3)
    return path


def pixels(path):
    """(width, height) of a PNG file."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def subject(path):
    return figures.Subject(Run.open(path), limit=32)


@pytest.mark.parametrize("model", ["syna-t", "ms", "vanilla", "plain"])
def test_plot_writes_every_figure_that_the_run_has(folder, capsys, model, tmp_path):
    assert cli.main(["plot", str(folder / model), "--limit", "16", "--out", str(tmp_path / "figures"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = sorted(p.stem for p in (tmp_path / "figures").iterdir())
    assert names == sorted(set(figures.NAMES) - (set() if "syna" in model else {"attention"}))
    assert sorted(found["figures"]) == sorted(str(tmp_path / "figures" / f"{name}.png") for name in names)
    for path in (tmp_path / "figures").iterdir():
        width, height = pixels(path)
        assert 500 <= width <= 3000 and 200 <= height <= 3000, path


def test_plot_writes_into_the_run_and_compares(folder, capsys):
    assert (
        cli.main(
            [
                "plot",
                str(folder / "or"),
                "--compare",
                str(folder / "sew-add"),
                str(folder / "syna-t"),
                "--only",
                "spike_intensity",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert [p.name for p in (folder / "or" / "figures").iterdir()] == ["spike_intensity.png"]
    (alone,), (beside,) = (
        list(figures.of_run(subject(folder / "or"), compare, only=["spike_intensity"]))
        for compare in ((), [subject(folder / "sew-add"), subject(folder / "syna-t")])
    )
    heat = [len(drawing.figure.axes) for drawing in (alone, beside)]
    assert heat == [2 * 2 + 1, 4 * 2 + 1]  # input and runs, two steps each, and the colour bar


def test_wrong_choices_are_named(folder, capsys):
    run = str(folder / "or")
    for wrong, word in (
        (["--sample", "9999"], "9999"),
        (["--steps", "3"], "--steps"),
        (["--only", "cake"], "cake"),
        (["--layer", "nowhere"], "stages.0.main.1"),
        (["--neurons", "99,0,0"], "99,0,0"),
        (["--neurons", "1,2"], "CHANNEL,ROW,COLUMN"),
        (["--compare", str(folder / "longer")], "time steps"),
        (["--compare", str(folder / "no")], "config.json"),
    ):
        assert cli.main(["plot", run, *wrong, "--limit", "8"]) == 2
        err = capsys.readouterr().err
        assert word in err and err.count("\n") == 1


def test_spikes_behind_the_join_are_spikes(folder):
    for model in ("or", "vanilla", "ms", "plain", "sew-add"):
        one = subject(folder / model)
        x = one.sample(1)[0]
        map_ = run.joined(one.net, activity.watch(one.net, x))
        assert map_.shape == (2, 1, 16, 8, 8)
        assert set(np.unique(map_)) <= ({0.0, 1.0, 2.0} if model == "sew-add" else {0.0, 1.0}) and map_.max() > 0


def test_steps_are_those_of_the_paper():
    assert run.chosen_steps(32) == [1, 8, 16, 24, 32]
    assert run.chosen_steps(1) == [1] and run.chosen_steps(4) == [1, 2, 3, 4]


def test_watching_changes_nothing_and_sees_what_happened():
    net = models.build("digits", width=8, timesteps=4, attention="t", seed=1)
    x = np.random.default_rng(0).random((4, 2, 1, 8, 8), dtype=np.float32) * 4
    fire(net, x)
    before, report = net(x).data, energy.measure(net, x)
    seen = activity.watch(net, x)
    assert np.array_equal(net(x).data, before)
    assert list(seen.spikes) == list(report.rates)
    for name, spikes in seen.spikes.items():
        assert spikes.mean() == pytest.approx(report.rates[name])
        again = activity.potentials(seen.currents[name], **seen.neurons[name])
        assert np.mean((again >= 1.0) != (spikes > 0)) < 1e-4  # float64 against float32: a threshold may be met by a hair
    modules = {name for name, _ in net.named_modules() if name.endswith(".attention")}
    assert {f"{name}.attention" for name in seen.scores} == modules
    for name, scores in seen.scores.items():
        assert scores.shape == (2, 4) and (set(np.unique(scores)) <= {0.0, 1.0} if "shortcut" in name else (scores > 0).all())
    for k in range(3):
        main, short = (seen.spikes[f"stages.{k}.{part}"] for part in ("main.1", "shortcut"))
        assert np.array_equal(seen.joins[k] > 0, (main + short) > 0)


@pytest.mark.parametrize("options", [{}, {"tau": 3.0}, {"v_reset": None}, {"decay_input": False}])
def test_potentials_cross_the_threshold_where_the_neurons_fire(options):
    current = np.random.default_rng(0).normal(1.0, 1.0, (6, 3, 2, 4, 4))
    u = activity.potentials(current, **options)
    assert np.array_equal(u >= 1.0, ops.lif(figures_tensor(current), **options).data > 0)


def figures_tensor(array):
    from minisnn import Tensor

    return Tensor(array, dtype="float64")


def test_chosen_neurons_go_from_busy_to_silent():
    spikes = np.zeros((5, 2, 2, 2))
    spikes[:, 0, 0, 0], spikes[0, 1, 1, 1] = 1, 1
    current = np.zeros_like(spikes)
    current[2, 0, 1, 1] = 0.9
    assert plots.chosen_neurons(current, spikes)[0] == (0, 0, 0) and plots.chosen_neurons(current, spikes)[-1] == (0, 1, 1)


def test_the_circle_is_round_the_epoch_that_training_keeps():
    columns = dict(
        epoch=[1, 2, 3, 4],
        train_loss=[4, 3, 2, 1],
        train_accuracy=[0.1, 0.2, 0.3, 0.4],
        firing_rate=[0.1] * 4,
        test_accuracy=[0.5, 0.9, 0.9, 0.8],
        test_loss=[0.4, 0.3, 0.2, 0.1],
    )
    figure = plots.training_curves(columns)
    assert figure.axes[1].get_title() == "Accuracy (last: 80.00 %)"  # the test set chooses nothing
    columns |= dict(
        validation_accuracy=[0.2, 0.7, 0.7, 0.1], validation_loss=[0.4, 0.3, 0.2, 0.1], test_accuracy=[0.5, 0.9, 0.6, 0.8]
    )
    figure = plots.training_curves(columns)
    assert figure.axes[1].get_title() == "Accuracy (circle, by validation: 60.00 % in epoch 3)"  # the 2nd has a higher loss


def test_the_thermogram_says_since_when_a_shortcut_is_silent():
    names = ["stem", "stages.0.shortcut", "stages.1.shortcut"]
    figure = plots.thermogram([[0.1, 0.1, 0.0], [0.1, 0.0, 0.0], [0.1, 0.0, 0.2]], names)
    titles = [axes.get_title() for part in figure.subfigs for axes in part.axes]
    assert "stage 1 shortcut: silent from epoch 2" in titles and "stage 2 shortcut: 0.2000 at the end" in titles


def test_a_run_without_epochs_has_no_curves(folder, tmp_path):
    one = subject(folder / "or")
    one.run = type("Run", (), {"metrics": lambda self: [], "firing_rates": lambda self: ([], np.zeros((0, 0)))})()
    assert run.training_curves(one, {}) is None and run.thermogram(one, {}) is None
    with pytest.raises(UsageError, match="no layer"):
        list(figures.of_run(subject(folder / "or"), layer="x", only=["membranes"]))
