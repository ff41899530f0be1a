"""NaN and infinity never end as a finite loss over dead weights: operations on numbers pass NaN on (test_operations.py), and
neurons, whose spikes cannot carry it, refuse it, as batch norm does before it moves its running statistics.
"""

import numpy as np
import pytest
from checks import leaf

from minisnn import Tensor, models, nn, no_grad, ops, optim
from minisnn.ops.lif import lif_forward, neuron
from minisnn.surrogate import ATan

BROKEN = [np.nan, np.inf, -np.inf]


def maps(rng, shape=(2, 2, 8, 6, 6), dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


def test_nan_wins_a_maximum_wherever_it_stands_and_gets_the_gradient():
    for at in range(4):
        x = leaf(np.arange(4.0).reshape(1, 1, 2, 2))
        x.data[0, 0, at // 2, at % 2] = np.nan
        out = ops.max_pool2d(x, 2)
        out.backward(np.ones((1, 1, 1, 1)))
        assert np.isnan(out.data).all() and np.flatnonzero(x.grad).tolist() == [at]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("v_reset", [0.0, None, -0.5])
def test_neurons_refuse_a_current_that_is_not_finite(value, dtype, v_reset):
    for at in ((0, 0), (3, 1999), (1, 1024)):
        x = np.zeros((4, 2000), dtype)
        x[at] = value
        with pytest.raises(FloatingPointError, match="NaN, infinite or too large"):
            ops.lif(Tensor(x), v_reset=v_reset)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dim", [None, "t", "c", "s"])
@pytest.mark.parametrize("spiking", [True, False])
def test_so_do_the_fused_ones(value, training, dim, spiking):
    if value == -np.inf and dim is not None and not training:
        pytest.skip("attention ends in a ReLU, which makes 0 of it")
    rng = np.random.default_rng(0)
    norm = nn.BatchNorm2d(8).train(training)
    attention = None if dim is None else nn.Attention(dim, 2, 8, spiking, rng=rng)
    x = maps(rng, dtype=np.float32)
    nn.LIF().after(norm, attention, Tensor(x))
    running = norm.running_mean.copy(), norm.running_var.copy()
    x[1, 1, 5, 4, 2] = value
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="channel 5" if training else "NaN"):
        nn.LIF().after(norm, attention, Tensor(x))
    assert np.array_equal(norm.running_mean, running[0]) and np.array_equal(norm.running_var, running[1])


@pytest.mark.parametrize("value", BROKEN)
def test_batch_norm_refuses_in_training_and_keeps_its_statistics(value):
    norm, x = nn.BatchNorm2d(8, dtype="float64"), maps(np.random.default_rng(0))
    x[0, 1, 3] = value
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="channel 3 "):
        norm(Tensor(x))
    assert not norm.running_mean.any() and np.array_equal(norm.running_var, np.ones(8))


NETS = [dict(residual=r) for r in ("or", "add", "and", "iand", "vanilla", "ms", "none")] + [dict(attention=a) for a in "tcs"]


@pytest.mark.parametrize("options", NETS, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_no_network_swallows_a_broken_pixel(options, training):
    net = models.build("digits", width=8, timesteps=2, seed=0, **options).train(training)
    adam = optim.Adam(net.parameters())
    rng = np.random.default_rng(0)
    for value in BROKEN:
        x = rng.random((2, 3, 1, 16, 16), dtype=np.float32)
        x[0, 0, 0, 5, 5] = value
        before = net.state_dict()
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
            ops.cross_entropy(net(Tensor(x)), np.arange(3)).backward()
            adam.step()
        after = net.state_dict()
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_broken_weights_are_refused_too():
    net = models.build("digits", width=8, timesteps=2, seed=0).eval()
    net.features[1].norm.weight.data[3] = np.nan
    with no_grad(), pytest.raises(FloatingPointError):
        net(np.random.default_rng(0).random((2, 3, 1, 16, 16), dtype=np.float32))


# ---- numbers near 0 -----------------------------------------------------------------------------------------------------


def check_gradient(grad):
    """It dies out over time: 0 at the first steps, and denormal at two at most on the way there."""
    sizes = np.abs(grad)
    assert (sizes[-1] > 0).all() and not sizes[0].any()
    assert ((sizes > 0) & (sizes < np.finfo(grad.dtype).tiny)).sum(0).max() <= 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_a_silent_neuron_comes_to_rest(dtype, v_reset):
    # Without the flush its potential halves into the denormal numbers, on which a CPU is up to 30 times slower.
    T = 1200
    x = np.zeros((T, 100), dtype)
    x[0] = np.linspace(-0.9, 0.9, 100)
    h, s = np.zeros(100, dtype), np.empty((T, 100), np.uint8)
    lif_forward(s, h, x, neuron(dtype, v_reset=v_reset), False, 0, 2.0)
    assert not h.any()
    tensor = Tensor(x, requires_grad=True)
    ops.lif(tensor, v_reset=v_reset)[-1].sum().backward()
    check_gradient(tensor.grad)


def test_a_silent_network_leaves_no_denormal_gradient():
    y = np.zeros((300, 1, 8, 2, 2), np.float32)
    y[0] = 0.5
    y = Tensor(y, requires_grad=True)
    norm = nn.BatchNorm2d(8).eval()
    nn.LIF().after(norm, None, y)[-1].sum().backward()
    check_gradient(y.grad)


def test_smallest_potentials_change_no_spike():
    tiny = float(np.finfo(np.float64).tiny)
    x = Tensor(np.array([[tiny], [2.0 - 2 * tiny], [2.0]]))
    assert ops.lif(x).data.ravel().tolist() == [0.0, 1.0, 1.0]
    assert ops.lif(x, surrogate=ATan()).is_spikes
    kept = [ops.lif(Tensor(np.array([[u]])), decay_input=False, return_state=True)[1].item() for u in (tiny, tiny / 2)]
    assert kept == [tiny, 0.0]  # the smallest normal number is kept, those below count as 0
