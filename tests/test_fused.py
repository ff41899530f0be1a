"""Layers of neurons take the fused operation, which test_operations.py holds against batch norm, attention and neurons."""

import dataclasses
import functools

import numpy as np
import pytest
from checks import close

from minisnn import Tensor, ledger, nn


@pytest.mark.parametrize("kind", [nn.LIF, nn.IF, nn.PLIF])
def test_a_layer_of_neurons_takes_the_fused_way_and_counts_the_same(kind):
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(0, 3, (4, 2, 8, 5, 5)), dtype=np.float32)
    norm, neurons, gate = nn.BatchNorm2d(8), kind(), nn.Attention("c", 4, 8, rng=rng)
    nn.Sequential(norm, neurons, gate).name_parts()
    for attention in (None, gate):
        counts, outputs = [], []
        for fused in (False, True):
            with ledger.ledger() as entries:
                out = (neurons.after if fused else functools.partial(nn.Neurons.after, neurons))(norm, attention, x)
            counts.append(sorted(dataclasses.astuple(e) for e in entries))
            outputs.append(out.data)
        assert np.array_equal(*outputs) and counts[0] == counts[1]
    smooth = kind(smooth=True)
    close(smooth.after(norm, gate, x).data, smooth(gate(norm(x))).data)
