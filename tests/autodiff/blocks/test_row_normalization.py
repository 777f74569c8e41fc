"""Normalization of rows: its specification, row by row and piece by piece."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.blocks import channels
from tests.autodiff.derivatives import check_second_order

RNG = np.random.default_rng(0)
X, SCALE, SHIFT = 2 + RNG.standard_normal((3, 5, 4)), RNG.standard_normal(4), RNG.standard_normal(4)
BLOCKS = {"layer_normalize_block": (X, SCALE, SHIFT), "rms_normalize_block": (X, SCALE)}


def results(function, inputs):
    leaves = [ad.Tensor(x) for x in inputs]
    y = function(*leaves, epsilon=1e-5)
    return [y.value, *ad.pullback(y, np.sin(np.arange(y.size, dtype=y.dtype)).reshape(y.shape), leaves)]


@pytest.mark.parametrize("piece", [1, 9, channels.LONG_PIECE])
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 3e-5)])
def test_it_is_its_specification_in_pieces_of_any_length(monkeypatch, name, piece, dtype, tolerance):
    monkeypatch.setattr(channels, "LONG_PIECE", piece)
    inputs, block = [x.astype(dtype) for x in BLOCKS[name]], ad.PRIMITIVES[name]
    for own, other in zip(results(block, inputs), results(block._function, inputs), strict=True):
        assert own.dtype == dtype
        np.testing.assert_allclose(own, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", BLOCKS)
def test_derivatives_of_both_orders(name):
    block = ad.PRIMITIVES[name]
    check_second_order(lambda *given: block(*given, epsilon=0.1), *(x[..., :3] for x in BLOCKS[name]))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_row_has_the_bits_that_it_has_alone(name):
    block, (_, *parameters) = ad.PRIMITIVES[name], BLOCKS[name]
    rows = channels.LONG_PIECE // 67 + 9  # the last of which are in a second piece
    x = np.random.default_rng(1).standard_normal((rows, 67)).astype(np.float32)
    parameters = [np.resize(p, 67).astype(np.float32) for p in parameters]
    y = block(x, *parameters, epsilon=1e-5)
    for row in (0, 1, 333, rows - 10, rows - 9, rows - 1):
        np.testing.assert_array_equal(block(x[row : row + 1], *parameters, epsilon=1e-5)[0], y[row])
