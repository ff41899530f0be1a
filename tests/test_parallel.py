"""Ranks of MPI: N of them take the steps of one process, each says what belongs to it, and none is left waiting."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_runs import TINY

from minisnn import parallel
from minisnn.data import images
from minisnn.data.base import Samples
from minisnn.runs import Run

HERE = pathlib.Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))


def needs_mpi(test):
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        return pytest.mark.skip(reason="mpi4py is not installed")(test)
    return test if MPIEXEC else pytest.mark.skip(reason="there is no mpiexec")(test)


def started(ranks, *words, **options):
    """A process of ``mpiexec -n ranks python words``, or without mpiexec for 0."""
    line = [MPIEXEC, "-n", str(ranks)] if ranks else []
    return subprocess.Popen(
        [*line, sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def done(ranks, *words, **options):
    """(status, standard output, standard error) of it."""
    process = started(ranks, *words, **options)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def lines_of(err):
    """What the program said, without what mpiexec says of it."""
    return [line for line in err.splitlines() if line.startswith("minisnn") and "compiling" not in line]


# ---- one rank ----------------------------------------------------------------------------------------------------------


def test_one_rank_is_the_identity():
    mean, var, sums = np.ones(3), np.full(3, 2.0), np.ones((2, 3))
    assert (parallel.rank(), parallel.size(), parallel.share(7)) == (0, 1, slice(0, 7))
    assert parallel.moments(mean, var, 5) == (mean, var, 5) and parallel.sums(sums, 5) == (sums, 5)
    with parallel.part(7) as part:
        assert part == (slice(0, 7), 7, 7) and parallel.weight() == 1 and not parallel.idle()
        assert parallel.moments(mean, var, 5)[0] is mean
    assert parallel.gathered("x") == ["x"] and parallel.agreed(lambda: 3) == parallel.first(lambda: 3) == 3
    assert parallel.command("minisnn train --resume x") == "minisnn train --resume x"


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 16, 33])
def test_the_shares_cover_a_batch(size, count, monkeypatch):
    monkeypatch.setattr(parallel._State, "size", size)
    taken = []
    for rank in range(size):
        monkeypatch.setattr(parallel._State, "rank", rank)
        part = parallel.rows_of(count)
        taken += list(range(count))[parallel.share(count)]
        assert part.mine == len(range(count)[parallel.share(count)]) and part.total == count
        assert len(range(count)[part.rows]) == max(1, part.mine)
    assert taken == list(range(count))


def test_each_rank_makes_its_rows_of_the_batch():
    from minisnn import data

    for name in ("digits", "gestures"):
        samples = data.load(name, timesteps=2).train
        samples = data.Subset(samples, range(6, 0, -1))
        whole = samples.batch(np.arange(5), np.random.default_rng(0))
        for rows in (slice(0, 2), slice(2, 5), slice(4, 5)):
            np.testing.assert_array_equal(samples.rows(np.arange(5), np.random.default_rng(0), rows), whole[:, rows])
            np.testing.assert_array_equal(Samples.rows(samples, np.arange(5), np.random.default_rng(0), rows), whole[:, rows])


def test_what_is_added_is_added_in_order_and_laid_out_as_memory_is():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        rows = rng.normal(size=(3, 2 * parallel.BLOCK + 5)).astype(dtype)
        wanted = ((rows[0].astype(np.float64) + rows[1]) + rows[2]).astype(dtype)
        assert parallel.in_order(rows).dtype == dtype and parallel.in_order(rows).tobytes() == wanted.tobytes()
    like = rng.normal(size=(2, 3, 4, 5)).transpose(3, 2, 0, 1)
    row = np.zeros(like.size)
    parallel.shaped(row, like)[...] = like
    np.testing.assert_array_equal(row, like.transpose(2, 3, 1, 0).reshape(-1))  # as it lies in memory
    np.testing.assert_array_equal(parallel.shaped(row, like), like)


# ---- several -----------------------------------------------------------------------------------------------------------


@needs_mpi
@pytest.mark.parametrize(
    "changes",
    [
        [],  # a last batch of one: the second rank has none of it
        pytest.param(["model='syna-c'", "clip=0.1", "dropout=0.3", "ema=0.9", "validation=0.2"], marks=pytest.mark.slow),
        pytest.param(["model='vanilla'", "loss='tet'", "optimizer='sgd'", "weight_decay=0.01"], marks=pytest.mark.slow),
        pytest.param(["limit=35", "neuron='plif'", "loss='ce'"], marks=pytest.mark.slow),  # a last batch of three
    ],
    ids=["syna-t", "syna-c", "vanilla", "plif"],
)
def test_several_ranks_give_the_result_of_one_process(changes, tmp_path):
    found = {}
    for name, ranks in (("one", 0), ("two", 2), ("again", 2), *([("three", 3)] if changes else ())):
        status, _, err = done(ranks, HERE / "ranks.py", tmp_path / f"{name}.npz", *changes)
        assert status == 0, err
        with np.load(tmp_path / f"{name}.npz") as file:
            found[name] = dict(file)
    assert found["one"].pop("ranks") == 1 and found["two"].pop("ranks") == found["again"].pop("ranks") == 2
    moved = 0.0
    for name, array in found["one"].items():
        assert found["two"][name].tobytes() == found["again"][name].tobytes(), name
        for other in found.keys() - {"one", "again"}:
            np.testing.assert_allclose(found[other][name], array, rtol=1e-9, atol=1e-12, err_msg=f"{other} {name}")
        moved += float(np.abs(array).sum())
    assert moved > 0


@needs_mpi
def test_the_command_resumes_with_another_number_of_ranks(tmp_path):
    words = ["-m", "minisnn", "train", *TINY, "--threads", "1"]
    status, out, err = done(2, *words, "--mpi", "--out", "run", "--json", cwd=tmp_path)
    assert status == 0 and out.count('"test_accuracy"') == 1 and out.count("run folder") == 2, err
    run = Run.open(tmp_path / "run")
    assert run.config["ranks"] == 2 and len(run.metrics()) == 2
    status, out, err = done(0, "-m", "minisnn", "train", "--resume", "run", cwd=tmp_path)
    assert status == 0 and "2 of 2 epochs are done" in out, err


@needs_mpi
@pytest.mark.parametrize(
    "words, said, status",
    [
        (["train", *TINY], "mpiexec started 2 processes; add --mpi", 2),
        (["energy", "run"], "mpiexec started 2 processes; start `energy` without it", 2),
        (["train", "--mpi", "--lr", "0"], "--lr", 2),
        (["train", "--mpi", *TINY, "--out", "file"], "is a file", 2),
        (["train", "--mpi", "--resume", "none"], "is not the folder of a run", 2),
    ],
)
def test_a_mistake_is_said_once(words, said, status, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    code, _, err = done(2, "-m", "minisnn", *words, cwd=tmp_path)
    lines = lines_of(err)
    assert code == status and len(lines) == 1 and said in lines[0], err


FAILS = """
import sys
from minisnn import cli, parallel, train
evaluate, rank = train.Training.evaluate, int(sys.argv[1])
def fail(self, samples, what):
    if parallel.rank() == rank and self.epoch == 1:
        {what}
    return evaluate(self, samples, what)
