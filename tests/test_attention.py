"""MA and IA in time, channels and space: the loops against Eq. 7 to 10 from elementary operations on the tape."""

import numpy as np
import pytest
from checks import dtypes, examples, leaf, same, seeds, values_and_gradients
from hypothesis import given
from hypothesis import strategies as st

from minisnn import Tensor, gradcheck, ops

POOLED = {"t": (2, 3, 4), "c": (0, 3, 4), "s": (0, 2)}  # the axes that each dimension pools over
DIMENSIONS = list(POOLED)
shapes = st.sampled_from([(4, 2, 3, 2, 2), (1, 1, 1, 1, 1), (2, 3, 8, 4, 5), (8, 1, 2, 3, 3), (3, 2, 5, 1, 4)])


def weights(shape, dim, rng, dtype=np.float64, hidden=2, kernel=3):
    """Leaves of the size that the dimension needs, large enough for IA's neurons to fire."""
    if dim == "s":
        return [leaf(rng.normal(0.2, 1, (1, 2, kernel, kernel)), dtype)]
    K = shape[0] if dim == "t" else shape[2]
    return [leaf(rng.normal(0.3, 1, s), dtype) for s in ((hidden, K), (K, hidden))]


def definition(x, dim, *w, spiking=False):
    """Eq. 7, 8 or 9, then Eq. 10 and a ReLU. Scores of a sample lie on axis 0 of ``z``, so that IA's neurons run along T."""
    avg, top = x.mean(POOLED[dim]), x.max(POOLED[dim])
    if dim == "s":
        maps = ops.stack([avg, top], 1)
        z = ops.conv2d(maps, w[0], padding=w[0].shape[-1] // 2).reshape(1, x.shape[1], 1, *x.shape[3:])
    else:
        avg, top = (avg.T, top.T) if dim == "t" else (avg, top)  # [N, K]
        z = (avg @ w[0].T).relu() @ w[1].T + (top @ w[0].T).relu() @ w[1].T
        z = z.T.reshape(x.shape[0], -1, 1, 1, 1) if dim == "t" else z.reshape(1, *z.shape, 1, 1)
    return ((ops.lif(z) if spiking else z.sigmoid()) * x).relu()


@pytest.mark.parametrize("spiking", [False, True], ids=["MA", "IA"])
@pytest.mark.parametrize("dim", DIMENSIONS)
@examples
@given(shapes, st.sampled_from([1, 3]), st.booleans(), seeds)
def test_equals_the_equations(dim, spiking, shape, kernel, ties, seed):
    """Also where many entries share a maximum, whose gradient they then share."""
    rng = np.random.default_rng(seed)
    x = leaf(rng.integers(-2, 3, shape) + 0.5 if ties else rng.normal(0, 1, shape))
    inputs = [x, *weights(shape, dim, rng, kernel=kernel)]
    same(lambda x, *w: ops.attention(x, dim, *w, spiking=spiking),
         lambda x, *w: definition(x, dim, *w, spiking=spiking), inputs, 1e-11)


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_float32(dim):
    rng = np.random.default_rng(0)
    inputs = [leaf(rng.normal(0, 1, (4, 2, 8, 5, 4)), np.float32), *weights((4, 2, 8, 5, 4), dim, rng, np.float32)]
    same(lambda x, *w: ops.attention(x, dim, *w), lambda x, *w: definition(x, dim, *w), inputs)


@pytest.mark.parametrize("dim", DIMENSIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradcheck(dim, seed):
    rng, shape = np.random.default_rng(seed), (4, 2, 3, 3, 2)
    gradcheck(lambda x, *w: ops.attention(x, dim, *w), [leaf(rng.normal(0, 1, shape)), *weights(shape, dim, rng)])


@pytest.mark.parametrize("dim", DIMENSIONS)
def test_gradcheck_of_inhibition_with_smooth_neurons(dim):
    rng, shape = np.random.default_rng(0), (4, 2, 3, 3, 2)
    gradcheck(lambda x, *w: ops.attention(x, dim, *w, spiking=True, smooth=True, detach_reset=False),
              [leaf(rng.normal(0, 1, shape)), *weights(shape, dim, rng)])


@pytest.mark.parametrize("dim", DIMENSIONS)
@examples
@given(st.booleans(), dtypes, seeds)
def test_a_sample_does_not_depend_on_its_batch(dim, spiking, dtype, seed):
    """In the published code the potentials of IA's neurons leak from one sample to the next."""
    rng, shape = np.random.default_rng(seed), (4, 3, 8, 4, 5)
    x, w = rng.normal(0, 1, shape).astype(dtype), weights(shape, dim, rng, dtype)
    together = ops.attention(Tensor(x), dim, *w, spiking=spiking).data
    for n in range(shape[1]):
        assert np.array_equal(ops.attention(Tensor(x[:, n:n + 1]), dim, *w, spiking=spiking).data, together[:, n:n + 1])


@pytest.mark.parametrize("dim", ["c", "s"])
def test_one_step_from_rest_fires_where_half_the_logit_reaches_the_threshold(dim):
    """T is pooled away in C and S: with one hidden unit of weight 1 the logit is avg + max."""
    x = np.full((3, 2, 1, 1, 1), 0.9)
    x[:, 1] = 1.1  # avg + max is 1.8 for the first sample, 2.2 for the second
    w = [Tensor(np.ones((1, 2, 1, 1)))] if dim == "s" else [Tensor(np.ones((1, 1))), Tensor(np.ones((1, 1)))]
    out = ops.attention(Tensor(x), dim, *w, spiking=True).data
    assert not out[:, 0].any() and np.array_equal(out[:, 1], x[:, 1])


def test_inhibition_lets_through_or_stops_and_nothing_is_negative():
    rng, shape = np.random.default_rng(2), (4, 2, 3, 3, 2)
    x = leaf(rng.normal(0, 1, shape))
    for dim in DIMENSIONS:
        out = values_and_gradients(lambda x, *w: ops.attention(x, dim, *w, spiking=True), [x, *weights(shape, dim, rng)])[0]
        assert np.all((out == 0) | (out == np.maximum(x.data, 0)))


@pytest.mark.parametrize("dim, shapes, complaint", [
    ("x", [(1, 4), (4, 1)], "give one of t, c, s"), (None, [(1, 4), (4, 1)], "give one of"),
    ("t", [(1, 3), (3, 1)], r"give \[hidden, 4\] and \[4, hidden\]"), ("t", [(1, 4)], "give"), ("t", [(1, 4), (4, 2)], "give"),
    ("c", [(1, 4), (4, 1)], r"give \[hidden, 3\]"), ("s", [(1, 2, 3, 3)] * 2, "one kernel"), ("s", [(1, 2, 2, 2)], "k odd"),
    ("s", [(1, 2, 3, 1)], "one kernel"), ("s", [(1, 3, 3, 3)], "one kernel"), ("s", [(9,)], "one kernel"),
    ("s", [], "one kernel")])
def test_weights_that_do_not_fit_are_refused(dim, shapes, complaint):
    with pytest.raises(ValueError, match=f"attention.*{complaint}"):
        ops.attention(Tensor(np.ones((4, 2, 3, 2, 2))), dim, *(Tensor(np.ones(s)) for s in shapes))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="attention: x has shape"):
        ops.attention(Tensor(np.ones((4, 3, 2, 2))), "t", Tensor(np.ones((1, 4))), Tensor(np.ones((4, 1))))
