"""norm_fire against what defines it: batch norm, attention and neurons one after another."""

import dataclasses
import functools

import numpy as np
import pytest
from checks import close, examples, leaf, seeds, threads
from hypothesis import given
from hypothesis import strategies as st
from test_attention import weights

from minisnn import Tensor, ledger, nn, no_grad, ops
from minisnn.surrogate import ATan, FastSigmoid, Sigmoid, Triangle

KINDS = [(None, False), *((dim, spiking) for dim in "tcs" for spiking in (False, True))]
names = [f"{'IA' if spiking else 'MA'}-{dim}" if dim else "none" for dim, spiking in KINDS]
shapes = st.sampled_from([(4, 2, 3, 3, 2), (2, 3, 8, 4, 5), (3, 1, 2, 7, 6), (1, 2, 8, 3, 3)])
constants = st.fixed_dictionaries(dict(
    tau=st.sampled_from([1.0, 2.0, 5.0]), v_threshold=st.sampled_from([1.0, 0.4]), v_reset=st.sampled_from([0.0, -0.2, None]),
    detach_reset=st.booleans(), decay_input=st.booleans()))
surrogates = st.sampled_from([ATan(), Sigmoid(), FastSigmoid(), Triangle()])


def case(shape, dim, seed, dtype):
    """Leaves: y, weight, bias, attention; running mean and variance."""
    rng, C = np.random.default_rng(seed), shape[2]
    y = rng.normal(rng.normal(0, 2, (C, 1, 1)), 2, shape)
    leaves = [leaf(y, dtype), leaf(rng.uniform(1, 2, C), dtype), leaf(rng.normal(0.5, 0.5, C), dtype)]
    leaves += weights(shape, dim, rng, dtype) if dim else []
    return leaves, rng.normal(0, 1, C).astype(dtype), rng.uniform(1, 6, C).astype(dtype)


def both(shape, dim, spiking, training, seed, dtype=np.float64, surrogate=ATan(), **options):
    """[spikes, gradients ..., running mean, running variance] of the composition and of norm_fire."""
    n, results = ops.neuron(dtype, **options), []
    for fused in (False, True):
        (y, w, b, *gate), mean, var = case(shape, dim, seed, dtype)
        if fused:
            s = ops.norm_fire(y, w, b, mean, var, n, surrogate, training, dim=dim, attention=gate, spiking=spiking)
        else:
            z = ops.batch_norm(y, w, b, mean, var, training)
            s = ops.lif(ops.attention(z, dim, *gate, spiking=spiking) if dim else z, surrogate=surrogate, **options)
        assert s.is_spikes
        s.backward(np.random.default_rng(1).standard_normal(shape))
        results.append([s.data] + [t.grad for t in (y, w, b, *gate)] + [mean, var])
    return results


@pytest.mark.parametrize("dim, spiking", KINDS, ids=names)
@examples
@given(shapes, st.booleans(), constants, surrogates, seeds)
def test_equals_the_composition(dim, spiking, shape, training, options, surrogate, seed):
    composed, fused = both(shape, dim, spiking, training, seed, surrogate=surrogate, **options)
    assert np.array_equal(composed[0], fused[0])
    for got, expected in zip(fused[1:], composed[1:], strict=True):
        close(got, expected, 1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dim, spiking", KINDS, ids=names)
def test_float32(dim, spiking, training):
    composed, fused = both((4, 2, 8, 6, 5), dim, spiking, training, 0, np.float32)
    assert np.array_equal(composed[0], fused[0])  # no potential of this case lies within rounding of the threshold
    for got, expected in zip(fused[1:], composed[1:], strict=True):
        close(got, expected, 1e-4)


@pytest.mark.parametrize("dim, spiking", KINDS, ids=names)
def test_more_neurons_than_a_block_carries(dim, spiking):
    """64 channels: a block holds 16 pixels, a share of this map 22 or 23, so that blocks are full and cut short."""
    composed, fused = both((3, 2, 64, 10, 9), dim, spiking, True, 0, detach_reset=False)
    assert np.array_equal(composed[0], fused[0]) and 0 < composed[0].mean() < 1
    for got, expected in zip(fused[1:], composed[1:], strict=True):
        close(got, expected, 1e-9)


@pytest.mark.parametrize("dim", [None, "t", "c", "s"])
def test_ties_share_the_gradient_of_a_maximum(dim):
    """Whole numbers, among which every maximum is met several times."""
    results = []
    for fused in (False, True):
        (y, w, b, *gate), mean, var = case((4, 2, 3, 3, 2), dim, 0, np.float64)
        y = leaf(np.random.default_rng(0).integers(0, 3, y.shape))
        if fused:
            s = ops.norm_fire(y, w, b, mean, var, ops.neuron(np.float64), ATan(), dim=dim, attention=gate)
        else:
            z = ops.batch_norm(y, w, b, mean, var)
            s = ops.lif(ops.attention(z, dim, *gate) if dim else z)
        s.backward(np.random.default_rng(1).standard_normal(s.shape))
        results.append([s.data] + [t.grad for t in (y, w, b, *gate)])
    for got, expected in zip(*results):
        close(got, expected, 1e-9)


@pytest.mark.parametrize("dim", [None, "t", "c", "s"])
def test_results_do_not_depend_on_the_number_of_threads(dim):
    results = []
    for n in (1, 2):
        with threads(n):
            results.append(both((3, 5, 8, 9, 7), dim, False, True, 0, np.float32)[1])
    for one, two in zip(*results):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("dim", [None, "t", "c", "s"])
def test_a_sample_does_not_depend_on_its_batch_in_evaluation(dim):
    (y, w, b, *gate), mean, var = case((4, 3, 8, 4, 5), dim, 0, np.float32)

    def fire(y):
        with no_grad():
            n = ops.neuron(np.float32)
            return ops.norm_fire(Tensor(y), w, b, mean, var, n, ATan(), False, dim=dim, attention=gate).data

    for n in range(3):
        assert np.array_equal(fire(y.data[:, n:n + 1]), fire(y.data)[:, n:n + 1])


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


def test_what_does_not_fit_is_refused():
    (y, w, b), mean, var = case((4, 2, 3, 3, 2), None, 0, np.float64)
    n = ops.neuron(np.float64)
    with pytest.raises(ValueError, match="attention"):
        ops.norm_fire(y, w, b, mean, var, n, ATan(), dim="t", attention=[leaf(np.ones((1, 3))), leaf(np.ones((3, 1)))])
