"""`minisnn bench`: every section runs, and accounts for the time that it measures."""

import json

import pytest

from minisnn import bench, cli

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
