"""A dense layer with constant weights: the bits of the block, however often it is called."""

import numpy as np
import pytest

from dbp.autodiff import ConstantDense, dense_block, products
from dbp.autodiff.blocks import constant_dense
from dbp.autodiff.blocks.constant_dense import LAID_OUT_FROM
from dbp.blas import blas_threads

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    """Compute large products as small ones of one thread, whatever this machine prefers."""
    monkeypatch.setattr(products, "prefers_small_products", lambda: True)
    with blas_threads(1):
        yield


@pytest.mark.parametrize("activation", ["relu", "linear", "gelu"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "dtype"),
    [(784, 512, "float32"), (64, 784, "float32"), (300, 10, "float32"), (256, 200, "float64"), (5, 3, "float32")],
)
def test_it_has_the_bits_of_the_block(inputs, outputs, dtype, activation):
    w, b = RNG.standard_normal((inputs, outputs)).astype(dtype), RNG.standard_normal(outputs).astype(dtype)
    layer = ConstantDense(w, b)
    for rows in (LAID_OUT_FROM - 1, 1, 512, 100, 1, 0):  # from the second on, the weights may be laid out
        x = RNG.standard_normal((rows, inputs)).astype(dtype)
        found = layer(x, activation)
        np.testing.assert_array_equal(found, dense_block(x, w, b, activation=activation))
        assert found.dtype == dtype


@pytest.mark.parametrize("rest", [1, 2, 3, 4, 5])
def test_a_row_that_is_left_over_has_the_bits_of_the_block_in_columns_that_are_left_over(rest):
    w = RNG.standard_normal((1366, 128 + rest)).astype(np.float32)
    layer = ConstantDense(w, None)
    with blas_threads(1):
        layer(np.zeros((LAID_OUT_FROM, 1366), np.float32), "linear")
        for rows in (9, 17, 33, 65, 81, 129):
            x = RNG.standard_normal((rows, 1366)).astype(np.float32)
            np.testing.assert_array_equal(layer(x, "linear"), dense_block(x, w, None, activation="linear"))


def test_it_takes_positions_strided_inputs_and_numbers_that_are_not_finite():
    w = RNG.standard_normal((128, 256)).astype(np.float32)
    w[3, 7] = np.inf
    layer = ConstantDense(w, None)
    x = RNG.standard_normal((40, 20, 256)).astype(np.float32)[..., ::2]
    x[0, 0, 0], x[1, 0, 3] = np.nan, 0
    with np.errstate(invalid="ignore"):
        for _ in range(2):
            found = layer(x, "relu")
            np.testing.assert_array_equal(found, dense_block(x, w, None, activation="relu"))
    assert np.isnan(found[0, 0]).all()
    assert np.isnan(found[1, 0, 7])  # 0 times infinity


@pytest.mark.parametrize("is_laid_out", [True, False])
def test_weights_are_laid_out_once_unless_they_are_too_large(is_laid_out, monkeypatch):
    cuts, cut = [], constant_dense.column_parts
    monkeypatch.setattr(constant_dense, "column_parts", lambda *given: cuts.append(1) or cut(*given))
    monkeypatch.setattr(constant_dense, "MOST_BYTES", 1 << 22 if is_laid_out else 0)
    w, x = (RNG.standard_normal(shape).astype(np.float32) for shape in ((100, 150), (LAID_OUT_FROM, 100)))
    layer = ConstantDense(w, None)
    for rows in (LAID_OUT_FROM - 1, 200, LAID_OUT_FROM):
        np.testing.assert_allclose(layer(x[:rows], "linear"), x[:rows].astype(np.float64) @ w, rtol=1e-4, atol=1e-4)
    assert len(cuts) == (2 if is_laid_out else 3)  # the first call has views in any case
