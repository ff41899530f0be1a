"""MA and IA, by hand; test_operations.py holds their loops against Eq. 7 to 10 from elementary operations on the tape."""

import functools

import numpy as np
import pytest
from checks import close, leaf

from minisnn import Tensor, energy, models, nn, ops
from minisnn.ops.attention import DIMENSIONS, SharedLayers


@pytest.mark.parametrize("dim", ["c", "s"])
def test_one_step_from_rest_fires_where_half_the_logit_reaches_the_threshold(dim):
    """T is pooled away in C and S: with one hidden unit of weight 1 the logit is avg + max."""
    x = np.full((3, 2, 1, 1, 1), 0.9)
    x[:, 1] = 1.1  # avg + max is 1.8 for the first sample, 2.2 for the second
    w = [Tensor(np.ones((1, 2, 1, 1)))] if dim == "s" else [Tensor(np.ones((1, 1))), Tensor(np.ones((1, 1)))]
    out = ops.attention(Tensor(x), dim, *w, spiking=True).data
    assert not out[:, 0].any() and np.array_equal(out[:, 1], x[:, 1])


def test_another_dimension_is_another_row(monkeypatch):
    """One score for a whole sample: operation, fused twin, network, energy and scores take it from the row."""
    row = SharedLayers(words="everything", hidden=lambda K: 2, published_hidden=lambda K: 2)
    monkeypatch.setitem(DIMENSIONS, "g", row)
    rng = np.random.default_rng(0)
    x = leaf(rng.normal(0, 3, (4, 2, 8, 5, 5)), np.float32)
    norm, gate, neurons = nn.BatchNorm2d(8), nn.Attention("g", 4, 8, rng=rng), nn.LIF()
    results = []
    for after in (neurons.after, functools.partial(nn.Neurons.after, neurons)):
        leaves = [x, *gate.parameters(), *norm.parameters()]
        for p in leaves:
            p.zero_grad()
        s = after(norm, gate, x)
        s.backward(np.random.default_rng(1).standard_normal(s.shape))
        results.append([s.data, *(p.grad for p in leaves)])
    assert results[0][0].any()
    for fused, composed in zip(*results, strict=True):
        close(fused, composed, 1e-4)
    net = models.build("digits", attention="g", width=8, timesteps=4, seed=0)
    report = energy.measure(net, np.ones((4, 2, 1, 8, 8), np.float32) * 4)
    assert report.attention_mac > 0 and energy.published_of(net, report).attention_mac == 11  # 0 * 2 + 1 * 1, in 11 modules
    assert net.features[0].attention.scores(x).shape == (2, 1)
