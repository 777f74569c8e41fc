"""Matrix products: a large one as many small ones, where NumPy's BLAS takes less time for these; see dbp/blas.py.

For a matrix that many products of few rows take, column_blocks() is faster: it lays the matrix out once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dbp.autodiff.scratch import buffer, ones
from dbp.blas import SMALL_PRODUCT, prefers_small_products
from dbp.types import Array


class ColumnPart(NamedTuple):
    """Some columns of a factor at the right, as many small matrices side by side.

    Args:
        span: the columns.
        matrices: stacks (1, matrices, inner, columns of each).
    """

    span: slice
    matrices: Array


PartsOf = Callable[[Array, int], Sequence[ColumnPart]]  # a function that returns what column_parts() does


class CutRule(NamedTuple):
    """Which products are cut, and into what small ones, where the factors lie in memory in a certain order.

    The sizes are the fastest of those that were measured.

    Args:
        columns: of a small product, where there are more than `uncut`.
        uncut: the most columns that are not cut.
        least_columns: with fewer, the large product as a whole is faster.
        most_rows: of a small product.
        least_rows: likewise.
        least_inner: the least length of the sums, likewise.
        least_inner_at_once: the same where a small product has all rows, so that no column is read twice.
    """

    columns: int
    uncut: int
    least_columns: int
    most_rows: int
    least_rows: int
    least_inner: int
    least_inner_at_once: int

    def size(self, rows: int, inner: int, columns: int) -> tuple[int, int] | None:
        """Return rows and columns of each small product for a large one of these sizes; None if it is not cut."""
        wide = columns if columns <= self.uncut else self.columns
        high = min(rows, _rows_that_fit(self.most_rows, self.least_rows, inner * wide))
        least = self.least_inner_at_once if high == rows else self.least_inner
        return (high, wide) if high and columns >= self.least_columns and inner >= least else None


# For a left factor that lies in memory by rows or by columns, times a right one that does so.
ROWS_BY_ROWS = CutRule(
    columns=64, uncut=127, least_columns=4, most_rows=128, least_rows=8, least_inner=16, least_inner_at_once=16
)
COLUMNS_BY_ROWS = CutRule(
    columns=32, uncut=63, least_columns=32, most_rows=128, least_rows=16, least_inner=16, least_inner_at_once=16
)
ROWS_BY_COLUMNS = CutRule(
    columns=8, uncut=8, least_columns=8, most_rows=128, least_rows=16, least_inner=192, least_inner_at_once=64
)
LEAST_SUM, MOST_SUM = 128, 512  # terms of the sums in each small product where the sums are cut
STACKED_ROWS, LEAST_STACKED_ROWS = 128, 32  # of each small product in matmul_of_stacks(), at most and at least


def column_parts(b: Array, wide: int) -> list[ColumnPart]:
    """Return the columns of a matrix as views of so many columns each; the last part is narrower."""
    return [
        ColumnPart(span, b[:, span].reshape(1, len(b), -1, columns).swapaxes(1, 2))
        for span, _, columns in _cut(b.shape[1], wide)
    ]


def matmul(
    a: Array,
    b: Array,
    out: Array | None = None,
    parts_of: PartsOf = column_parts,
) -> Array:
    """Return the product of two matrices.

    Args:
        a: factor at the left.
        b: factor at the right.
        out: where to write the product; by default a new array.
        parts_of: returns the parts of `b`, which a caller may have laid out before; by default views.
    """
    if a.shape[0] * a.shape[1] * b.shape[1] <= SMALL_PRODUCT or not prefers_small_products():
        return np.matmul(a, b, out=out)
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    rule = _cut_rule(a, b)
    size = None if rule is None else rule.size(len(a), *b.shape)
    if size is not None:
        high, wide = size
        turned = rule is ROWS_BY_ROWS and a.size < b.size  # as the larger factor should be read once
        for top, side, part in _small_products(a, parts_of(b, wide), out, high, turned):
            np.matmul(top, side, part, order="C")  # in the order of the axes, not of their strides
    elif rule is not None and out.size * LEAST_SUM <= SMALL_PRODUCT:
        _add_products(a, b, out)
    else:
        np.matmul(a, b, out=out)
    return out


def column_sum(matrix: Array, out: Array | None = None) -> Array:
    """Return the sum of the rows as a product with ones, which takes BLAS half of NumPy's time or less.

    BLAS adds some rows to each other first, so that rows of zeros change the bits by where they are. Where positions
    may be filled with them, np.add.reduce() adds row after row.
    """
    return ones(len(matrix), matrix.dtype).dot(matrix, out)


def is_fast_stack(rows: int, inner: int, columns: int) -> bool:
    """Return True if a stack of products, each of these sizes, is as fast as one product of all their rows.

    Then np.matmul() can write them to matrices that do not follow each other in memory, and no copy is needed.
    """
    is_small = rows * inner * columns <= SMALL_PRODUCT
    return is_small and columns >= ROWS_BY_ROWS.least_columns and prefers_small_products()


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


def _small_products(
    a: Array, b: Sequence[ColumnPart], out: Array, high: int, turned: bool
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield stacks of matrices whose products are the parts of `out`; at the right and the bottom they are smaller.

    Args:
        a: factor at the left.
        b: factor at the right.
        out: the product.
        high: rows of a part.
        turned: whether those of the same columns come one after the other, so that parts of `b` are read once.
    """
    for down, count, rows in _cut(len(a), high):
        tops = a[down].reshape(count, 1, rows, -1)
        for across, sides in b:
            parts = out[down, across].reshape(count, rows, -1, sides.shape[-1]).swapaxes(1, 2)
            if turned:
                yield tops.swapaxes(0, 1), sides.swapaxes(0, 1), parts.swapaxes(0, 1)
            else:
                yield tops, sides, parts


def _add_products(a: Array, b: Array, out: Array) -> None:
    """Write the sum of the products of some columns of `a` and rows of `b` at a time: a small product of long sums."""
    rows, columns = out.shape
    for span, count, length in _cut(len(b), min(MOST_SUM, SMALL_PRODUCT // out.size)):
        stacks = a[:, span].reshape(rows, count, length).swapaxes(0, 1), b[span].reshape(count, length, columns)
        parts = np.matmul(*stacks, out=buffer("products", (count, rows, columns), out.dtype))
        if span.start:
            np.add(out, parts[0], out=out)
        else:
            np.add.reduce(parts, axis=0, out=out)


def _cut_rule(a: Array, b: Array) -> CutRule | None:
    """Return the rule for these factors; None if there is none, as cuts gain nothing."""
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
