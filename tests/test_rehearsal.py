"""What is compiled ahead is what training calls, and the processes that compile it end with the program."""

import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import compile_beside
import numpy as np
import pytest

from minisnn import energy, jit, ledger, models, ops, optim, rehearsal
from minisnn.catalogue import CATALOGUE
from minisnn.engine import Tensor, no_grad
from minisnn.jit import LOOPS, recording

pytestmark = pytest.mark.skipif(not LOOPS, reason="nothing is compiled")


@pytest.mark.parametrize(
    "preset, name, position",
    [
        ("digits", "or", "a"),
        ("dvsgesture", "or", "a"),  # with a max pool in the stem, and otherwise the same layers
        ("dvsgesture", "syna-t", "a"),
        ("dvsgesture", "syna-c", "b"),
        ("dvsgesture", "syna-s", "d"),
        ("dvsgesture", "ms", "a"),
        ("dvsgesture", "sew-add", "a"),
    ],
)
def test_the_rehearsal_calls_whatever_a_network_calls(preset, name, position):
    net = models.build(preset, **models.SYSTEMS[name], position=position, width=8, timesteps=2)  # 8 to 64 channels
    shape = (2, 1, CATALOGUE[preset].stem.channels, 4, 4)  # no type depends on the size
    x = np.random.default_rng(0).random(shape, np.float32)
    with recording() as calls:
        optimizer = optim.Adam(net.parameters())
        scores = net(Tensor(x))
        ops.mse_loss(scores, ops.one_hot([0], scores.shape[1])).backward()
        optimizer.step()
        energy.measure(net.eval(), Tensor(x))
    missing = set(calls) - set(rehearsal.rehearse(True))
    assert not missing, sorted((loop.py_func.__name__, types) for loop, types in missing)


def test_what_is_compiled_beside_the_tests_is_what_they_call():
    net = models.build("digits", "or", width=8, timesteps=2, dtype="float64", seed=0)
    x = Tensor(np.random.default_rng(0).random((2, 1, 1, 4, 4)) * 4, requires_grad=True)
    with recording() as calls:
        net(x).sum().backward()
        ops.lif(x).sum().backward()
    wanted = compile_beside.wanted()
    assert set(calls) <= set(wanted) and set(rehearsal.rehearse()) <= set(wanted)


def test_recording_leaves_the_loops_as_they_were():
    kinds = [type(loop) for loop in LOOPS]
    with pytest.raises(RuntimeError, match="in between"), recording():
        raise RuntimeError("in between")
    assert [type(loop) for loop in LOOPS] == kinds


def test_a_helper_ends_with_the_program():
    with rehearsal.Helpers(2) as helpers:
        helpers.begin()
        first = helpers.processes[0]
        first.stdin.close()  # as when the program is killed
        assert first.wait(timeout=60) is not None
    assert all(process.poll() is not None for process in helpers.processes)


class Loop:
    """As much of a dispatcher as turns need; it is compiled in its turn."""

    def __init__(self, name, turns=None):
        self.py_func, self.turns, self.compiled = SimpleNamespace(__module__="loops", __qualname__=name), turns, 0

    def compile(self, types):
        with self.turns(self, types):
            self.compiled += 1


def test_who_needs_a_loop_that_another_process_compiles_does_others_first(tmp_path, monkeypatch):
    here, there = rehearsal.Turns(tmp_path), rehearsal.Turns(tmp_path)
    loops = [Loop(name, here) for name in ("first", "second", "third")]
    first, second = loops[:2]
    monkeypatch.setattr(rehearsal, "rehearse", lambda: [(loop, ()) for loop in loops])
    other = there(first, ())
    other.__enter__()
    ended = threading.Timer(0.3, other.__exit__, (None, None, None))
    ended.start()
    first.compile(())
    assert not ended.is_alive()  # it waited
    assert [loop.compiled for loop in loops] == [1, 1, 1]  # and did the others meanwhile
    assert not list(there.not_begun())  # to whom nothing is left
    assert here.place(first, ()) != here.place(first, (int,)) != here.place(second, (int,))


def test_a_process_that_was_stopped_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "rehearse", list)
    here, there = rehearsal.Turns(tmp_path), rehearsal.Turns(tmp_path)
    here.patience = 0.1
    loop = Loop("loop", here)
    with there(loop, ()):
        loop.compile(())
    assert loop.compiled == 1


def test_turns_without_a_folder_are_taken_at_once(tmp_path):
    loop = Loop("loop", rehearsal.Turns(tmp_path / "gone"))
    loop.compile(())
    assert loop.compiled == 1


def test_it_can_be_rehearsed_in_an_evaluation():
    rehearsal.rehearse.cache_clear()
    before = rehearsal.rehearse()
    rehearsal.rehearse.cache_clear()
    with no_grad(), ledger.ledger() as entries:
        assert rehearsal.rehearse() == before
    assert not entries


def test_one_core_compiles_without_turns():
    with rehearsal.Helpers(0) as helpers:
        helpers.begin()
        assert jit.turns is jit.at_once and not helpers.processes


@pytest.mark.slow
def test_compiled_ahead_a_training_run_compiles_nothing(tmp_path):
    def minisnn(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "minisnn", *arguments],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=True,
        )

    start = time.perf_counter()
    said = minisnn("compile").stdout
    ahead = time.perf_counter() - start
    assert "kernels are compiled" in said
    start = time.perf_counter()
    run = minisnn("train", "--limit", "32", "--epochs", "1", "--width", "16", "--out", str(tmp_path / "run"))
    assert "compiling" not in run.stderr
    assert time.perf_counter() - start < ahead
