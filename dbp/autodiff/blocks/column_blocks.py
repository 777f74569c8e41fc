"""Matrices in contiguous blocks of columns, for many products of few rows with the same matrix.

Where small products are faster (see dbp/blas.py), a block has as many columns as a small product allows. That takes a
tenth less time than to cut the matrix in place, as products.matmul() does, and the copy is made once for all products.
"""

from __future__ import annotations

import numpy as np

from dbp.blas import SMALL_PRODUCT, prefers_small_products
from dbp.types import Array

WIDTH = 16  # columns of a block, at least; fewer would leave registers empty


def column_blocks(matrix: Array, rows: int, parts: int = 1) -> Array:
    """Return a copy of the matrix in blocks of columns, (parts, blocks, inner, columns of a block).

    Args:
        matrix: (inner, columns).
        rows: of the matrices x (rows, inner) that product() will take.
        parts: number of equal groups of columns, such as the gates of a recurrent layer; a block lies within one.
    """
    inner, columns = matrix.shape
    width = columns // parts
    if prefers_small_products():
        width = _width(width, SMALL_PRODUCT // max(1, rows * inner))
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
