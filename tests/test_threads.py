"""Several Python threads at once, under each of Numba's threading layers; and whose number of threads it is that is set."""

import concurrent.futures
import importlib.util
import os
import subprocess
import sys

import numba
import pytest

import minisnn as snn

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
threads = [threading.Thread(target=work, args=(name, scores, right[name][1])) for name in nets for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
for net in nets.values():
    net.train()
threads = [threading.Thread(target=work, args=(name, gradient, right[name][0])) for name in nets]
[t.start() for t in threads]; [t.join() for t in threads]
print(numba.threading_layer(), len(wrong), sum(wrong), *errors)
"""


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_threads_may_call_at_once(layer, tmp_path):
    if layer == "tbb" and importlib.util.find_spec("tbb") is None:
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
