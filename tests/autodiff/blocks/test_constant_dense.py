"""A dense layer with constant weights: the bits of the block, however often it is called."""

import numpy as np
import pytest

from dbp.autodiff import ConstantDense, dense_block
from dbp.autodiff.blocks.constant_dense import LAID_OUT_FROM
from dbp.blas import blas_threads

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("activation", ["relu", "linear", "gelu"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "dtype"),
    [(784, 512, "float32"), (64, 784, "float32"), (300, 10, "float32"), (256, 200, "float64"), (5, 3, "float32")],
)
def test_it_has_the_bits_of_the_block(inputs, outputs, dtype, activation):
    w, b = RNG.standard_normal((inputs, outputs)).astype(dtype), RNG.standard_normal(outputs).astype(dtype)
    layer = ConstantDense(w, b)
    with blas_threads(1):
        for rows in (LAID_OUT_FROM - 1, 1, 512, 100, 1, 0):  # from the second on, the weights may be laid out
            x = RNG.standard_normal((rows, inputs)).astype(dtype)
            found = layer(x, activation)
            np.testing.assert_array_equal(found, dense_block(x, w, b, activation=activation))
            assert found.dtype == dtype


def test_it_takes_positions_strided_inputs_and_numbers_that_are_not_finite():
    w = RNG.standard_normal((128, 256)).astype(np.float32)
    w[3, 7] = np.inf
    layer = ConstantDense(w, None)
    x = RNG.standard_normal((40, 20, 256)).astype(np.float32)[..., ::2]
    x[0, 0, 0], x[1, 0, 3] = np.nan, 0
    with blas_threads(1), np.errstate(invalid="ignore"):
        for _ in range(2):
            found = layer(x, "relu")
            np.testing.assert_array_equal(found, dense_block(x, w, None, activation="relu"))
    assert np.isnan(found[0, 0]).all()
    assert np.isnan(found[1, 0, 7])  # 0 times infinity


def test_products_with_weights_that_are_laid_out_are_right():
    w = RNG.standard_normal((100, 150)).astype(np.float32)
    layer, x = ConstantDense(w, None), RNG.standard_normal((LAID_OUT_FROM, 100)).astype(np.float32)
    with blas_threads(1):
        np.testing.assert_allclose(layer(x, "linear"), x.astype(np.float64) @ w, rtol=1e-4, atol=1e-4)
