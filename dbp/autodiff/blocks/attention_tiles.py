"""Tiles: which queries and keys of attention are computed at a time, so that their scores stay in the cache.

A tile has a row for each key and a column for each query, as NumPy reduces columns faster than rows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dbp.autodiff.pieces import row_pieces

TILE = 1 << 18  # scores of a tile
QUERIES = 128  # of a tile, at least, as products of fewer are slow
CAUSAL_QUERIES = 64  # of a tile of causal attention: fewer would skip more keys, but in smaller products
LONG = 1024  # keys from which causal tiles have QUERIES, as these skip nearly as many


class Tile(NamedTuple):
    """Queries and keys of some heads.

    Args:
        heads: the heads.
        rows: the queries.
        keys: the keys.
        is_first: whether it is the first tile of its heads. It has all keys that any of their tiles has.
        scores: where its scores lie among those of all tiles of an example.
    """

    heads: slice
    rows: slice
    keys: slice
    is_first: bool
    scores: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of the scores of an example, (heads, keys, queries)."""
        return self.heads.stop - self.heads.start, self.keys.stop, self.rows.stop - self.rows.start


@functools.lru_cache(maxsize=64)
def tiles_of(heads: int, rows: int, keys: int, skips: bool) -> tuple[Tile, ...]:
    """Return the tiles of an example: those of some heads, from the last queries to the first, then of the next heads.

    Args:
        heads: number of heads.
        rows: number of queries.
        keys: number of keys.
        skips: whether to leave out the keys that come after all queries of a tile.
    """
    if not keys or not rows:
        return ()
    most = max(QUERIES, TILE // keys)
    length = min(rows, most if not skips else CAUSAL_QUERIES if keys < LONG else QUERIES)
    count = -(-heads // -(-heads // max(1, most // length)))  # heads of a tile, about as many in each
    found, start = [], 0
    for head in range(0, heads, count):
        for row in reversed(range(0, rows, length)):
            stop = min(row + length, rows)
            seen = min(stop, keys) if skips else keys
            of_heads = slice(head, min(head + count, heads))
            end = start + (of_heads.stop - head) * (stop - row) * seen
            found.append(Tile(of_heads, slice(row, stop), slice(0, seen), stop == rows, slice(start, end)))
            start = end
    return tuple(found)


def examples_at_a_time(count: int, tiles: Sequence[Tile]) -> Iterator[slice]:
    """Yield slices of examples of which each tile has few enough scores; none if there are no tiles."""
    return row_pieces(count if tiles else 0, max((math.prod(tile.shape) for tile in tiles), default=0), TILE)
