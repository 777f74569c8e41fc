"""Bias, added values and ReLU in place, in rows of many pixels."""

import numpy as np
import pytest

from dbp.autodiff.fast_convolution.epilogue import LONG_ROW, Activation

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 5), (3, LONG_ROW // 7, 7), (2, LONG_ROW), (2, LONG_ROW + 1)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("has_added", [False, True])
def test_an_activation_of_any_length(shape, dtype, relu, has_bias, has_added):
    z, added, b = (RANDOM.normal(size=s).astype(dtype) for s in (shape, shape, shape[-1:]))
    z.reshape(-1)[:1] = np.nan
    expected = z + b if has_bias else z.copy()
    expected = expected + added if has_added else expected
    expected = np.maximum(expected, 0) if relu else expected
    Activation(b if has_bias else None, relu).apply(z, added if has_added else None)
    np.testing.assert_array_equal(z, expected)


def test_an_activation_of_arrays_that_become_larger():
    b = RANDOM.normal(size=4)
    activation = Activation(b, relu=False)
    for pixels in (1, 5, LONG_ROW, 2):
        z = RANDOM.normal(size=(pixels, 4))
        expected = z + b
        activation.apply(z)
        np.testing.assert_array_equal(z, expected)
