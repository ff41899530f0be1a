"""Optimisers and the schedule against their formulas in NumPy."""

import math

import numpy as np
import pytest
from checks import examples, seeds
from hypothesis import given
from hypothesis import strategies as st

from minisnn import Tensor, nn, ops, optim

SHAPES = [(3, 4), (5,), (8, 1, 3, 3), (2, 2, 1, 1)]


def parameters(rng, dtype, shapes=SHAPES):
    """Parameters, those with four axes in the memory order of a convolution's weights."""
    values = [rng.standard_normal(s).astype(dtype) for s in shapes]
    return [nn.Parameter(np.ascontiguousarray(v.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1) if v.ndim == 4 else v)
            for v in values]


def adam(p, gradients, lr, betas, eps, weight_decay):
    m = v = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        g = g + weight_decay * p
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def sgd(p, gradients, lr, momentum, weight_decay):
    m = np.zeros_like(p)
    for g in gradients:
        m = momentum * m + g + weight_decay * p
        p = p - lr * m
    return p


KINDS = {
    "adam": (optim.Adam, adam, st.fixed_dictionaries(dict(
        lr=st.floats(1e-4, 1e-1), betas=st.tuples(st.floats(0, 0.95), st.floats(0.5, 0.999)), eps=st.sampled_from([1e-8, 1e-3]),
        weight_decay=st.sampled_from([0.0, 0.1])))),
    "sgd": (optim.SGD, sgd, st.fixed_dictionaries(dict(
        lr=st.floats(1e-4, 1e-1), momentum=st.sampled_from([0.0, 0.5, 0.9]), weight_decay=st.sampled_from([0.0, 0.1])))),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@examples
@given(st.data(), st.integers(1, 6), seeds)
def test_steps_follow_the_formula(kind, dtype, data, steps, seed):
    make, formula, options = KINDS[kind]
    options, rng = data.draw(options), np.random.default_rng(seed)
    ps = parameters(rng, dtype)
    start = [p.data.astype(np.float64) for p in ps]
    gradients = [[rng.standard_normal(p.shape).astype(dtype) for p in ps] for _ in range(steps)]
    optimiser = make(ps, **options)
    for step in gradients:
        for p, g in zip(ps, step):
            p.grad = g
        optimiser.step()
    for k, p in enumerate(ps):
        expected = formula(start[k], [step[k].astype(np.float64) for step in gradients], **options)
        rtol = 1e-12 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(p.data, expected, rtol=0, atol=rtol * max(1, np.abs(expected).max()))
        assert p.data.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_continues_to_the_same_bits(kind):
    make, rng = KINDS[kind][0], np.random.default_rng(0)
    ps = parameters(rng, np.float32)
    gradients = [[rng.standard_normal(p.shape).astype(np.float32) for p in ps] for _ in range(5)]
    optimiser = make(ps)

    def walk(optimiser, steps):
        for step in steps:
            for p, g in zip(optimiser.parameters, step):
                p.grad = g
            optimiser.step()

    walk(optimiser, gradients[:3])
    state, copies = optimiser.state_dict(), [nn.Parameter(p.data.copy()) for p in ps]
    assert all(isinstance(a, np.ndarray) for a in state.values())
    walk(optimiser, gradients[3:])
    again = make(copies, lr=0.5)
    again.load_state_dict(state)
    walk(again, gradients[3:])
    for p, q in zip(ps, copies):
        assert np.array_equal(p.data, q.data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_does_not_fit_changes_nothing(kind):
    make, rng = KINDS[kind][0], np.random.default_rng(0)
    optimiser = make(parameters(rng, np.float32))
    others = [make(parameters(rng, np.float32, SHAPES[:2])), make(parameters(rng, np.float32, [(4, 3), *SHAPES[1:]])),
              make(parameters(rng, np.float32, SHAPES + [(2,)])),
              KINDS["adam" if kind == "sgd" else "sgd"][0](parameters(rng, np.float32))]
    states = [other.state_dict() for other in others] + [{}, {k: v for k, v in optimiser.state_dict().items() if k != "lr"}]
    for state in states:
        with pytest.raises(ValueError, match="another optimiser or model"):
            optimiser.load_state_dict(state)
    assert optimiser.steps == 0 and not any(a.any() for arrays in optimiser.state.values() for a in arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_without_a_gradient_stay(kind):
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    optimiser = KINDS[kind][0]([p, q], lr=0.1)
    p.grad = np.ones(3)
    optimiser.step()
    assert np.array_equal(q.data, np.ones(3)) and (p.data < 1).all()
    optimiser.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_of_another_layout_is_moved_all_the_same(kind):
    """Every other row of an array, and a gradient in another memory order."""
    p = nn.Parameter(np.ones((6, 4))[::2])
    optimiser = KINDS[kind][0]([p], lr=0.1)
    p.grad = np.asfortranarray(np.arange(12.0).reshape(3, 4) + 1)
    before = p.data.copy()
    optimiser.step()
    assert (p.data < before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_the_minimum(kind):
    x = nn.Parameter(np.array([3.0, -2.0]))
    optimiser = KINDS[kind][0]([x], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        ops.mse_loss(x, np.array([1.0, 2.0])).backward()
        optimiser.step()
    np.testing.assert_allclose(x.data, [1, 2], atol=1e-3)


@examples
@given(st.integers(1, 30), st.floats(0, 1e-3), st.integers(0, 5))
def test_cosine_annealing(total, floor, warmup):
    optimiser = optim.SGD([nn.Parameter(np.ones(1))], lr=0.1)
    schedule, rates = optim.CosineAnnealing(optimiser, total, floor, warmup), [optimiser.lr]
    for _ in range(total + 3):
        schedule.step()
        rates.append(optimiser.lr)
    for k, rate in enumerate(rates):
        expected = floor + (0.1 - floor) * (1 + math.cos(math.pi * min(k, total) / total)) / 2
        assert math.isclose(rate, expected * min(1, (k + 1) / (warmup + 1)), rel_tol=1e-12, abs_tol=1e-15)
    if warmup <= total + 3:
        assert math.isclose(rates[-1], floor, abs_tol=1e-12)


def test_a_schedule_continues():
    def make():
        optimiser = optim.SGD([nn.Parameter(np.ones(1))], lr=0.1)
        return optimiser, optim.CosineAnnealing(optimiser, 10)

    (_, first), (optimiser, second) = make(), make()
    for _ in range(4):
        first.step()
    second.load_state_dict(first.state_dict())
    assert optimiser.lr == first.optimiser.lr and second.rate(7) == first.rate(7)


@pytest.mark.parametrize("make, options, complaint", [
    (optim.Adam, dict(lr=0.0), "lr is 0.0"), (optim.Adam, dict(lr=-1.0), "lr is -1"),
    (optim.Adam, dict(lr=math.nan), "lr is nan"), (optim.SGD, dict(lr=math.inf), "lr is inf"),
    (optim.Adam, dict(betas=(0.9, 1.0)), "betas"), (optim.Adam, dict(betas=(-0.1, 0.9)), "betas"),
    (optim.Adam, dict(weight_decay=-1), "weight_decay"), (optim.Adam, dict(eps=-1e-8), "eps"),
    (optim.SGD, dict(momentum=1.0), "momentum"), (optim.SGD, dict(momentum=-0.5), "momentum"),
    (optim.SGD, dict(weight_decay=-1), "weight_decay")])
def test_numbers_out_of_range_are_refused(make, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        make([nn.Parameter(np.ones(1))], **options)


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="no parameters"):
        optim.Adam([])
    with pytest.raises(TypeError, match="parameter 1 is ndarray"):
        optim.Adam([nn.Parameter(np.ones(1)), np.ones(1)])
    with pytest.raises(TypeError, match="parameter 0 holds spikes"):
        optim.SGD([Tensor(np.ones(1, bool))])
    optimiser = optim.SGD([nn.Parameter(np.ones(1))])
    for arguments in ((0,), (10, -0.1), (10, 0.0, -1)):
        with pytest.raises(ValueError, match="give at least one step"):
            optim.CosineAnnealing(optimiser, *arguments)
