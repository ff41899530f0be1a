"""Several Python threads at once, under each of Numba's threading layers; and whose number of threads it is that is set."""

import concurrent.futures
import importlib.metadata
import os
import subprocess
import sys

import numba
import pytest

import minisnn as snn
from minisnn import threads

HAS_TBB = sys.platform == "linux" and any(importlib.metadata.distributions(name="tbb"))

TRAIN_AND_INFER = """
import threading
import numba, numpy as np
import minisnn as snn
from minisnn import models, ops

rng = np.random.default_rng(0)
x = rng.random((2, 4, 1, 16, 16), dtype=np.float32) * 3
nets = {name: models.build("digits", residual, width=16, timesteps=2, seed=0) for name, residual in (("a", "or"), ("b", "add"))}

def gradient(net):
    net.zero_grad()
    ops.mse_loss(net(x), np.ones((4, 10), np.float32)).backward()
    return [p.grad for p in net.parameters()]

def scores(net):
    with snn.no_grad():
        return [net(x).data]

right = {name: (gradient(net), scores(net.eval()), net.train())[:2] for name, net in nets.items()}
wrong, errors = [], []

def work(name, f, expected):
    try:
        for _ in range(5):
            wrong.append(not all(map(np.array_equal, f(nets[name]), expected)))
    except Exception as error:
        errors.append(repr(error))

for net in nets.values():
    net.eval()
workers = [threading.Thread(target=work, args=(name, scores, right[name][1])) for name in nets for _ in range(2)]
[t.start() for t in workers]; [t.join() for t in workers]
for net in nets.values():
    net.train()
workers = [threading.Thread(target=work, args=(name, gradient, right[name][0])) for name in nets]
[t.start() for t in workers]; [t.join() for t in workers]
print(numba.threading_layer(), len(wrong), sum(wrong), *errors)
"""


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_threads_may_call_at_once(layer, tmp_path):
    if layer == "tbb" and not HAS_TBB:
        pytest.skip("TBB is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_INFER],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"NUMBA_THREADING_LAYER": layer},
    )
    if layer == "omp" and "No threading layer could be loaded" in done.stderr:
        pytest.skip("OpenMP is not installed")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [layer, "30", "0"]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_the_number_of_threads_is_that_of_the_thread_that_asks():
    before = snn.get_num_threads()
    snn.set_num_threads(1)
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(snn.get_num_threads).result() == numba.config.NUMBA_NUM_THREADS
            pool.submit(snn.set_num_threads, 2).result()
        assert snn.get_num_threads() == 1
    finally:
        snn.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Numba's choice stays")
@pytest.mark.parametrize(
    ("own", "layer", "spins"),
    [
        ({}, "tbb" if HAS_TBB else "omp", None if HAS_TBB else threads.SPINS),
        ({"NUMBA_THREADING_LAYER": "omp"}, "omp", threads.SPINS),
        ({"NUMBA_THREADING_LAYER": "omp", "GOMP_SPINCOUNT": "7"}, "omp", "7"),
        ({"NUMBA_THREADING_LAYER": "omp", "OMP_WAIT_POLICY": "active"}, "omp", None),
        ({"NUMBA_THREADING_LAYER": "workqueue"}, "workqueue", threads.SPINS),
    ],
)
def test_threads_that_wait_leave_the_core_to_others_unless_the_user_says_otherwise(own, layer, spins):
    say = "import os; from minisnn import engine, threads, jit; print(threads.threading_layer(), os.getenv('GOMP_SPINCOUNT'))"
    plain = {k: v for k, v in os.environ.items() if k not in ("NUMBA_THREADING_LAYER", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, env=plain | own)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip("OpenMP is not installed")
    assert done.stdout.split() == [layer, str(spins)], done.stderr[-2000:]


def test_a_library_of_another_machine_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / threads.TBB).write_bytes(b"not a library")
    monkeypatch.setattr(threads.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(threads.site, "USER_BASE", None)
    monkeypatch.setattr(threads.sys, "platform", "linux")
    for name in ("NUMBA_THREADING_LAYER", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    threads.prefer_patient_layer()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS
