"""Pieces of arrays that stay in the cache while several functions are applied to them, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 1 << 15  # elements of a piece; a few such arrays fit the L2 cache of a core


def row_pieces(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of the rows of a matrix, from the first to the last, whose lengths depend on its width alone."""
    step = max(1, PIECE // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
