"""What a converter reads and a data file gets: blocks of rows of named columns, and what the columns mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.types import Array

BLOCK_BYTES = 1 << 22  # of the rows that are converted at a time
Block = Mapping[str, Array]  # some rows of each column, the same ones of all


@dataclass(frozen=True)
class Content:
    """A data set that is read block by block, so that it never needs to be in memory whole.

    Args:
        blocks: its rows in their order.
        count: the number of its examples; None if only the last block tells.
        attributes: by the name of the column, those that the file gets: names, classes, scale, units.
        notes: what the user should know of how the data was converted, a line each.
        files: those that are read.
    """

    blocks: Iterable[Block]
    count: int | None = None
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    files: Sequence[Path] = ()


class ColumnShape(NamedTuple):
    """The shape of a column with all its rows, and its type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        kind = "texts" if self.dtype.kind == "S" else str(self.dtype)
        return f"{kind} {' x '.join(map(str, self.shape))}"


def rows_of(block: Block) -> int:
    """Return the number of rows of a block, by its first column."""
    return next((len(values) for values in block.values() if values.ndim), 0)


def shapes_of(block: Block, count: int) -> dict[str, ColumnShape]:
    """Return the shapes of columns of `count` rows, of which a block is a part."""
    return {name: ColumnShape((count, *values.shape[1:]), values.dtype) for name, values in block.items()}


def rows_per_block(*row_bytes: int) -> int:
    """Return how many rows are converted at a time, from the bytes that a row takes in each column."""
    return max(1, BLOCK_BYTES // max(1, sum(row_bytes)))


def row_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the bytes of a row of a column."""
    return math.prod(shape[1:]) * dtype.itemsize
