"""Operations on the owned ranges of flat vectors, block by block.

All passes of an operation over a block find it in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dbp.optim.protocols import Space, Vector

CACHE_BLOCK = 65536  # elements of a block


def cache_blocks(ranges: Sequence[slice], length: int = CACHE_BLOCK) -> Iterator[slice]:
    """Cut ranges of a vector into blocks of this length; the last block of a range may be shorter."""
    for part in ranges:
        for start in range(part.start, part.stop, length):
            yield slice(start, min(start + length, part.stop))


def copy_owned(space: Space, source: Vector, target: Vector) -> None:
    """Copy a vector to another, where it is owned."""
    for block in cache_blocks(space.owned):
        target[block] = source[block]


def step_along(space: Space, direction: Vector, length: float, start: Vector, target: Vector) -> None:
    """Write start + length direction to a vector, where it is owned."""
    for block in cache_blocks(space.owned):
        np.multiply(direction[block], length, out=target[block])
        np.add(start[block], target[block], out=target[block])
