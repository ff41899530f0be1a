"""`minisnn bench scale`: the model adds up what it says, its constants are found, and two ranks are measured."""

import json
import math

import numpy as np
import pytest
from test_parallel import needs_mpi

from minisnn import cli, parallel, scaling
from minisnn.errors import UsageError

HERE, NETWORK = scaling.Link(1e-6, 1e10), scaling.Link(2e-5, 1e9)
EXCHANGE = scaling.Exchange((264, 1032), 4_000_000, 0.003, 0.6)
COMPUTE = scaling.Compute(0.01, 0.002, 0.005, 0.1)


def test_the_constants_of_steps_are_found_and_never_negative():
    n, k = (v.reshape(-1) for v in np.meshgrid([1, 2, 4, 8], [1, 2]))
    found = scaling.fitted(n, k, COMPUTE.seconds(n, k))
    assert [*vars(found).values()] == pytest.approx([*vars(COMPUTE).values()])
    noisy = scaling.fitted(n, k, (0.1 * n / k) * np.array([1, 0.9, 1.1, 1, 1.1, 0.9, 1, 1]))
    assert min(vars(noisy).values()) >= 0 and noisy.each_shared == pytest.approx(0.1, rel=0.1)


def by_hand(size, machines, local):
    """Bytes that one machine's ranks receive, each from each, within it and from the others."""
    ranks = [(m, r) for m in range(machines) for r in range(local)]
    own = [rank for rank in ranks if rank[0] == 0]
    within = size * sum(a != b for a in own for b in own)
    return within, size * sum(b[0] != 0 for a in own for b in ranks)


@pytest.mark.parametrize("machines, local", [(1, 1), (1, 2), (4, 1), (3, 5)])
def test_a_gather_costs_its_rounds_and_its_bytes(machines, local):
    within, between = by_hand(800, machines, local)
    wanted = math.ceil(math.log2(local)) * 1e-6 + within / 1e10 + math.ceil(math.log2(machines)) * 2e-5 + between / 1e9
    assert scaling.gather_seconds(800, machines, local, HERE, NETWORK) == pytest.approx(wanted)


def test_a_step_is_the_sum_of_its_parts():
    one = scaling.predicted(COMPUTE, EXCHANGE, 8, 1, 1, 2, HERE, NETWORK)
    assert one["step"] == one["compute"] == pytest.approx(0.01 + 0.016 + (0.005 + 0.8) / 2) and not one["gradients"]
    many = scaling.predicted(COMPUTE, EXCHANGE, 9, 4, 1, 2, HERE, NETWORK)
    assert many["compute"] == COMPUTE.seconds(3, 2)  # nine over four: the slowest rank has three
    assert many["gradients"] == pytest.approx(0.003 + 2 * (2 * 2e-5 + 3 * 1e6 / 1e9))
    assert many["step"] == pytest.approx(many["compute"] + many["statistics"] + many["gradients"])


def test_predictions_say_what_a_change_would_save():
    rows = scaling.predictions(COMPUTE, EXCHANGE, HERE, NETWORK, 8)
    assert [row["machines"] for row in rows] == [1, 4, 16, 64]
    steps = scaling.EPOCHS * math.ceil(scaling.SAMPLES / scaling.BATCH) / 3600
    for row in rows:
        assert row["ranks"] * row["threads"] == 8 and row["hours"] == pytest.approx(steps * row["step"])
        assert row["per_rank"] == pytest.approx(steps * (row["step"] - row["statistics"]))
        assert row["hours"] - steps * row["gradients"] <= row["overlap"] + 1e-12 <= row["hours"] + 1e-12
    slower = scaling.predictions(COMPUTE, EXCHANGE, HERE, scaling.Link(2e-3, 1e8), 8)
    assert slower[0]["hours"] == rows[0]["hours"] and slower[-1]["hours"] > rows[-1]["hours"]
    assert slower[-1]["larger"] < slower[-1]["hours"]


def test_a_rank_measures_steps():
    scaling.build("digits", 0)
    found = scaling.alone(2, 1, 1)
    assert found["seconds"] > 0 and 0 < found["backward"] < 1
    plain = parallel.moments
    found = scaling.together(1)
    assert found["seconds"] > found["statistics"] >= 0 and found["layout"] == 0 and parallel.moments is plain


@needs_mpi
@pytest.mark.slow
def test_two_ranks_are_measured_and_predicted(capsys):
    words = ["bench", "scale", "--size", "digits", "--repeat", "1", "--threads", "2", "--json"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["scale"]
    (row,) = found["sizes"]
    gathers = row["exchange"]["gathers"]  # 20 batch norms twice: counts and two numbers a channel, in float64
    assert len(gathers) == 40 and min(gathers) == 8 * (2 * 16 + 1) and max(gathers) == 8 * (2 * 128 + 1)
    assert row["exchange"]["gradients"] >= 4 * 701_000 and row["two"] > row["parts"]["gradients"] > row["parts"]["layout"] > 0
    assert found["link"]["latency"] > 0 and {samples for samples, *_ in row["steps"]} == {1, 2, 4, 8, 16}


def test_what_scale_needs_is_said(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    with pytest.raises(UsageError, match=r"pip install 'minisnn\[mpi\]'"):
        scaling.mpiexec()
    assert cli.main(["bench", "scale", "--link", "0", "1e9"]) == 2 and "--link" in capsys.readouterr().err
    assert cli.main(["bench", "scale", "--threads", "1"]) == 2 and "--threads 2" in capsys.readouterr().err
