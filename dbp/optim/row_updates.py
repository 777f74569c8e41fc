"""The update of a table of which some rows have a gradient, in blocks as those of whole vectors.

Of a sparse table other rows and their state stay as they are. So an optimizer's state is "lazy": it does not decay in
the steps in which a row has no gradient (as in PyTorch's SparseAdam and TensorFlow's LazyAdam).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dbp.optim.blockwise import CACHE_BLOCK, cache_blocks
from dbp.optim.parameter_blocks import Block
from dbp.optim.protocols import RowGradient, Vector


def row_blocks(gradient: RowGradient, weights: Vector, vectors: Mapping[str, Vector]) -> Iterator[Block]:
    """Yield copies of the rows with a gradient, and write each block back after it was updated.

    Learning rate and weight decay are to be set.

    Args:
        gradient: by the rows.
        weights: the flat weights.
        vectors: the optimizer's vectors.
    """
    units = gradient.values.shape[1]
    count = max(1, CACHE_BLOCK // units)
    w_table, *tables = (vector[gradient.part].reshape(-1, units) for vector in (weights, *vectors.values()))
    buffers = np.empty((3, min(count, len(gradient.numbers)) * units), weights.dtype)
    for start in range(0, len(gradient.numbers), count):
        numbers, g = gradient.numbers[start : start + count], gradient.values[start : start + count].reshape(-1)
        w, rows = w_table[numbers], [table[numbers] for table in tables]
        views = {name: row.reshape(-1) for name, row in zip(vectors, rows, strict=True)}
        yield Block(w.reshape(-1), g, views, [row[: g.size] for row in buffers], 0.0, 0.0, 0, slice(0, g.size))
        w_table[numbers] = w
        for table, row in zip(tables, rows, strict=True):
            table[numbers] = row


def table_blocks(gradient: RowGradient, weights: Vector, vectors: Mapping[str, Vector]) -> Iterator[Block]:
    """Yield blocks of all rows that this rank updates, with a gradient of zero for those without.

    Learning rate and weight decay are to be set.

    Args:
        gradient: by the rows.
        weights: the flat weights.
        vectors: the optimizer's vectors.
    """
    units = gradient.values.shape[1]
    length = max(1, CACHE_BLOCK // units) * units
    rows = np.empty((4, length), weights.dtype)
    for where in cache_blocks(gradient.owned, length):
        g, *buffers = rows[:, : where.stop - where.start]
        first, last = ((end - gradient.part.start) // units for end in (where.start, where.stop))
        found = slice(*np.searchsorted(gradient.numbers, [first, last]))
        g[:] = 0
        g.reshape(-1, units)[gradient.numbers[found] - first] = gradient.values[found]
        views = {name: vector[where] for name, vector in vectors.items()}
        yield Block(weights[where], g, views, buffers, 0.0, 0.0, 0, where)