train.Training.evaluate = fail
sys.exit(cli.main(sys.argv[2:]))
"""


@needs_mpi
@pytest.mark.parametrize(
    "rank, what, said",
    [
        (1, "raise MemoryError", "out of memory"),
        pytest.param(0, "raise OSError(28, 'No space left on device')", "Free some space", marks=pytest.mark.slow),
        pytest.param(1, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "", marks=pytest.mark.slow),
        pytest.param(
            1, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "1 of 2 epochs are saved", marks=pytest.mark.slow
        ),
        pytest.param(1, "1 / 0", "", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_fails_ends_all_and_the_run_continues(rank, what, said, tmp_path):
    words = ["train", *TINY, "--threads", "1"]
    status, _, err = done(2, "-c", FAILS.format(what=what), rank, *words, "--mpi", "--out", "run", cwd=tmp_path)
    lines = lines_of(err)
    assert status not in (0, None) and len(lines) == bool(said) and said in "".join(lines), err
    status, out, err = done(2, "-m", "minisnn", "train", "--mpi", "--resume", "run", "--threads", "1", cwd=tmp_path)
    assert status == 0 and "1 of 2 epochs are done" in out, err


@needs_mpi
@pytest.mark.slow
def test_ctrl_c_is_one_line(tmp_path):
    words = ["-m", "minisnn", "train", "--mpi", *TINY, "--epochs", "100000", "--threads", "1", "--out", "run"]
    process = started(2, *words, cwd=tmp_path)
    deadline = time.time() + 120
    while not (tmp_path / "run" / "last.npz").exists() and time.time() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    (line,) = lines_of(err)
    assert "are saved in run" in line and "mpiexec -n 2 minisnn train --mpi --resume run" in line
    assert images.TEST_SHARE == 0.2 and Run.open(tmp_path / "run").metrics()
