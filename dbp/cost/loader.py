"""Stage 1: the rows of a data set that belong to this rank's shards, ready for the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.cost.examples import Shard
from dbp.data import Dataset, Order, scaled
from dbp.nn import Loss
from dbp.parallel import Shards

CHUNK = 512  # examples of an evaluation at a time: fixed, as a matrix product's bits depend on its size


class Loader:
    """Reads, for the shards of one rank, nothing but their rows.

    Args:
        data: the data set.
        loss: knows the form in which it takes targets.
        output_shape: of the model, for one example.
        dtype: of the run.
        shards: who computes which part.
    """

    def __init__(self, data: Dataset, loss: Loss, output_shape: tuple[int, ...], dtype: np.dtype[Any], shards: Shards):
        self.data, self._shards = data, shards
        self._loss, self._output_shape, self._dtype = loss, output_shape, dtype

    def batch(self, order: Order, positions: range) -> list[Shard]:
        """This rank's shards of the mini-batch at these positions of an order."""
        return [self._shard(number, self.rows(order, positions, number)) for number in self._shards.mine]

    def rows(self, order: Order, positions: range, number: int) -> NDArray[Any]:
        """The rows of one shard of that mini-batch."""
        part = self._shards.of_batch(len(positions), number)
        return order.rows(positions[part.start : part.stop])

    def chunks(self, number: int) -> Iterator[Shard]:
        """The part of the whole data set that belongs to a shard, in pieces that bound the memory."""
        run = self._shards.of_batch(len(self.data), number)
        for start in range(run.start, run.stop, CHUNK):
            yield self._shard(number, slice(start, min(start + CHUNK, run.stop)))

    def _shard(self, number: int, rows: Any) -> Shard:
        examples = self.data.read(rows)
        assert examples.targets is not None
        return Shard(
            number,
            scaled(examples.inputs, self.data.scale, self._dtype),
            self._loss.prepare(examples.targets, self._output_shape, self._dtype),
            None if examples.weights is None else examples.weights.astype(self._dtype),
        )
