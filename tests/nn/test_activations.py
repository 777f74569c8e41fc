"""Activations by closed form, the error function to its last digits, and their derivatives."""

import math

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.autodiff.primitives.error_function import erfc

X = np.random.default_rng(0).standard_normal((5, 3))


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_activations_have_right_derivatives(name):
    ad.check_derivatives(nn.ACTIVATIONS[name], X + 0.05)


def test_activations_by_closed_form():
    x = np.array([[-2.0, 0.5, 3.0]])
    np.testing.assert_allclose(nn.ACTIVATIONS["leaky_relu"](x), [[-0.02, 0.5, 3.0]])
    np.testing.assert_allclose(nn.ACTIVATIONS["silu"](x), x / (1 + np.exp(-x)))
    np.testing.assert_allclose(nn.ACTIVATIONS["softmax"](x), np.exp(x) / np.exp(x).sum())
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(nn.ACTIVATIONS["gelu"](x), 0.5 * x * (1 + np.tanh(inner)))


@pytest.mark.parametrize("x", [np.linspace(-6, 27, 20001), np.linspace(-1, 5, 20001)])
def test_the_error_function_to_the_last_digits(x):
    """Relative precision holds even where 1 - erf(x) would have no digits left."""
    expected = np.array([math.erfc(number) for number in x])
    np.testing.assert_allclose(erfc(x), expected, rtol=1e-15, atol=1e-308)
    np.testing.assert_allclose(erfc(x.astype(np.float32)), expected, rtol=2e-5, atol=1e-36)
    assert erfc(x.astype(np.float32)).dtype == np.float32


def test_the_error_function_at_its_ends():
    np.testing.assert_array_equal(erfc(np.array([np.inf, -np.inf, np.nan, 0.0, 30, -30])), [0, 2, np.nan, 1, 0, 2])
    assert erfc(1) == erfc(1.0) == pytest.approx(math.erfc(1), rel=1e-15)
    assert erfc(np.zeros((0, 3))).shape == (0, 3)


def test_exact_gelu_by_closed_form_far_out_too():
    x = np.array([-30.0, -9, -3, -0.5, 0, 0.7, 4, 20])
    expected = [number / 2 * math.erfc(-number / math.sqrt(2)) for number in x]
    np.testing.assert_allclose(nn.ACTIVATIONS["gelu_exact"](x), expected, rtol=1e-12)
