"""Stage 1: the examples of this rank's shards, read from a data set and ready for the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.data import (
    Dataset,
    Meaning,
    RowCheck,
    Scaling,
    places_of,
    scalings_of,
    weighted_by_places,
    without_placeholders,
)
from dbp.nn import Loss
from dbp.parallel import Shards
from dbp.reading.order import RowOrder
from dbp.reading.shard import Batch, Shard
from dbp.reading.subset import Subset


class Loader:
    """A reader of a data set for one rank, which reads only the rows of the rank's shards.

    Args:
        data: the data set.
        loss: brings targets into the form that it takes.
        output_shape: of the model, for one example.
        dtype: of the run.
        shards: who computes which part.
        chunk_rows: examples of one evaluation pass; see evaluation.py.
        standardized: the meaning of columns whose numbers are used as deviations from a mean, by name.
        check: checks the rows of an evaluation as they are read; None if they have been checked.
        output_places: how many axes of the model's outputs are places of masked inputs.
    """

    def __init__(
        self,
        data: Dataset,
        loss: Loss,
        output_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        shards: Shards,
        chunk_rows: int = 1,
        standardized: Meaning | None = None,
        check: RowCheck | None = None,
        output_places: int = 0,
    ):
        self.data, self._shards, self._chunk_rows, self._output_places = data, shards, chunk_rows, output_places
        self._loss, self._output_shape, self._dtype, self._check = loss, output_shape, dtype, check
        scalings = scalings_of(data, standardized)
        self._scaling, self._target_scaling = scalings.get("inputs", Scaling()), scalings.get("targets")

    def batch(self, order: RowOrder, positions: range, check: RowCheck | None = None) -> Batch:
        """Return this rank's shards of the mini-batch at these positions of an order, checked if a check is given."""
        return [self._shard(number, self.rows(order, positions, number), check) for number in self._shards.mine]

    def rows(self, order: RowOrder, positions: range, number: int) -> NDArray[Any]:
        """Return the rows of one shard of the mini-batch at these positions of an order."""
        part = self._shards.of_batch(len(positions), number)
        return order.rows(positions[part.start : part.stop])

    def span(self, number: int) -> range:
        """Return the rows of the part of the whole data set that belongs to a shard."""
        return self._shards.of_batch(len(self.data), number)

    def chunks(self, number: int) -> Iterator[Shard]:
        """Yield the part of the whole data set that belongs to a shard, in chunks that bound the memory."""
        span = self.span(number)
        for start in range(span.start, span.stop, self._chunk_rows):
            yield self._shard(number, slice(start, min(start + self._chunk_rows, span.stop)), self._check)

    def first(self) -> Shard:
        """Return the first example of the data set, which is not checked."""
        return self._shard(0, slice(0, 1), None)

    def _shard(self, number: int, rows: Any, check: RowCheck | None) -> Shard:
        examples = without_placeholders(self.data.read(rows))
        if check is not None:
            check(examples, self._stored_rows(rows))
        examples = weighted_by_places(examples, self._output_places)
        targets = examples.targets
        assert targets is not None
        if self._target_scaling is not None:
            targets = self._target_scaling.apply(targets, self._dtype)
        return Shard(
            number,
            self._scaling.apply(examples.inputs, self._dtype),
            self._loss.prepare(
                targets, places_of(self._output_shape, targets, examples.mask, self._output_places), self._dtype
            ),
            None if examples.weights is None else examples.weights.astype(self._dtype),
            examples.mask,
        )

    def _stored_rows(self, rows: Any) -> NDArray[Any]:
        """Return the numbers of rows in the whole data set."""
        chosen = np.arange(*rows.indices(len(self.data))) if isinstance(rows, slice) else rows
        return self.data.rows_of_whole(chosen) if isinstance(self.data, Subset) else chosen
