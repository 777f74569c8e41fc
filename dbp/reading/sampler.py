"""The sampler of a run: whether rows are drawn one by one or in windows of chunks, by data and settings alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dbp.data import Dataset
from dbp.data.dataset import example_form
from dbp.reading.draws import DrawnChunkOrder, DrawnOrder, Draws
from dbp.reading.order import EXAMPLES, ChunkOrder, Order, RowOrder
from dbp.reading.subset import whole_of
from dbp.text import count_text
from dbp.types import Array

WINDOW_BYTES, WINDOW_BATCHES, WINDOW_UNITS = 1 << 27, 16, 64  # of a window by default: the largest of the three
LARGE_UNIT_BYTES, WINDOW_LARGE_UNITS = 1 << 22, 8  # of units of more bytes, a window has at least so many
PIECE_BYTES = 1 << 20  # of a unit, at the most, where chunks are asked for and all rows lie in one piece


@dataclass(frozen=True, eq=False)
class Sampler:
    """The orders of a data set in all epochs.

    Args:
        size: number of rows.
        seed: of the run.
        borders: the first row of each unit that is read as a whole, and the number of rows; None to draw single rows.
        window: least number of rows that are mixed with one another, if there are units.
        ends: where the weight of each row ends on a line of all weights for drawing; None to draw each row once.
    """

    size: int
    seed: int
    borders: Array | None = None
    window: int = 0
    ends: Array | None = None

    @classmethod
    def of(
        cls,
        data: Dataset,
        seed: int,
        batch_size: int,
        order: str = "auto",
        window: int | None = None,
        ends: Array | None = None,
    ) -> Sampler:
        """Return the sampler of a data set.

        Args:
            data: the data set; its `borders`, if it has any, are those of its units.
            seed: of the run.
            batch_size: examples of a mini-batch.
            order: "rows"; "chunks"; or "auto", which draws rows where these lie in one piece.
            window: rows of a window; by default as many as data set and mini-batch ask for.
            ends: where the weight of each row ends on a line of all weights for drawing, if there are such.
        """
        borders = borders_of(data, order)
        if borders is None:
            return cls(len(data), seed, ends=ends)
        if window is None:
            row_bytes, unit = _row_bytes(data), int(np.diff(borders).max())
            units = WINDOW_UNITS if unit * row_bytes <= LARGE_UNIT_BYTES else WINDOW_LARGE_UNITS
            window = max(WINDOW_BYTES // row_bytes, WINDOW_BATCHES * batch_size, units * unit)
        return cls(len(data), seed, borders, min(window, len(data)), ends)

    def order(self, epoch: int) -> RowOrder:
        """Return the order of an epoch, counted from 0."""
        if self.ends is not None:
            draws = Draws(self.ends, self.seed, epoch)
            if self.borders is None:
                return DrawnOrder(draws, self.size, self.seed, epoch)
            return DrawnChunkOrder(draws, self.borders, self.window, self.seed, epoch)
        if self.borders is None:
            return Order(self.size, self.seed, EXAMPLES, epoch)
        return ChunkOrder(self.borders, self.window, self.seed, epoch)

    def __str__(self) -> str:
        rows = "examples one by one"
        if self.borders is not None:
            rows = f"windows of {self.window:,} examples from {count_text(len(self.borders) - 1, 'chunk')}"
        return f"order: {rows}{'' if self.ends is None else ', drawn by weights'}"

    @property
    def is_plain(self) -> bool:
        """Return True if examples are drawn one by one, each of them once."""
        return self.borders is None and self.ends is None

    @cached_property
    def description(self) -> str:
        """Return the order in words, which name all that it depends on besides the seed."""
        drawn = "" if self.ends is None else f", drawn by weights ({_digest(self.ends, '<f8')})"
        if self.borders is None:
            return f"rows one by one{drawn}"
        chunks = f"{len(self.borders) - 1} chunks ({_digest(self.borders, '<i8')})"
        return f"windows of {self.window} rows from {chunks}{drawn}"


def borders_of(data: Dataset, order: str) -> Array | None:
    """Return the first row of each unit of a data set, and its number of rows; None to draw rows one by one.

    Args:
        data: the data set.
        order: "rows"; "chunks", where data in one piece is cut into small ones; or "auto".
    """
    if order == "rows":
        return None
    borders: Array | None = getattr(data, "borders", None)
    if borders is None and order == "chunks":
        return np.append(np.arange(0, len(data), max(1, PIECE_BYTES // _row_bytes(data))), len(data))
    return borders


def _row_bytes(data: Dataset) -> int:
    found: int | None = getattr(whole_of(data), "row_bytes", None)
    return max(1, sum(column.nbytes for column in example_form(data).values()) if found is None else found)


def _digest(values: Array, dtype: str) -> str:
    return hashlib.sha256(values.astype(dtype).tobytes()).hexdigest()[:8]
