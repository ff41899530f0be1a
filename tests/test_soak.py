"""Long use leaves nothing behind: memory, handles and threads stay level. And real disks that are full or cannot be written."""

import ctypes
import gc
import os
import pathlib
import shutil
import subprocess
import threading

import numpy as np
import pytest
from small_runs import TINY, complaints, small_run

from minisnn import Tensor, cli, data, models, ops, optim
from minisnn.data.loader import Loader
from minisnn.runs import Run

PROC = pathlib.Path("/proc/self")
only_linux = pytest.mark.skipif(not (PROC / "fd").is_dir(), reason="only Linux says what a process holds")


def held():
    """(memory in MB, open handles, threads) of this process."""
    gc.collect()
    pages = int((PROC / "statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(PROC / "fd")), threading.active_count()


def assert_level(use, warm, times):
    """After ``times`` further uses the process holds what it held after ``warm``."""
    for _ in range(warm):
        use()
    megabytes, handles, running = held()
    for _ in range(times):
        use()
    after = held()
    assert after[1:] == (handles, running) and after[0] < megabytes + 25, ((megabytes, handles, running), after)
    print(f"{times} times: {megabytes:.0f} -> {after[0]:.0f} MB, {handles} handles, {running} threads")


def training_step():
    net = models.build("digits", "or", width=8, timesteps=1, seed=0)
    optimizer, rng = optim.Adam(net.parameters(), 1e-3), np.random.default_rng(0)
    x, y = Tensor(rng.random((1, 2, 1, 8, 8)).astype(np.float32)), ops.one_hot(rng.integers(0, 10, 2), 10)

    def step():
        optimizer.zero_grad()
        ops.mse_loss(net(x), y).backward()
        optimizer.step()

    return step


def abandoned_loader():
    samples = data.load("digits", timesteps=2).train
    return lambda: next(iter(Loader(samples, 16, shuffle=True, limit=64)))


@only_linux
@pytest.mark.parametrize(
    "make, warm, times",
    [
        (training_step, 20, 100),
        (abandoned_loader, 20, 60),
        pytest.param(training_step, 200, 3000, marks=pytest.mark.slow),
        pytest.param(abandoned_loader, 50, 500, marks=pytest.mark.slow),
    ],
)
def test_steps_and_loaders_left_unread(make, warm, times):
    assert_level(make(), warm, times)


@only_linux
@pytest.mark.slow
def test_opened_runs(tmp_path):
    small_run(tmp_path / "run")

    def use():
        Run.open(tmp_path / "run").network()

    assert_level(use, 20, 200)


NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of sched.h


@pytest.fixture
def small_disk(tmp_path):
    """A folder with a disk of its own, and a function that mounts it anew with other options.

    This thread gets its own view of what is mounted first, so that a test that is killed leaves no disk behind.
    """
    folder = tmp_path / "disk"
    folder.mkdir()

    def run(*words):
        return shutil.which(words[0]) and not subprocess.run([*words, str(folder)], capture_output=True).returncode

    def mount(options):
        if not run("mount", "-t", "tmpfs", "-o", options, "tmpfs"):
            pytest.skip("no disk can be mounted here")

    unshare = getattr(ctypes.CDLL(None), "unshare", None) if os.name == "posix" else None
    if (
        unshare is None
        or unshare(NEW_MOUNTS)
        or subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode
    ):
        pytest.skip("no disk can be mounted here")
    mount("size=200k")
    yield folder, mount
    while run("umount", "--lazy"):
        pass


def refused(capsys, *words):
    """The one line in which a command fails."""
    assert cli.main([str(word) for word in words]) == 2
    said = complaints(capsys.readouterr().err)
    assert len(said) == 1, said
    return said[0]


@pytest.mark.slow
def test_a_full_and_a_read_only_disk(small_disk, tmp_path, capsys):
    folder, mount = small_disk
    small_run(tmp_path / "run")
    run_words = ("train", *TINY, "--out")
    assert "No space left on device" in refused(capsys, *run_words, folder / "a")
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]
    assert "No space left on device" in refused(
        capsys, "report", tmp_path / "run", "--limit", "2", "--out", folder / "report.html"
    )
    assert not (folder / "report.html").exists()
    refused(capsys, "plot", tmp_path / "run", "--limit", "2", "--out", folder / "figures")
    assert (
        cli.main(["show", "gestures", "--cache", str(folder), "--out", str(tmp_path / "g.png")]) == 0
    )  # a cache is never needed
    capsys.readouterr()
    mount("ro")
    for words in (
        (*run_words, folder / "b"),
        ("plot", tmp_path / "run", "--limit", "2", "--out", folder / "figures"),
        ("report", tmp_path / "run", "--limit", "2", "--out", folder / "report.html"),
        ("prune", tmp_path / "run", "--out", folder / "pruned"),
    ):
        assert "Read-only file system" in refused(capsys, *words)
    assert cli.main(["show", "gestures", "--cache", str(folder), "--out", str(tmp_path / "g.png")]) == 0
