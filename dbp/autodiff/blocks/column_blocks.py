"""Matrices whose columns lie in memory some beside each other, with which products of few rows are faster.

OpenBLAS copies the factors of a large product into an order of its own, which takes as long as the product itself where
one of them has eight rows. Where it reads those of a small product as they are, a large one is fastest as several small
ones, with some columns each.
"""

from __future__ import annotations

import numpy as np

from dbp.blas import SMALL, prefers_small_products
from dbp.types import Array

WIDTH = 16  # columns of a block, at least; fewer would leave registers empty


def column_blocks(matrix: Array, rows: int, parts: int = 1) -> Array:
    """Return the matrix in blocks of columns, (parts, blocks, rows of the matrix, columns of a block).

    Args:
        matrix: (inner, columns).
        rows: of the matrix that is multiplied by it.
        parts: which the columns are of, each as many; a block is one of them, or less where small products are fast.
    """
    inner, columns = matrix.shape
    width = columns // parts
    if prefers_small_products():
        width = _width(width, SMALL // max(1, rows * inner))
    count = columns // parts // width
    return np.ascontiguousarray(matrix.reshape(inner, parts, count, width).transpose(1, 2, 0, 3))


def _width(columns: int, most: int) -> int:
    """Return the largest divisor of a number of columns from WIDTH to most; all of them if there is none."""
    return next((width for width in range(min(columns, most), WIDTH - 1, -1) if columns % width == 0), columns)


def product(x: Array, blocks: Array, out: Array) -> Array:
    """Write the product of x (rows, inner) with a matrix in blocks to out (parts, rows, columns of a part)."""
    parts, count, _, width = blocks.shape
    np.matmul(x, blocks, out=out.reshape(parts, len(x), count, width).swapaxes(1, 2))
    return out
