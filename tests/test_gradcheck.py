"""The gradient checker passes right gradients, and fails on wrong ones of every kind, naming the worst entry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn import Function, GradientMismatch, Tensor, gradcheck, is_grad_enabled, ops

examples = settings(deadline=None, max_examples=25)


class Product(Function):
    """a * b, whose gradient by a is spoilt on purpose."""

    def forward(self, a, b, spoil=lambda da, a: da):
        self.a, self.b, self.spoil = a, b, spoil
        return a * b

    def backward(self, grad):
        return self.spoil(grad * self.b, self.a), grad * self.a


def operands(shape=(3, 4), seed=0):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.uniform(0.5, 1.5, shape), requires_grad=True) for _ in range(2)]


def wrong_entry(da, a):
    da = da.copy()
    da[1, 2] += 0.01
    return da


WRONG = {
    "entry": wrong_entry,
    "scale": lambda da, a: da * 1.001,
    "sign": lambda da, a: -da,
    "missing term": lambda da, a: np.zeros_like(da),
    "additional term": lambda da, a: da + 1e-3 * a,
    "entries exchanged": lambda da, a: np.roll(da, 1),
    "not a number": lambda da, a: np.where(a == a[1, 2], np.nan, da),
    "infinite": lambda da, a: np.where(a == a[1, 2], np.inf, da),
}


@examples
@given(st.integers(0, 2**32 - 1))
def test_passes_a_right_gradient(seed):
    a, b = operands(seed=seed)
    before = a.data.copy()
    assert gradcheck(Product.apply, (a, b)) is True
    assert a.grad is None and np.array_equal(a.data, before) and is_grad_enabled()


@pytest.mark.parametrize("kind", WRONG)
@examples
@given(st.integers(0, 2**32 - 1))
def test_fails_on_a_wrong_gradient(kind, seed):
    with pytest.raises(GradientMismatch, match="gradient of input 0 is wrong"):
        gradcheck(lambda a, b: Product.apply(a, b, spoil=WRONG[kind]), operands(seed=seed))


@pytest.mark.parametrize("kind", ["entry", "not a number", "infinite"])
def test_names_the_worst_entry_with_both_values(kind):
    with pytest.raises(AssertionError, match=r"input 0 .* entry \(1, 2\): analytic .*, numeric .*, difference"):
        gradcheck(lambda a, b: Product.apply(a, b, spoil=WRONG[kind]), operands())


def test_names_the_input():
    a, b = operands()
    with pytest.raises(GradientMismatch, match="input 1 is wrong"):
        gradcheck(lambda a, b: Product.apply(b, a, spoil=WRONG["scale"]), (a, b))
    a.requires_grad = False
    with pytest.raises(GradientMismatch, match="input 1 is wrong"):
        gradcheck(lambda a, b: Product.apply(b, a, spoil=WRONG["scale"]), (a, b))


def test_a_gradient_that_is_cut_off_shows():
    with pytest.raises(GradientMismatch, match="analytic"):
        gradcheck(lambda a: a * a.detach(), operands()[0])


def test_a_hard_step_shows():
    """Finite differences through a threshold are meaningless, and do not pass for the surrogate."""
    x = Tensor(np.linspace(0.2, 3.9, 12).reshape(4, 3), requires_grad=True)
    with pytest.raises(GradientMismatch):
        gradcheck(ops.lif, x)


def test_one_input_needs_no_tuple():
    gradcheck(lambda a: (a * a).sum(), operands()[0])


def test_refuses_what_it_cannot_check():
    with pytest.raises(TypeError, match="input 1 is float32"):
        gradcheck(ops.add, (operands()[0], Tensor(np.ones((3, 4), np.float32))))
    with pytest.raises(TypeError, match="input 0 is ndarray"):
        gradcheck(ops.exp, [np.ones(2)])
    with pytest.raises(ValueError, match="requires a gradient"):
        gradcheck(ops.exp, Tensor(np.ones(2)))
