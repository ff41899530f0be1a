"""How often the shortcuts of some runs fire in each time step, on all test samples: a table as CSV.

python gates.py runs/study-digits/syna-t-a-seed* > digits_gates.csv
"""

import contextlib
import csv
import functools
import sys
from pathlib import Path

import numpy as np

from minisnn import nn, no_grad
from minisnn.data import batches
from minisnn.runs import Run


def add(total, k, inputs, out):
    """Add the spikes of shortcut k and the number of its neurons; out: [T, N, C, H, W]."""
    total[k] = total.get(k, 0) + np.array([out.data.sum((1, 2, 3, 4), np.float64), np.full(len(out.data), out.data[0].size)])


writer = csv.writer(sys.stdout, lineterminator="\n")
for number, path in enumerate(sys.argv[1:]):
    run, total = Run.open(path), {}
    net = run.network().eval()
    with contextlib.ExitStack() as stack, no_grad():
        for k, stage in enumerate(net.stages):
            stack.enter_context(nn.listen(stage.shortcut, functools.partial(add, total, k)))
        for x in batches(run.dataset().test, 64):
            net(x)
    if number == 0:
        writer.writerow(["cell", "shortcut", *(f"step {t + 1}" for t in range(len(x)))])
    for k, (spikes, neurons) in total.items():
        writer.writerow([Path(path).name, k + 1, *(spikes / neurons).round(6)])
