"""Surrogates: each derivative against the slope of its primitive, and nothing that is no number at either end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn.surrogate import ATan, FastSigmoid, Sigmoid, Triangle

ALL = [ATan, Sigmoid, FastSigmoid, Triangle]
examples = settings(deadline=None, max_examples=25)


@pytest.mark.parametrize("kind", ALL)
@examples
@given(st.floats(0.1, 50), st.integers(0, 2**32 - 1))
def test_derivative_is_the_slope_of_the_primitive(kind, alpha, seed):
    surrogate, step = kind(alpha), 1e-6 / alpha
    x = np.random.default_rng(seed).uniform(-3, 3, 50) / alpha
    x = x[np.abs(np.abs(x) * alpha - 1) > 1e-3] if kind is Triangle else x  # its derivative has corners at 1 / alpha
    x = x[np.abs(x) * alpha > 1e-3]  # and at 0 there, and in the fast sigmoid
    slope = (surrogate.primitive(x + step) - surrogate.primitive(x - step)) / (2 * step)
    np.testing.assert_allclose(surrogate.derivative(x), slope, rtol=1e-6, atol=1e-8 * alpha)


@pytest.mark.parametrize("kind", ALL)
@examples
@given(st.floats(0.1, 50), st.integers(0, 2**32 - 1))
def test_a_rising_step_and_an_even_derivative(kind, alpha, seed):
    surrogate = kind(alpha)
    x = np.sort(np.random.default_rng(seed).normal(0, 3 / alpha, 50))
    assert np.all(np.diff(surrogate.primitive(x)) >= 0) and np.all(surrogate.derivative(x) >= 0)
    assert surrogate.primitive(0.0) == 0.5
    np.testing.assert_allclose(surrogate.derivative(x), surrogate.derivative(-x), rtol=1e-14)
    np.testing.assert_allclose(surrogate.primitive(x) + surrogate.primitive(-x), 1, rtol=1e-13)
    assert np.all(surrogate.derivative(x) <= surrogate.derivative(0.0))


@pytest.mark.parametrize(
    "surrogate, x, primitive, derivative",
    [
        (ATan(), 0.0, 0.5, 1.0),
        (ATan(), 1 / np.pi, 0.75, 0.5),
        (Sigmoid(), 0.0, 0.5, 1.0),
        (Sigmoid(1.0), 2.0, 1 / (1 + np.exp(-2)), np.exp(-2) / (1 + np.exp(-2)) ** 2),
        (FastSigmoid(), 1.0, 0.5 + 1 / 26, 1 / 26**2),
        (Triangle(), 0.5, 0.875, 0.5),
        (Triangle(2.0), 0.5, 1.0, 0.0),
        (Triangle(), -3.0, 0.0, 0.0),
    ],
)
def test_values(surrogate, x, primitive, derivative):
    np.testing.assert_allclose([surrogate.primitive(x), surrogate.derivative(x)], [primitive, derivative], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ALL)
def test_huge_inputs_give_numbers(kind, dtype):
    surrogate, most = kind(), np.finfo(dtype).max
    x = np.array([-np.inf, -most, -1e30, 1e30, most, np.inf], dtype)
    low_and_high = (0.5 - 1 / 25, 0.5 + 1 / 25) if kind is FastSigmoid else (0, 1)
    primitive, derivative = surrogate.primitive(x), surrogate.derivative(x)
    assert primitive.dtype == derivative.dtype == dtype
    np.testing.assert_allclose(primitive, np.repeat(low_and_high, 3), rtol=1e-6, atol=1e-20)
    np.testing.assert_allclose(derivative, 0, atol=1e-20)


@pytest.mark.parametrize("kind", ALL)
def test_float32_and_shapes(kind):
    surrogate, x = kind(), np.linspace(-2, 2, 24).reshape(2, 3, 4)
    for f in (surrogate.primitive, surrogate.derivative):
        assert f(x).shape == x.shape and f(x.astype(np.float32)).dtype == np.float32
        np.testing.assert_allclose(f(x.astype(np.float32)), f(x), rtol=1e-5, atol=1e-6)
        assert np.array_equal(f(x.T), f(x).T) and f([1, 2]).dtype == np.float64


@pytest.mark.parametrize("alpha", [0, -1.0, np.nan, np.inf, "2", None])
def test_steepness_must_be_positive(alpha):
    with pytest.raises(ValueError, match="alpha"):
        ATan(alpha)


def test_they_can_be_compared_and_printed():
    assert ATan() == ATan(2.0) != Sigmoid(2.0) and repr(ATan()) == "ATan(alpha=2.0)"
