"""Sums, products, powers and other functions of numbers, on any shapes and at their ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from tests.autodiff.derivatives import SHAPES, broadcasting_pairs, numbers

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3, 4)) + np.where(RNG.random((3, 4)) < 0.5, 0.1, -0.1)


def test_large_arguments_stay_finite():
    big = np.array([-1e4, 0.0, 1e4])
    for f in (p.sigmoid, p.softplus, p.log_softmax, p.elu):
        assert np.isfinite(f(big)).all()


UNARY = ["exp", "log1p", "expm1", "sqrt", "abs", "sin", "cos", "tanh", "sigmoid", "softplus", "relu", "elu", "negative"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(UNARY), SHAPES)
def test_functions_of_one_number_on_any_shape(name, shape):
    x = numbers(shape)
    ad.check_derivatives(ad.PRIMITIVES[name], np.abs(x) if name in ("log1p", "sqrt") else x, tolerance=1e-4)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "minimum"]), broadcasting_pairs())
def test_arithmetic_on_any_shapes(name, shapes):
    a, b = numbers(shapes[0]), numbers(shapes[1], 1) + 0.035
    ad.check_derivatives(ad.PRIMITIVES[name], a, b, tolerance=1e-4)


def test_powers_at_zero():
    x = np.array([0.0, 2.0])
    power = lambda n: lambda x: p.sum_(x**n)  # noqa: E731
    for n in (0, 0.0, np.array([0.0, 0.0])):
        np.testing.assert_array_equal(ad.gradient(power(n))(x), [0, 0])
    for n in (1, 1.0, np.array([1.0, 1.0])):
        np.testing.assert_array_equal(ad.hessian(power(n))(x), np.zeros((2, 2)))
    for n in (2, 2.0, np.array([2.0, 2.0])):
        third = ad.gradient(lambda x, n=n: p.sum_(ad.hessian(power(n))(x)))
        np.testing.assert_array_equal(third(x), [0, 0])
    by_exponent = ad.gradient(lambda b: p.sum_(x**b))
    np.testing.assert_allclose(by_exponent(np.array([2.0, 3.0])), [0, 8 * np.log(2)])
    np.testing.assert_allclose(ad.gradient(lambda b: p.sum_(by_exponent(b)))(np.ones(2))[0], 0)
    ad.check_derivatives(lambda x, n: ad.gradient(lambda x: p.sum_(x**n))(x), x + 1, np.zeros(2))


def test_powers_of_numbers_keep_the_type():
    for base in (2.0, 2, np.float32(2)):
        assert ad.gradient(lambda a, base=base: p.sum_(base**a))(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("function", [p.softplus, p.sigmoid, p.elu, p.relu, p.tanh, p.softmax, p.logsumexp])
def test_numbers_and_lists(function):
    np.testing.assert_array_equal(function([1.0, -2.0]), function(np.array([1.0, -2.0])))
    if function is not p.softmax:
        assert function(1.0) == function(np.array(1.0))


def test_ties_share_the_derivative():
    x = ad.Tensor(np.array([1.0, 3.0, 3.0]))
    np.testing.assert_array_equal(ad.pullback(p.max_(x), np.ones(()), [x])[0], [0, 0.5, 0.5])
    a, b = ad.Tensor(np.ones(1)), ad.Tensor(np.ones(1))
    assert [g.item() for g in ad.pullback(p.maximum(a, b), np.ones(1), [a, b])] == [0.5, 0.5]
