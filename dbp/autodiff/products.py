"""Matrix products: a large one as many small ones, where NumPy's BLAS takes less time for these; see dbp/blas.py.

For a matrix that many products of few rows take, column_blocks() is faster: it lays the matrix out once for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbp.blas import SMALL_PRODUCT, prefers_small_products
from dbp.types import Array


class Form(NamedTuple):
    """The sizes of the small products for factors that lie in memory in a certain order; measured, the fastest.

    Args:
        columns: of a small product.
        most_rows: of a small product.
        least_rows: of a small product; with fewer, the large product as a whole is faster.
        least_inner: the least length of the sums, likewise.
    """

    columns: int
    most_rows: int
    least_rows: int
    least_inner: int

    def rows(self, rows: int, inner: int, columns: int) -> int:
        """Return the rows of each small product for a large one of these sizes; 0 if that is fastest as a whole."""
        if rows * inner * columns <= SMALL_PRODUCT or columns < self.columns or inner < self.least_inner:
            return 0
        return min(rows, _rows_that_fit(self.most_rows, self.least_rows, inner * self.columns))


ROWS_BY_ROWS = Form(columns=64, most_rows=32, least_rows=8, least_inner=64)
COLUMNS_BY_ROWS = Form(columns=32, most_rows=128, least_rows=16, least_inner=16)
ROWS_BY_COLUMNS = Form(columns=8, most_rows=128, least_rows=16, least_inner=256)
STACKED_ROWS, LEAST_STACKED_ROWS = 128, 32  # of each small product in matmul_of_stacks(), at most and at least


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return the product of two matrices, written to `out` if that is given."""
    if a.shape[0] * a.shape[1] * b.shape[1] <= SMALL_PRODUCT or not prefers_small_products():
        return np.matmul(a, b, out=out)
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    for parts in _small_products(a, b, out):
        np.matmul(*parts, order="C")  # in the order of the axes, not of their strides
    return out


def matmul_of_stacks(a: Array, b: Array, out: Array) -> None:
    """Write the products of stacks a (..., rows, inner) and b (..., inner, columns), all by rows, to `out`."""
    (rows, columns), inner = out.shape[-2:], a.shape[-1]
    height = _rows_that_fit(STACKED_ROWS, LEAST_STACKED_ROWS, inner * columns)
    if rows * inner * columns <= SMALL_PRODUCT or not height or not prefers_small_products():
        np.matmul(a, b, out=out)
        return
    for down, count, high in _cut(rows, height):
        tops, parts = (x[..., down, :].reshape(*x.shape[:-2], count, high, x.shape[-1]) for x in (a, out))
        np.matmul(tops, b[..., None, :, :], out=parts, order="C")


def _rows_that_fit(most: int, least: int, multiplications: int) -> int:
    """Return the rows, each of so many multiplications, of a small product; 0 if they are fewer than the least."""
    found = most
    while found * multiplications > SMALL_PRODUCT:
        found //= 2
    return found if found >= least else 0


def _small_products(a: Array, b: Array, out: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yield stacks of matrices whose products are the parts of `out`; at the right and the bottom they are smaller."""
    (rows, inner), columns, form = a.shape, b.shape[1], _form(a, b)
    height = 0 if form is None else form.rows(rows, inner, columns)
    if form is None or not height:
        yield a, b, out
        return
    turned = form is ROWS_BY_ROWS and a.size < b.size  # parts of the larger matrix are read once, and stay in the cache
    for down, count, high in _cut(rows, height):
        for across, _, wide in _cut(columns, form.columns):
            tops = a[down].reshape(count, 1, high, inner)
            sides = b[:, across].reshape(1, inner, -1, wide).swapaxes(1, 2)
            parts = out[down, across].reshape(count, high, -1, wide).swapaxes(1, 2)
            if turned:
                tops, sides, parts = (stack.swapaxes(0, 1) for stack in (tops, sides, parts))
            yield tops, sides, parts


def _form(a: Array, b: Array) -> Form | None:
    """Return the form for these factors; None if there is none."""
    a_by_rows, b_by_rows = a.strides[1] == a.itemsize, b.strides[1] == b.itemsize
    if not (a.dtype == b.dtype == np.float32):  # others gain little
        return None
    if b_by_rows:
        return ROWS_BY_ROWS if a_by_rows else COLUMNS_BY_ROWS if a.strides[0] == a.itemsize else None
    return ROWS_BY_COLUMNS if a_by_rows and b.strides[0] == b.itemsize else None


def _cut(length: int, size: int) -> Iterator[tuple[slice, int, int]]:
    """Yield the span of whole pieces of a size, and that of the rest, each with the number and size of its pieces."""
    count = length // size
    whole = count * size
    if count:
        yield slice(0, whole), count, size
    if whole < length:
        yield slice(whole, length), 1, length - whole
