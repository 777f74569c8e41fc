"""Derivatives of dense layers by their inputs, differentiated again: those of the specification, with few nodes."""

from collections import Counter

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.blocks.activations import FUSED
from dbp.autodiff.graph import nodes_between

RNG = np.random.default_rng(0)
W, B, V = RNG.standard_normal((3, 4)), RNG.standard_normal(4), RNG.standard_normal((4, 2))
ACTIVATIONS = ["linear", *FUSED]


def network(dense, activation):
    """Return a function of inputs, weights and bias, in two layers."""
    return lambda x, w, b: dense(dense(x, w, b, activation=activation), V, None, activation=activation)


def equation(f, w, b, x):
    """Return numbers with third derivatives: the gradient is of second ones by the inputs, in both modes."""
    one = np.ones_like(x)
    slope = lambda x: ad.jvp(lambda x: f(x, w, b), (x,), (one,))[1]  # noqa: E731
    value, second = ad.jvp(slope, (x,), (one,))
    by_reverse = ad.gradient(lambda x: ad.sum_(ad.square(f(x, w, b))))(x)
    return ad.sum_(ad.square(second + value)) + ad.sum_(ad.sin(by_reverse))


@pytest.mark.parametrize("shape", [(5, 3), (2, 2, 3)], ids=["rows", "positions"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_equations_are_those_of_the_specification(activation, shape):
    x = np.random.default_rng(1).standard_normal(shape)

    def derivatives(dense):
        f = network(dense, activation)
        return ad.value_and_gradient(lambda w, b: equation(f, w, b, x), (0, 1))(W, B)

    found, expected = derivatives(ad.dense_block), derivatives(ad.dense_block._function)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    for own, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-11)


def test_a_tangent_that_is_differentiated_does_not_compute_the_layer_again():
    w, x = ad.Tensor(W), np.random.default_rng(1).standard_normal((5, 3))
    tangent = ad.jvp(lambda x: ad.dense_block(x, w, B, activation="tanh"), (x,), (np.ones_like(x),))[1]
    names = Counter(node.primitive.name for node in nodes_between([w], [tangent]))
    assert names == {"dense_block": 1, "matmul": 1, "slope_of_tanh": 1, "multiply": 1}


def test_a_tangent_of_the_bias_alone_has_the_shape_of_the_output():
    b, t = ad.Tensor(B), np.arange(4.0)
    value, found = ad.jvp(lambda b: ad.dense_block(np.ones((5, 3)), ad.Tensor(W), b, activation="tanh"), (b,), (t,))
    np.testing.assert_allclose(found.value, t * (1 - value.value**2))
