"""Runs and ablations while the disk fills, breaks or refuses, or somebody stops or kills them: at every open, write, fsync and
rename. After each: one line that names the file and the way on, the last finished epoch whole, the same command or --resume to
the undisturbed run's bits, tables that equal the checkpoint, and no unfinished file.

The fast form takes every few boundaries, the slow one takes all of them.
"""

import contextlib
import errno
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_runs import TINY, complaints

from minisnn import checkpoint, cli, files
from minisnn.runs import COLUMNS, Run
from minisnn.stopping import SIGNALS, Stopped

CLOCK = ("seconds", "samples_per_second", "waiting")  # columns that differ from run to run


def error(number):
    return lambda: OSError(number, os.strerror(number))


TROUBLE = {
    "ENOSPC": error(errno.ENOSPC),
    "EIO": error(errno.EIO),
    "EACCES": error(errno.EACCES),
    "SIGINT": lambda: Stopped(number=signal.SIGINT),
    "SIGTERM": lambda: Stopped(number=signal.SIGTERM),
}


class Fire:
    """Counts the boundaries at which a file is written; at number ``at`` it raises what ``trouble`` makes."""

    def __init__(self, patch, at=None, trouble=None):
        self.passed, self.at, self.trouble, fire = [], at, trouble, self
        fsync, replace = os.fsync, os.replace

        class Raw(io.FileIO):
            def write(self, content):
                fire.boundary("write", self.name)
                return super().write(content)

        def opened(path, mode, buffering):
            fire.boundary("open", path)
            return io.BufferedWriter(Raw(path, mode.replace("b", "")), buffering)

        patch.setattr(files, "open", opened, raising=False)
        patch.setattr(os, "fsync", lambda handle: (fire.boundary("fsync", None), fsync(handle)))
        patch.setattr(os, "replace", lambda *paths: (fire.renaming(paths[0]), replace(*paths)))

    def renaming(self, path):
        if str(path).endswith(".part"):  # and not Numba's, of a loop compiled just now
            self.boundary("rename", path)

    def boundary(self, what, path):
        self.passed.append(what)
        if len(self.passed) - 1 == self.at:
            raise self.trouble()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(folder of a run, its boundaries, folder of an ablation, its boundaries) without any trouble."""
    folder, counts = tmp_path_factory.mktemp("undisturbed"), []
    for name, command in COMMANDS.items():
        with pytest.MonkeyPatch.context() as patch:
            fire = Fire(patch)
            assert cli.main([*command, "--out", str(folder / name)]) == 0
            counts.append(len(fire.passed))
    return folder, dict(zip(COMMANDS, counts))


VALIDATED = ["--validation", "0.3"]  # so that there is a best.npz
COMMANDS = {"train": ["train", *TINY, *VALIDATED], "ablate": ["ablate", "--models", "or", *TINY[2:], *VALIDATED]}


def assert_same_run(path, right):
    """Equal checkpoints, tables that equal them, and nothing unfinished."""
    for which in ("last", "best"):
        (arrays, facts), (expected, right_facts) = (checkpoint.load(folder / f"{which}.npz") for folder in (path, right))
        assert arrays.keys() == expected.keys() and all(np.array_equal(arrays[name], expected[name]) for name in expected)
        keep = [k for k, name in enumerate(COLUMNS) if name not in CLOCK]
        assert [[row[k] for k in keep] for row in facts["metrics"]] == [
            [row[k] for k in keep] for row in right_facts["metrics"]
        ]
    run = Run.open(path)
    assert run.read_table("metrics.csv")[1] == checkpoint.load_facts(path / "last.npz")["metrics"]
    rates = np.hstack([run.firing_rates(training)[1] for training in (False, True)])
    assert rates.tolist() == [row[1:] for row in run.read_table("firing_rates.csv")[1]]


def parts(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def go_on(name, out):
    """The command that the way on is for this kind."""
    if name == "train" and (out / "config.json").exists():
        return cli.main(["train", "--resume", str(out)])
    return cli.main([*COMMANDS[name], "--out", str(out)])


def check_trouble(name, kind, at, right, tmp_path, capsys):
    out = tmp_path / f"{kind}-{at}"
    with pytest.MonkeyPatch.context() as patch:
        fire = Fire(patch, at, TROUBLE[kind])
        status = cli.main([*COMMANDS[name], "--out", str(out)])
    said = capsys.readouterr()
    said, out_lines = complaints(said.err), said.out
    if kind == "EACCES" and status == 0:  # a table that another program has open waits for the next epoch
        assert name == "ablate" or "csv cannot be written (Permission denied); the next epoch tries again" in out_lines
        assert_same_run(out if name == "train" else out / "or-seed0", right if name == "train" else right / "or-seed0")
        return
    assert len(fire.passed) > at and status == {"SIGINT": 130, "SIGTERM": 143}.get(kind, 2), (kind, at, said)
    assert "Traceback" not in "".join(said) and (name == "ablate" or len(said) == 1), said
    if kind.startswith("SIG"):
        assert said[-1].startswith("minisnn: stopped"), said
    else:
        assert os.strerror(getattr(errno, kind)) in said[-1] and str(out) in said[-1], said
    if (out / "config.json").exists() and name == "train":
        assert f"minisnn train --resume {out}" in said[-1], said
    elif name == "ablate" and (out / "ablation.json").exists():
        assert f"minisnn ablate {' '.join(COMMANDS[name][1:])} --out {out}" in said[-1], said
    for last in out.rglob("last.npz"):
        facts = checkpoint.load_facts(last)  # whole
        if name == "train":
            assert f"{facts['epoch']} of 2 epochs are saved" in said[-1], said
    assert parts(out) == []
    assert go_on(name, out) == 0
    capsys.readouterr()
    assert_same_run(out if name == "train" else out / "or-seed0", right if name == "train" else right / "or-seed0")
    assert parts(out) == []


@pytest.mark.parametrize("kind", TROUBLE)
@pytest.mark.parametrize("name, step", [("train", 6), ("ablate", 28)])
def test_some_boundaries(name, step, kind, undisturbed, tmp_path, capsys):
    folder, counts = undisturbed
    for at in range(list(TROUBLE).index(kind) % step, counts[name], step):
        check_trouble(name, kind, at, folder / name, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TROUBLE)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_boundary(name, kind, undisturbed, tmp_path, capsys):
    folder, counts = undisturbed
    for at in range(counts[name]):
        check_trouble(name, kind, at, folder / name, tmp_path, capsys)
    print(f"{name}, {kind}: {counts[name]} boundaries")


KILL = """
import os, signal, sys
import pytest, test_under_fire as here
from minisnn import cli
with pytest.MonkeyPatch.context() as patch:
    here.Fire(patch, int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
    cli.main([*here.COMMANDS[sys.argv[1]], "--out", sys.argv[3]])
"""


def kill_at(name, at, right, tmp_path):
    out, here = tmp_path / f"{name}-{at}", pathlib.Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", KILL, name, str(at), str(out)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert go_on(name, out) == 0
    assert_same_run(out if name == "train" else out / "or-seed0", right if name == "train" else right / "or-seed0")
    assert parts(out) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
@pytest.mark.parametrize("name, places", [("train", (1, 7, 12)), ("ablate", (9,))])
def test_some_kills(name, places, undisturbed, tmp_path):
    for at in places:
        kill_at(name, at, undisturbed[0] / name, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_every_boundary(name, undisturbed, tmp_path):
    folder, counts = undisturbed
    for at in range(counts[name]):
        kill_at(name, at, folder / name, tmp_path)


# ---- one folder, two processes -----------------------------------------------------------------------------------------


def start(*words, **options):
    """A minisnn of its own, which signals reach even where the tests run with some of them ignored, as under nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "minisnn", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for(process, happened):
    while not happened() and process.poll() is None:
        time.sleep(0.01)


def finished(process):
    try:
        out, said = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, complaints(said)


def test_of_two_that_want_one_folder_one_gets_it(tmp_path):
    both = [start("train", *TINY, "--out", tmp_path / "a") for _ in range(2)]
    found = sorted(finished(process)[0] for process in both)
    assert found == [0, 2]
    assert checkpoint.load_facts(tmp_path / "a/last.npz")["epoch"] == 2


def test_two_ablations_do_not_share_a_folder(tmp_path):
    first = start("ablate", "--models", "or", "ms", *TINY[2:], "--epochs", "12", "--out", tmp_path / "grid", cwd=tmp_path)
    wait_for(first, (tmp_path / "grid/or-seed0/last.npz").exists)
    status, _, said = finished(start("ablate", "--models", "or", "ms", *TINY[2:], "--epochs", "12", "--out", tmp_path / "grid"))
    assert status == 2 and "in use by another minisnn" in said[-1]
    assert finished(first)[0] == 0 and json.loads((tmp_path / "grid/or-seed0/cell.json").read_text(encoding="utf-8"))


# ---- signals -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("jobs", [None, 2])
def test_signals_end_everything_in_one_line(name, status, jobs, tmp_path):
    words = ["train", *TINY, "--epochs", "500", "--out", tmp_path / "a"]
    if jobs:
        words = [
            "ablate",
            "--jobs",
            jobs,
            "--models",
            "or",
            "ms",
            "vanilla",
            *TINY[2:],
            "--epochs",
            "500",
            "--out",
            tmp_path / "a",
        ]
    process = start(*words, start_new_session=True)
    wait_for(process, lambda: list((tmp_path / "a").rglob("last.npz")))
    for pause in (0, 0.05) if name == "SIGINT" else (0,):  # an impatient user, whom the second time finds the program ending
        time.sleep(pause)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, getattr(signal, name)) if jobs else process.send_signal(getattr(signal, name))
    found, _, said = finished(process)
    assert found == status and said[-1].startswith("minisnn: stopped; "), said
    assert ("minisnn ablate --jobs 2" if jobs else f"minisnn train --resume {tmp_path / 'a'}") in said[-1]
    assert len(said) == (2 if jobs else 1), said
    with pytest.raises(ProcessLookupError):  # none of the group is left
        for _ in range(50):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    assert jobs or parts(tmp_path) == []  # a worker is killed, and its files are the next call's to remove


