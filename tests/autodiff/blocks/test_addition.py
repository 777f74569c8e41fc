"""The sum with ReLU: the numbers of the two operations, piece by piece."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.blocks import addition


@pytest.mark.parametrize("piece", [7, 1 << 14])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_cotangents_are_those_of_both_operations(monkeypatch, piece, dtype):
    monkeypatch.setattr(addition, "LONG_PIECE", piece)
    rng = np.random.default_rng(0)
    a, b, g = rng.integers(-2, 3, (3, 4, 5, 6)).astype(dtype)  # with zeros, where the derivative is 0
    leaves = ad.Tensor(a), ad.Tensor(b)
    y = ad.add_relu_block(*leaves)
    np.testing.assert_array_equal(y.value, np.maximum(a + b, 0))
    for found in ad.pullback(y, g, leaves):
        np.testing.assert_array_equal(found, np.where(a + b > 0, g, 0))
        assert found.dtype == dtype


def test_values_of_other_shapes_are_broadcast():
    a, b = np.arange(6.0).reshape(2, 1, 3) - 2, np.arange(4.0).reshape(1, 4, 1) - 3
    np.testing.assert_array_equal(ad.add_relu_block(a, b), np.maximum(a + b, 0))
    gradient = ad.gradient(lambda b: ad.sum_(ad.add_relu_block(a, b)))(b)
    np.testing.assert_array_equal(gradient, (a + b > 0).sum(axis=(0, 2), keepdims=True)[0][None])
