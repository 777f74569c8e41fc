"""Sums, means and maxima over any axes, and softmax."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from tests.autodiff.derivatives import numbers

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3, 4)) + np.where(RNG.random((3, 4)) < 0.5, 0.1, -0.1)
CUBE = RNG.standard_normal((2, 3, 4))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([p.sum_, p.mean, p.variance, p.max_, p.logsumexp]), st.data())
def test_reductions_over_any_axes(function, data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    axes = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    if axes is not None and data.draw(st.booleans()):
        axes = tuple({axes % len(shape), data.draw(st.integers(0, len(shape) - 1))})
    ad.check_derivatives(lambda x: function(x, axis=axes), numbers(shape), tolerance=1e-4)
    reference = {p.sum_: np.sum, p.mean: np.mean, p.variance: np.var, p.max_: np.max}.get(function)
    if reference:
        np.testing.assert_allclose(
            function(numbers(shape), axis=axes), reference(numbers(shape), axis=axes), atol=1e-12
        )


@pytest.mark.parametrize("axis", [None, 1, -1, [0, 2], (1, -1), np.int64(0), ()])
@pytest.mark.parametrize("function", [(p.sum_, np.sum), (p.mean, np.mean), (p.max_, np.max)])
def test_axes_and_those_kept(function, axis):
    ours, numpys = function
    axes = tuple(axis) if isinstance(axis, list) else axis
    for keepdims in (False, True):
        got = ours(CUBE, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(got, numpys(CUBE, axis=axes, keepdims=keepdims))
        ad.check_derivatives(lambda x, keep=keepdims: p.square(ours(x, axis=axis, keepdims=keep)), CUBE)
    ad.check_derivatives(lambda x: p.logsumexp(x, axis=axis), CUBE)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_along_any_axis(axis):
    np.testing.assert_allclose(p.softmax(CUBE, axis=axis).sum(axis), 1)
    np.testing.assert_allclose(np.exp(p.log_softmax(CUBE, axis)), p.softmax(CUBE, axis))
    for function in (p.softmax, p.log_softmax):
        ad.check_derivatives(lambda x, f=function: p.square(f(x, axis=axis)), CUBE)


def test_sums_of_exponentials_at_their_ends():
    low = -np.inf
    rows = np.array([[low, low], [low, 1.0], [1e4, 1e4]])
    np.testing.assert_allclose(p.logsumexp(rows, axis=1), [low, 1, 1e4 + np.log(2)])
    np.testing.assert_allclose(
        ad.gradient(lambda x: p.sum_(p.logsumexp(x, axis=1)))(rows), [[0, 0], [0, 1], [0.5, 0.5]]
    )
    assert p.logsumexp(np.array([np.inf, 0.0])) == np.inf
    np.testing.assert_array_equal(p.logsumexp(np.zeros((2, 0)), axis=1), [low, low])
    for function in (p.softmax, p.log_softmax):
        assert function(np.zeros((2, 0))).shape == (2, 0)
        ad.check_derivatives(function, np.zeros((2, 0)))


def test_masked_scores_have_a_tangent():
    mask, masked = X > 0, lambda x: p.where(X > 0, x, -np.inf)
    np.testing.assert_array_equal(ad.jvp(masked, (X,), (X,))[1], np.where(mask, X, 0))
    weights = lambda x: p.softmax(masked(x))  # noqa: E731
    value, tangent = ad.jvp(weights, (X,), (X,))
    np.testing.assert_allclose(tangent, value * (X - np.sum(value * X, axis=-1, keepdims=True)))
    assert ad.jvp(masked, (X.astype(np.float32),), (X,))[1].dtype == np.float32


def test_products_with_zeros_have_their_derivatives():
    """Compare the derivative by a factor with the product of the others, whether factors are 0 or not."""
    x = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0], [1.0, 2.0, 4.0]])
    expected = [[0, 6, 0], [0, 0, 0], [8, 4, 2]]
    np.testing.assert_array_equal(ad.gradient(lambda x: p.sum_(p.prod(x, axis=1)))(x), expected)
    np.testing.assert_array_equal(p.prod(np.empty((2, 0)), axis=1), np.ones(2))


def test_roots_have_the_derivative_zero_at_zero():
    for function in (p.norm, p.std):
        np.testing.assert_array_equal(ad.gradient(function)(np.zeros(3)), np.zeros(3))