STARTED = """
import os, runpy, signal, sys

class CtrlC:  # where the module is imported for the first time
    def find_spec(self, name, path, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job lacks
module = sys.argv.pop(1)
sys.meta_path.insert(0, CtrlC())
runpy.run_module("minisnn", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("module", ["minisnn.cli", "argparse", "numpy", "minisnn.train"])
def test_ctrl_c_while_the_program_loads(module, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STARTED, module, "train", *TINY, "--out", str(tmp_path / "a")], capture_output=True, text=True
    )
    assert done.returncode == 130 and done.stderr.count("\n") == 1 and done.stderr.startswith("minisnn: stopped"), done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_ctrl_c_at_any_moment_after_that(tmp_path):
    for k, wait in enumerate((0, 0.4, 0.8, 1.2)):
        process = start("train", *TINY, "--epochs", "500", "--out", tmp_path / str(k))
        wait_for(process, (tmp_path / str(k) / "config.json").exists)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        process.send_signal(signal.SIGINT)
        found, _, said = finished(process)
        assert found == 130 and len(said) == 1 and said[0].startswith("minisnn: stopped"), (wait, said)


# ---- output ----------------------------------------------------------------------------------------------------------------


def test_training_goes_on_when_nobody_reads_its_output(tmp_path):
    process = start("train", *TINY, "--out", tmp_path / "a")
    process.stdout.close()  # before its first line: on a busy machine it might write all of them before the second
    with process.stderr as stream:
        said = stream.read()
    assert process.wait(60) == 0 and "no longer read" in said
    assert checkpoint.load_facts(tmp_path / "a/last.npz")["epoch"] == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["show", "digits", "--out", "d.png"], ["train", *TINY, "--out", "a"]])
def test_output_that_cannot_be_written_is_one_line(words, tmp_path):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "minisnn", *words], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    said = complaints(done.stderr)
    assert done.returncode == 2 and len(said) == 1 and "standard output: No space left" in said[0]


@pytest.mark.parametrize(
    "encoding", ["gbk", "ascii", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cp932", "utf-8"))]
)
def test_any_encoding_of_the_terminal_will_do(encoding, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "minisnn", "ablate", "--models", "or", *TINY[2:], "--out", "größe µ"],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "größe µ" / "table.md").read_text(encoding="utf-8").count("µJ") == 2


def test_closed_streams_do_not_matter(tmp_path):
    closed = [
        sys.executable,
        "-c",
        "import os, sys; os.close(1); os.close(2); from minisnn import cli\n"
        "sys.stdout = sys.stderr = None\nsys.exit(cli.main(sys.argv[1:]))",
    ]
    assert subprocess.run([*closed, "train", *TINY, "--out", str(tmp_path / "a")]).returncode == 0
    assert checkpoint.load_facts(tmp_path / "a/last.npz")["epoch"] == 2


# ---- files made to harm ----------------------------------------------------------------------------------------------------

JUNK = [
    None,
    True,
    -1,
    0,
    1e300,
    float("nan"),
    float("inf"),
    10**40,
    "",
    "x\n\x1b[31m<script>",
    "\ud800",
    [],
    {},
    [[]],
    {"a": []},
    [1, "2"],
]


def spoil_json(value, rng):
    """A copy of a JSON value with one thing in it changed, removed or added."""
    value = json.loads(json.dumps(value))
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return value
        key = keys[rng.integers(len(keys))]
        if isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.75:
            holder = holder[key]
            continue
        how = rng.integers(8)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        else:
            holder[key] = JUNK[rng.integers(len(JUNK))]
        return value


def spoil_bytes(content, rng):
    bad = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(bad) or 1))
        how = rng.integers(4)
        bad[at : at + (1 if how else len(bad))] = b"" if how < 2 else rng.bytes(int(how))
    return bytes(bad)


def spoil(path, rng):
    """Damage a file: its JSON or its facts in one place, or its bytes."""
    if path.suffix == ".json" and rng.random() < 0.8:
        path.write_text(json.dumps(spoil_json(json.loads(path.read_text(encoding="utf-8")), rng)), encoding="utf-8")
    elif path.suffix == ".npz" and rng.random() < 0.7:
        arrays, facts = checkpoint.load(path)
        if rng.random() < 0.6:
            facts = spoil_json(facts, rng)
            if not isinstance(facts, dict):
                facts = {}
        else:
            name = sorted(arrays)[rng.integers(len(arrays))]
            junk = (
                np.nan * arrays[name],
                arrays[name][..., None],
                arrays[name].astype(np.float64),
                np.array("x"),
                arrays[name] > 0,
                np.zeros(0),
                arrays[name].astype(np.int8),
            )
            arrays[name] = junk[rng.integers(len(junk))]
        checkpoint.save(path, arrays, facts)
    else:
        path.write_bytes(spoil_bytes(path.read_bytes(), rng))


READERS = {
    "last.npz": [
        ["train", "--resume"],
        ["plot", "--limit", "4", "--only", "training_curves", "thermogram"],
        ["evaluate", "--limit", "4"],
    ],
    "best.npz": [["evaluate", "--limit", "4"]],
    "config.json": [["evaluate", "--limit", "4"], ["train", "--resume"]],
    "metrics.csv": [["plot", "--limit", "4", "--only", "training_curves"]],
    "firing_rates.csv": [["plot", "--limit", "4", "--only", "thermogram"]],
    "cell.json": [["ablate"]],
    "ablation.json": [["ablate"]],
}


def fuzz(undisturbed, name, count, tmp_path, capsys):
    """(refused, taken) of ``count`` damaged copies of one file: each ends in status 0, or 2 and one line."""
    import shutil

    source = undisturbed[0] / ("ablate" if name in ("cell.json", "ablation.json") else "train")
    rng, refused = np.random.default_rng(0), 0
    for k in range(count):
        folder = tmp_path / f"{k}"
        shutil.copytree(source, folder)
        if name.endswith(".csv"):  # which are read where there is no last checkpoint, as in a pruned run
            (folder / "last.npz").unlink()
        spoil(folder / "or-seed0" / name if name == "cell.json" else folder / name, rng)
        for words in READERS[name]:
            words = [*COMMANDS["ablate"], "--out", str(folder)] if words == ["ablate"] else [*words, str(folder)]
            status = cli.main(words)
            said = [line for line in complaints(capsys.readouterr().err) if "cells, " not in line]
            assert status in (0, 2), (k, words)
            if status == 2:
                refused += 1
                assert said and all(line.isprintable() for line in said), (k, said)
                assert words[0] == "ablate" or len(said) == 1, (k, said)
        shutil.rmtree(folder)
    return refused


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_of_runs_are_refused_in_one_line_or_read(name, undisturbed, tmp_path, capsys):
    assert fuzz(undisturbed, name, 12, tmp_path, capsys) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_of_runs(name, undisturbed, tmp_path, capsys):
    count = 300
    print(f"{name}: {fuzz(undisturbed, name, count, tmp_path, capsys)} of {count} mutants refused")


def test_small_files_that_claim_gigabytes_take_no_memory(tmp_path):
    import zipfile

    for compression, claim in ((zipfile.ZIP_DEFLATED, 64 << 20), (zipfile.ZIP_STORED, 1 << 40)):
        path = tmp_path / f"{compression}.npz"
        with zipfile.ZipFile(path, "w", compression) as archive:
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (claim // 4,)})
            archive.writestr("x.npy", head.getvalue() + bytes(claim if compression else 100))
        with pytest.raises(Exception, match="damaged") as caught:
            checkpoint.load(path)
        assert "\n" not in str(caught.value)
