"""Activations with their derivatives, piece by piece: those of their specification."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff import pieces
from dbp.autodiff.blocks.activations import FUSED

X = 3 * np.random.default_rng(0).standard_normal((6, 7))


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
def test_values_and_slopes_in_place(name, dtype, tolerance):
    fused, x = FUSED[name], X.astype(dtype)
    leaf = ad.Tensor(x)
    y = fused.specification(leaf)
    (expected,) = ad.pullback(y, np.ones_like(x), [leaf])
    z, slope, alone, of_output = x.copy(), np.empty_like(x), x.copy(), np.empty_like(x)
    fused.apply(z, slope)
    fused.apply(alone, None)
    np.testing.assert_allclose(z, y.value, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(alone, z)
    np.testing.assert_allclose(slope, expected, rtol=tolerance, atol=tolerance)
    if fused.slope_of_output is not None:
        fused.slope_of_output(z, of_output)
        np.testing.assert_array_equal(of_output, slope)


@pytest.mark.parametrize("name", ["gelu_block", "gelu_exact_block", "silu_block"])
def test_blocks_of_any_shape_in_pieces(monkeypatch, name):
    block = ad.PRIMITIVES[name]
    whole = block(ad.Tensor(X))
    (by_x,) = ad.pullback(whole, X, [whole.inputs[0]])
    monkeypatch.setattr(pieces.row_pieces, "__defaults__", (5,))
    turned = ad.Tensor(X.T)
    (found,) = ad.pullback(block(turned), X.T, [turned])
    np.testing.assert_array_equal(found, by_x.T)
    np.testing.assert_array_equal(block(X.T), whole.value.T)
    np.testing.assert_array_equal(block(X[0, 0]), whole.value[0, 0])
    ad.check_derivatives(lambda x: ad.sum_(block(x) * block(x)), X)
    tangent = ad.jvp(block, (X,), (np.ones_like(X),))[1]
    np.testing.assert_allclose(tangent, ad.gradient(lambda x: ad.sum_(block(x)))(X))
    assert block(np.arange(3)).dtype == np.float64
