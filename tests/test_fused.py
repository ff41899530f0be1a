"""Layers of neurons take the fused operation, which test_operations.py holds against batch norm, attention and neurons."""

import dataclasses
import functools

import numpy as np
from checks import close

from minisnn import Tensor, ledger, nn


def test_a_layer_of_neurons_takes_the_fused_way_and_counts_the_same():
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(0, 3, (4, 2, 8, 5, 5)), dtype=np.float32)
    norm, neurons, gate = nn.BatchNorm2d(8), nn.LIF(), nn.Attention("c", 4, 8, rng=rng)
    nn.Sequential(norm, neurons, gate).name_parts()
    for attention in (None, gate):
        counts, outputs = [], []
        for fused in (False, True):
            with ledger.ledger() as entries:
                out = (neurons.after if fused else functools.partial(nn.Neurons.after, neurons))(norm, attention, x)
            counts.append(sorted(dataclasses.astuple(e) for e in entries))
            outputs.append(out.data)
        assert np.array_equal(*outputs) and counts[0] == counts[1]
    smooth = nn.LIF(smooth=True)
    close(smooth.after(norm, gate, x).data, smooth(gate(norm(x))).data)
