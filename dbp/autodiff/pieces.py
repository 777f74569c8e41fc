"""Pieces of arrays that stay in the cache while several functions are applied to them, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 1 << 15  # elements of a piece; a few such arrays fit the L2 cache of a core


def row_pieces(rows: int, width: int, most: int = PIECE) -> Iterator[slice]:
    """Yield slices of rows from the first to the last, whose lengths do not depend on the number of rows.

    Args:
        rows: their number.
        width: the size of a row, such as its elements or bytes.
        most: the size of a piece, which has one row at least.
    """
    step = max(1, most // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
