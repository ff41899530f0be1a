"""Paired differences: Student's distribution, intervals and verdicts by hand; the command."""

import csv
import json
import math

import pytest

from minisnn import UsageError, cli, paired
from minisnn.paired import CANNOT_TELL, DOES_NOT_HOLD, HOLDS


@pytest.mark.parametrize("degrees, t", [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227)])
def test_quantiles_as_printed_in_every_textbook(degrees, t):
    assert paired.quantile(0.95, degrees) == pytest.approx(t, rel=2e-6)
    assert paired.within(paired.quantile(0.8, degrees), degrees) == pytest.approx(0.8)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 6, 7, 20])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5])
def test_the_distribution_is_the_integral_of_its_density(degrees, t):
    """Gamma((n + 1) / 2) / (sqrt(n pi) Gamma(n / 2)) (1 + x^2 / n)^(-(n + 1) / 2), by the midpoint rule from -t to t."""
    scale = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
    steps = 4000
    points = ((k + 0.5) / steps * t for k in range(steps))
    area = 2 * t / steps * sum(scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2) for x in points)
    assert paired.within(t, degrees) == pytest.approx(area, abs=1e-6)


def test_a_difference_by_hand():
    """1, 2 and 3 between the pairs: mean 2, deviation 1, so 2 -+ 4.30265 / sqrt(3). Seeds of one side alone do not count."""
    found = paired.difference({0: 11, 1: 22, 2: 33, 7: 0}, {2: 30, 0: 10, 1: 20, 8: 0})
    assert found.pairs == 3 and found.mean == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2 - 2.484137, 2 + 2.484137), abs=1e-5)
    narrow = paired.difference({0: 11, 1: 22, 2: 33}, {0: 10, 1: 20, 2: 30}, confidence=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.816497 / math.sqrt(3), abs=1e-5)


def test_a_relative_difference_is_that_of_logarithms():
    found = paired.difference({0: 2.0, 1: 8.0}, {0: 1.0, 1: 2.0}, relative=True)  # ratios 2 and 4
    assert found.mean == pytest.approx(math.sqrt(8) - 1)
    half = 12.7062 * math.log(2) / math.sqrt(2) / math.sqrt(2)
    assert found.high == pytest.approx(math.sqrt(8) * math.exp(half) - 1, rel=1e-4)
    with pytest.raises(UsageError, match="above 0"):
        paired.difference({0: 0.0}, {0: 1.0}, relative=True)


def test_one_pair_says_nothing_of_its_spread_and_none_is_refused():
    found = paired.difference({3: 1.0}, {3: 0.5})
    assert (found.mean, found.low, found.high) == (0.5, -math.inf, math.inf)
    assert {paired.verdict(claim, found.low, found.high, 0.1) for claim in paired.CLAIMS} == {CANNOT_TELL}
    with pytest.raises(UsageError, match="no seed"):
        paired.difference({0: 1.0}, {1: 1.0})


@pytest.mark.parametrize(
    "claim, low, high, margin, said",
    [
        ("higher", 0.1, 3, 1, HOLDS),
        ("higher", 0.1, 0.2, 1, HOLDS),  # small, but there
        ("higher", -1, 0.9, 1, DOES_NOT_HOLD),  # as much as 1 is excluded
        ("higher", -1, 1.1, 1, CANNOT_TELL),
        ("higher", -2, -1, 0, DOES_NOT_HOLD),
        ("higher", 0, 0, 0, DOES_NOT_HOLD),
        ("lower", -3, -0.1, 1, HOLDS),
        ("lower", -0.9, 1, 1, DOES_NOT_HOLD),
        ("lower", -1.1, 1, 1, CANNOT_TELL),
        ("same", -1, 1, 1, HOLDS),
        ("same", -1.1, 1, 1, CANNOT_TELL),
        ("same", 1.1, 2, 1, DOES_NOT_HOLD),
        ("same", -2, -1.1, 1, DOES_NOT_HOLD),
    ],
)
def test_verdicts(claim, low, high, margin, said):
    assert paired.verdict(claim, low, high, margin) == said


TABLE = """cell,model,seed,accuracy,spikes,error
or-seed0,or,0,0.90,100,
syna-t-a-seed0,syna-t,0,0.91,90,
or-seed1,or,1,0.92,110,
syna-t-a-seed1,syna-t,1,0.95,88,
ms-seed0,ms,0,,,MemoryError: too big
"""


def test_the_command_its_table_and_its_json(tmp_path, capsys):
    (tmp_path / "cells.csv").write_text(TABLE, encoding="utf-8")
    words = ["compare", str(tmp_path), "--against", "or", "--measures", "accuracy", "spikes", "--out", str(tmp_path / "d.csv")]
    assert cli.main([*words, "--claim", "higher", "--margin", "0.005", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])["table"]
    assert [row["measure"] for row in found] == ["accuracy", "spikes"] and found[0]["pairs"] == 2
    assert found[0]["difference"] == pytest.approx(0.02) and found[1]["difference"] == pytest.approx(-16)
    assert found[0]["high"] == pytest.approx(0.02 + 12.7062 * 0.01, abs=1e-5) and found[0]["verdict"] == CANNOT_TELL
    assert "| syna-t-a | or | accuracy | 2 | +0.02 |" in out
    rows = list(csv.DictReader((tmp_path / "d.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["difference"]) for row in rows] == pytest.approx([0.02, -16])


@pytest.mark.parametrize("pairs, said", [(1, CANNOT_TELL), (2, CANNOT_TELL), (3, HOLDS)])
def test_two_pairs_that_happen_to_agree_are_too_few(tmp_path, capsys, pairs, said):
    rows = [f"{system}-seed{k},{k},{accuracy},\n" for k in range(pairs) for system, accuracy in (("or", 0.5), ("ms", 0.75))]
    (tmp_path / "cells.csv").write_text("cell,seed,accuracy,error\n" + "".join(rows), encoding="utf-8")
    assert cli.main(["compare", str(tmp_path), "--against", "or", "--measures", "accuracy", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["table"]
    assert row["verdict"] == said and row["pairs"] == pairs


@pytest.mark.parametrize(
    "text, words, word",
    [
        (None, [], "cells.csv"),
        ("a,b\n1,2\n", [], "no table of cells"),
        (TABLE.replace("or-seed1", "or"), [], "'or'"),
        (TABLE, ["--against", "vanilla"], "or, syna-t-a"),
        (TABLE, ["--models", "ms"], "no system 'ms'"),
        (TABLE, ["--measures", "mac"], "'mac'"),
        (TABLE.replace("0.91", "nan"), [], "'accuracy' of syna-t-a-seed0"),
        (TABLE, ["--claim", "same"], "--margin"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, text, words, word):
    if text is not None:
        (tmp_path / "cells.csv").write_text(text, encoding="utf-8")
    assert cli.main(["compare", str(tmp_path), "--against", "or", "--measures", "accuracy", *words]) == 2
    said = capsys.readouterr().err
    assert word in said and len(said.splitlines()) == 1
