"""Products with matrices whose columns lie in memory some beside each other."""

import numpy as np
import pytest

from dbp.autodiff.blocks.column_blocks import column_blocks, product
from dbp.blas import SMALL_PRODUCT


@pytest.mark.parametrize(
    ("rows", "inner", "columns", "parts", "shape"),
    [
        (16, 256, 1024, 4, (4, 2, 256, 128)),
        (16, 1024, 256, 1, (1, 8, 1024, 32)),
        (16, 300, 900, 3, (3, 2, 300, 150)),
        (16, 300, 907, 1, (1, 1, 300, 907)),  # a prime number of columns
        (2000, 40, 60, 3, (3, 1, 40, 20)),  # blocks would be too narrow
        (3, 2, 12, 4, (4, 1, 2, 3)),
        (0, 5, 8, 2, (2, 1, 5, 4)),
    ],
)
@pytest.mark.parametrize("small", [True, False])
def test_products_are_those_of_the_matrix_part_by_part(monkeypatch, rows, inner, columns, parts, shape, small):
    monkeypatch.setattr("dbp.autodiff.blocks.column_blocks.prefers_small_products", lambda: small)
    rng = np.random.default_rng(3)
    x, matrix = rng.standard_normal((rows, inner)), rng.standard_normal((inner, columns))
    blocks, out = column_blocks(matrix, rows, parts), np.empty((parts, rows, columns // parts))
    assert blocks.shape == (shape if small else (parts, 1, inner, columns // parts))
    assert blocks.flags.c_contiguous
    assert shape[1] == 1 or rows * inner * shape[3] <= SMALL_PRODUCT
    assert product(x, blocks, out) is out
    np.testing.assert_allclose(out, np.stack(np.split(x @ matrix, parts, axis=1)), rtol=1e-12, atol=1e-12)
