"""Optimizers and the schedule against their formulas in NumPy."""

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
    return [
        nn.Parameter(np.ascontiguousarray(v.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1) if v.ndim == 4 else v) for v in values
    ]


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
    "adam": (
        optim.Adam,
        adam,
        st.fixed_dictionaries(
            dict(
                lr=st.floats(1e-4, 1e-1),
                betas=st.tuples(st.floats(0, 0.95), st.floats(0.5, 0.999)),
                eps=st.sampled_from([1e-8, 1e-3]),
                weight_decay=st.sampled_from([0.0, 0.1]),
            )
        ),
    ),
    "sgd": (
        optim.SGD,
        sgd,
        st.fixed_dictionaries(
            dict(lr=st.floats(1e-4, 1e-1), momentum=st.sampled_from([0.0, 0.5, 0.9]), weight_decay=st.sampled_from([0.0, 0.1]))
        ),
    ),
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
    optimizer = make(ps, **options)
    for step in gradients:
        for p, g in zip(ps, step):
            p.grad = g
        optimizer.step()
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
    optimizer = make(ps)

    def walk(optimizer, steps):
        for step in steps:
            for p, g in zip(optimizer.parameters, step):
                p.grad = g
            optimizer.step()

    walk(optimizer, gradients[:3])
    state, copies = optimizer.state_dict(), [nn.Parameter(p.data.copy()) for p in ps]
    assert all(isinstance(a, np.ndarray) for a in state.values())
    walk(optimizer, gradients[3:])
    again = make(copies, lr=0.5)
    again.load_state_dict(state)
    walk(again, gradients[3:])
    for p, q in zip(ps, copies):
        assert np.array_equal(p.data, q.data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_does_not_fit_changes_nothing(kind):
    make, rng = KINDS[kind][0], np.random.default_rng(0)
    optimizer = make(parameters(rng, np.float32))
    others = [
        make(parameters(rng, np.float32, SHAPES[:2])),
        make(parameters(rng, np.float32, [(4, 3), *SHAPES[1:]])),
        make(parameters(rng, np.float32, SHAPES + [(2,)])),
        KINDS["adam" if kind == "sgd" else "sgd"][0](parameters(rng, np.float32)),
    ]
    states = [other.state_dict() for other in others] + [{}, {k: v for k, v in optimizer.state_dict().items() if k != "lr"}]
    for state in states:
        with pytest.raises(ValueError, match="another optimizer or model"):
            optimizer.load_state_dict(state)
    assert optimizer.steps == 0 and not any(a.any() for arrays in optimizer.state.values() for a in arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_without_a_gradient_stay(kind):
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    optimizer = KINDS[kind][0]([p, q], lr=0.1)
    p.grad = np.ones(3)
    optimizer.step()
    assert np.array_equal(q.data, np.ones(3)) and (p.data < 1).all()
    optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_of_another_layout_is_moved_all_the_same(kind):
    """Every other row of an array, and a gradient in another memory order."""
    p = nn.Parameter(np.ones((6, 4))[::2])
    optimizer = KINDS[kind][0]([p], lr=0.1)
    p.grad = np.asfortranarray(np.arange(12.0).reshape(3, 4) + 1)
    before = p.data.copy()
    optimizer.step()
    assert (p.data < before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_the_minimum(kind):
    x = nn.Parameter(np.array([3.0, -2.0]))
    optimizer = KINDS[kind][0]([x], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        ops.mse_loss(x, np.array([1.0, 2.0])).backward()
        optimizer.step()
    np.testing.assert_allclose(x.data, [1, 2], atol=1e-3)


@examples
@given(st.integers(1, 30), st.floats(0, 1e-3), st.integers(0, 5))
def test_cosine_annealing(total, floor, warmup):
    optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=0.1)
    schedule, rates = optim.CosineAnnealing(optimizer, total, floor, warmup), [optimizer.lr]
    for _ in range(total + 3):
        schedule.step()
        rates.append(optimizer.lr)
    for k, rate in enumerate(rates):
        expected = floor + (0.1 - floor) * (1 + math.cos(math.pi * min(k, total) / total)) / 2
        assert math.isclose(rate, expected * min(1, (k + 1) / (warmup + 1)), rel_tol=1e-12, abs_tol=1e-15)
    if warmup <= total + 3:
        assert math.isclose(rates[-1], floor, abs_tol=1e-12)


def test_a_schedule_continues():
    def make():
        optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=0.1)
        return optimizer, optim.CosineAnnealing(optimizer, 10)

    (_, first), (optimizer, second) = make(), make()
    for _ in range(4):
        first.step()
    second.load_state_dict(first.state_dict())
    assert optimizer.lr == first.optimizer.lr and second.rate(7) == first.rate(7)


@pytest.mark.parametrize(
    "make, options, complaint",
    [
        (optim.Adam, dict(lr=0.0), "lr is 0.0"),
        (optim.Adam, dict(lr=-1.0), "lr is -1"),
        (optim.Adam, dict(lr=math.nan), "lr is nan"),
        (optim.SGD, dict(lr=math.inf), "lr is inf"),
        (optim.Adam, dict(betas=(0.9, 1.0)), "betas"),
        (optim.Adam, dict(betas=(-0.1, 0.9)), "betas"),
        (optim.Adam, dict(weight_decay=-1), "weight_decay"),
        (optim.Adam, dict(eps=-1e-8), "eps"),
        (optim.SGD, dict(momentum=1.0), "momentum"),
        (optim.SGD, dict(momentum=-0.5), "momentum"),
        (optim.SGD, dict(weight_decay=-1), "weight_decay"),
    ],
)
def test_numbers_out_of_range_are_refused(make, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        make([nn.Parameter(np.ones(1))], **options)


def test_numbers_at_the_edge_of_their_range_are_taken():
    ends = dict(betas=(0.0, 0.0), eps=0.0, weight_decay=0.0)
    p = nn.Parameter(np.ones(1))
    adam = optim.Adam([p], lr=0.5, **ends)
    p.grad = np.full(1, 3.0)
    adam.step()
    assert p.data == 0.5  # 1 - lr * g / |g|
    optim.SGD([p], lr=0.5, momentum=0.0, weight_decay=0.0)
    schedule = optim.CosineAnnealing(adam, 1)
    schedule.step()
    assert adam.lr == schedule.floor == 0.0


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="no parameters"):
        optim.Adam([])
    with pytest.raises(TypeError, match="parameter 1 is ndarray"):
        optim.Adam([nn.Parameter(np.ones(1)), np.ones(1)])
    with pytest.raises(TypeError, match="parameter 0 .*holds spikes"):
        optim.SGD([Tensor(np.ones(1, bool))])
    optimizer = optim.SGD([nn.Parameter(np.ones(1))])
    for arguments in ((0,), (10, -0.1), (10, 0.0, -1)):
        with pytest.raises(ValueError, match="give at least one step"):
            optim.CosineAnnealing(optimizer, *arguments)


# ---- parameters that changed after the optimizer was made --------------------------------------------------------------


def moved_by(optimizer, p, gradient):
    """By how much one step moves a parameter."""
    before, p.grad = p.data.copy(), gradient
    optimizer.step()
    return before - p.data


GAPS = {
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "the other order in memory": np.asfortranarray,
    "from the last to the first": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "a slice of three axes": lambda a: np.stack([a, a], 1)[:, 0],
}


@pytest.mark.parametrize("how", GAPS)
@pytest.mark.parametrize("kind", KINDS)
def test_data_given_later_is_moved_wherever_it_lies(kind, how):
    p, same = nn.Parameter(np.ones((3, 4))), nn.Parameter(np.ones((3, 4)))
    optimizers = [KINDS[kind][0]([q], lr=0.1) for q in (p, same)]
    rng = np.random.default_rng(0)
    for step in range(4):
        if step == 2:
            p.data = GAPS[how](p.data)
        gradient = rng.standard_normal((3, 4))
        moved = [moved_by(optimizer, q, gradient) for optimizer, q in zip(optimizers, (p, same))]
        assert np.array_equal(*moved) and moved[0].all()
    for name in optimizers[0].states:
        assert np.array_equal(*(optimizer.state[name][0] for optimizer in optimizers))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change, error, complaint",
    [
        (
            lambda p: setattr(p, "data", np.ones((12, 8), np.float32)),
            ValueError,
            r"parameter 1 \(head.weight, shape \(12, 8\)\) had",
        ),
        (lambda p: setattr(p, "data", np.ones((10, 8), bool)), TypeError, "parameter 1 .*holds spikes"),
        (lambda p: setattr(p, "data", np.broadcast_to(np.float32(1), (10, 8))), ValueError, "parameter 1 .*cannot be written"),
        (lambda p: setattr(p, "grad", np.ones((1, 8), np.float32)), ValueError, r"gradient of parameter 1 .*shape \(1, 8\)"),
        (lambda p: setattr(p, "grad", np.ones((10, 8))), ValueError, "gradient of parameter 1 .*float64"),
        (lambda p: setattr(p, "grad", Tensor(np.ones((10, 8), np.float32))), TypeError, "gradient of parameter 1 .*is Tensor"),
        (lambda p: setattr(p, "grad", [[1.0] * 8] * 10), TypeError, "gradient of parameter 1 .*is list"),
    ],
)
def test_what_no_longer_fits_is_refused_by_name_and_nothing_moves(kind, change, error, complaint):
    class Net(nn.Module):
        def __init__(self):
            self.scale = nn.Parameter(np.ones(3, np.float32))
            self.head = nn.Linear(8, 10, rng=np.random.default_rng(0))

    net = Net()
    optimizer = KINDS[kind][0](net.parameters())
    for p in net.parameters():
        p.grad = np.ones(p.shape, np.float32)
    change(net.head.weight)
    with pytest.raises(error, match=complaint):
        optimizer.step()
    assert optimizer.steps == 0 and np.array_equal(net.scale.data, np.ones(3, np.float32))
    assert not any(a.any() for arrays in optimizer.state.values() for a in arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_given_twice_is_moved_once(kind):
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    once, twice = KINDS[kind][0]([q]), KINDS[kind][0]([p, p])
    assert len(twice.parameters) == 1
    assert np.array_equal(moved_by(once, q, np.ones(3)), moved_by(twice, p, np.ones(3)))


def test_adamw_decays_beside_the_means():
    rng = np.random.default_rng(0)
    values, gradients = rng.standard_normal((3, 4)), rng.standard_normal((5, 3, 4))
    p, expected, m, v, lr, decay = nn.Parameter(values.copy()), values, 0.0, 0.0, 0.1, 0.3
    mover = optim.AdamW([p], lr=lr, weight_decay=decay)
    for t, g in enumerate(gradients, 1):
        p.grad = g.copy()
        mover.step()
        expected = expected * (1 - lr * decay)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected = expected - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    assert p.data == pytest.approx(expected, rel=1e-12) and mover.weight_decay == decay


def test_clipping_keeps_the_direction_and_shortens_what_is_longer():
    a, b, c = (nn.Parameter(np.zeros(2)) for _ in range(3))
    a.grad, b.grad = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    assert optim.clip_gradients([a, b, c], 10.0) == 5.0 and a.grad[0] == 3.0
    assert optim.clip_gradients([a, b, c], 1.0) == 5.0 and c.grad is None
    assert a.grad == pytest.approx([0.6, 0.0]) and b.grad == pytest.approx([0.0, 0.8])
    a.grad[0] = np.nan
    with pytest.raises(FloatingPointError, match="gradient"):
        optim.clip_gradients([a, b], 1.0)
    with pytest.raises(ValueError, match="norm"):
        optim.clip_gradients([a], 0.0)
