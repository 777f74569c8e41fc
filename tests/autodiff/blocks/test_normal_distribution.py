"""The normal distribution function in place, beside that of the standard library."""

import math

import numpy as np
import pytest

from dbp.autodiff.blocks.activations import FUSED
from dbp.autodiff.blocks.normal_distribution import fill_with_normal_distribution


def distribution(x):
    """Return the probabilities of at most x, and the bell beside them."""
    probability, bell = np.empty_like(x), np.empty_like(x)
    fill_with_normal_distribution(x, probability, bell)
    return probability, bell


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-7), ("float64", 2e-15)])
def test_probabilities_have_correct_digits_on_both_sides(dtype, tolerance):
    x = np.concatenate([np.linspace(-9, 9, 4001), [0, 1e-30, -1e-30]]).astype(dtype)
    probability, bell = distribution(x)
    expected = [0.5 * math.erfc(-value / math.sqrt(2)) for value in x.tolist()]
    rounding = 1 + 0.5 * x.astype(float) ** 2  # of the exponent, which exp() makes that much larger
    assert np.max(np.abs(probability / expected - 1) / rounding) < tolerance
    np.testing.assert_allclose(bell, [math.exp(-0.5 * value * value) for value in x.tolist()], rtol=30 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ends_and_nan(dtype):
    x = np.array([-np.inf, -1e30, -40, 0, 40, 1e30, np.inf, np.nan], dtype)
    probability, bell = distribution(x)
    np.testing.assert_array_equal(probability[[0, 1, 2, 4, 5, 6, 7]], [0, 0, 0, 1, 1, 1, np.nan])
    assert probability[3] == pytest.approx(0.5, rel=1e-7)
    assert bell[3] == 1
    np.testing.assert_array_equal(bell[[0, 1, 5, 6, 7]], [0, 0, 0, 0, np.nan])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_of_the_ends_is_that_of_the_composition(dtype):
    x = np.array([-np.inf, -3e38, 3e38, np.inf, np.nan], dtype)
    with np.errstate(invalid="ignore"):
        z, expected = x.copy(), FUSED["gelu_exact"].specification(x)
        FUSED["gelu_exact"].apply(z, None)
    np.testing.assert_array_equal(z, expected)
    np.testing.assert_array_equal(z, [np.nan, 0, x[2], np.inf, np.nan])
