"""The simulator: the same seed gives the same events, levels are kept count of, and circles differ in nothing but order."""

import json

import numpy as np
import pytest

from minisnn import data
from minisnn.cli import main
from minisnn.data import gestures
from minisnn.data.frames import to_frames

CIRCLES = [(3, 4), (5, 6)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINISNN_CACHE", str(tmp_path / "cache"))


def image(events, polarity, size=32):
    """Number of events of one polarity in each pixel."""
    chosen = events[events["p"] == polarity]
    return np.bincount(chosen["y"].astype(int) * size + chosen["x"], minlength=size * size).reshape(size, size)


@pytest.mark.parametrize("label", range(len(gestures.CLASSES)))
def test_a_seed_gives_one_recording_in_tonics_form(label):
    one, same, other = (gestures.simulate(label, seed) for seed in (7, 7, 8))
    assert (one == same).all() and (len(one) != len(other) or (one != other).any())
    assert one.dtype.names == ("x", "y", "t", "p") and (np.diff(one["t"]) >= 0).all() and one["t"][0] >= 0
    assert min(one["x"].min(), one["y"].min()) >= 0 and max(one["x"].max(), one["y"].max()) < 32
    assert 1000 < len(one) < 20_000 and 0.4 < one["p"].mean() < 0.6 and 0.8e6 * 0.9 < one["t"][-1] < 1.2e6


def test_events_are_the_crossings_of_levels():
    picture = gestures.film(8, np.random.default_rng(3))
    offsets = np.random.default_rng(4).random(picture.shape[1:])
    events = gestures.film_events(picture, 10**6, offsets)
    number = np.floor(picture / gestures.THRESHOLD + offsets).astype(int)
    assert (image(events, 1) - image(events, 0) == number[-1] - number[0]).all()
    assert len(events) == abs(np.diff(number, axis=0)).sum()
    for k in (30, 60):  # up to any film step as many crossings as levels passed
        before = events[events["t"] < k * 10**6 // gestures.STEPS]
        assert abs((image(before, 1) - image(before, 0)) - (number[k] - number[0])).sum() <= 2  # whole microseconds


def test_one_pixel_that_brightens_and_darkens():
    picture = np.array([0.0, 1.0, 1.0, 0.0], np.float32).reshape(4, 1, 1)
    events = gestures.film_events(picture, 3000, np.full((1, 1), 0.5))  # levels at 1/8, 3/8, 5/8, 7/8 of the rise
    assert events["t"].tolist() == [125, 375, 625, 875, 2125, 2375, 2625, 2875]
    assert events["p"].tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("clockwise, counter", CIRCLES)
@pytest.mark.parametrize("seed", [0, 1])
def test_circles_differ_in_nothing_but_order(clockwise, counter, seed):
    there, back = (gestures.film(label, np.random.default_rng(seed)) for label in (clockwise, counter))
    assert np.abs(there - back[::-1]).max() < 1e-5  # one film backwards is the other
    offsets = np.random.default_rng(seed).random(there.shape[1:], np.float32)
    a, b = (gestures.film_events(np.round(film, 4), 960_000, offsets) for film in (there, back))
    for polarity in (0, 1):
        assert (image(a, polarity) == image(b, polarity)).all() and image(a, polarity).sum() > 500
    assert (image(a, 0) == image(a, 1)).all()  # a whole number of turns
    forward, backward = (to_frames(events, 8, (32, 32), "time", span=(0, 960_000)).astype(int) for events in (a, b))
    assert abs(forward - backward[::-1, ::-1]).sum() < 0.02 * len(a)  # slices in reverse, on and off swapped
    assert abs(forward - backward).sum() > 0.3 * len(a)


def test_contrast_takes_both_signs_so_that_polarity_tells_no_direction():
    brighter = [gestures.film(3, np.random.default_rng(seed)).sum() > 0 for seed in range(60)]
    assert 15 < sum(brighter) < 45


def test_a_room_without_a_person_shows_noise_alone():
    assert len(gestures.film_events(np.zeros((5, 8, 8), np.float32), 10**6, np.zeros((8, 8)))) == 0
    assert len(gestures.simulate(0, 0, noise=5)) > len(gestures.simulate(0, 0, noise=0)) + 3000


def test_another_sensor_sees_the_same_scene():
    large = gestures.simulate(3, 5, size=64)
    assert large["x"].max() > 32 and len(large) > 2 * len(gestures.simulate(3, 5))


@pytest.mark.parametrize("arguments", [(11, 0), (-1, 0), (0, 0, 4), (0, 0, 32, -1)])
def test_what_makes_no_sense_is_refused(arguments):
    with pytest.raises(ValueError, match="give a label"):
        gestures.simulate(*arguments)


def test_the_data_set_is_balanced_and_its_parts_are_different_draws():
    dataset = data.load("gestures")
    assert (len(dataset.train), len(dataset.test), len(dataset.classes)) == (1100, 220, 11)
    assert (np.bincount(dataset.train.labels) == 100).all() and (np.bincount(dataset.test.labels) == 20).all()
    assert dataset.train.size == (2, 32, 32) and dataset.train.timesteps == 8 and dataset.preset == "gestures"
    x = dataset.train.batch([0, 1])
    assert x.shape == (8, 2, 2, 32, 32) and (x[:, :1] != dataset.test.batch([0])).any()
    assert (x == dataset.train.batch([0, 1])).all() and dataset.train.cache.hits == 2
    assert (data.load("gestures", seed=1).train.batch([0]) != x[:, :1]).any()


def test_a_run_can_be_evaluated_with_its_time_shuffled(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert (
        main(
            [
                "train",
                "--dataset",
                "gestures",
                "--model",
                "syna-t",
                "--width",
                "8",
                "-T",
                "4",
                "--epochs",
                "1",
                "--limit",
                "32",
                "--frame-size",
                "16",
                "--split-seed",
                "3",
                "--out",
                run,
            ]
        )
        == 0
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["dataset"]["simulator_seed"] == 3 and config["options"]["data_options"] == {"frame_size": 16}
    capsys.readouterr()
    results = []
    for extra in ([], ["--shuffle-time"]):
        assert main(["evaluate", run, "--limit", "44", "--json", *extra]) == 0
        results.append(json.loads(capsys.readouterr().out.strip().splitlines()[-1]))
    ordered, shuffled = results
    assert (ordered["shuffle_time"], shuffled["shuffle_time"]) == (False, True) and ordered["samples"] == shuffled[
        "samples"
    ] == 44
    assert ordered["spikes"] != shuffled["spikes"]
