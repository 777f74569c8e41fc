"""Stage 1: the examples of this rank's shards, read from a data set and ready for the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.data import Dataset, Meaning, RowCheck, scaled_inputs, scalings_of, without_placeholders
from dbp.parallel import Shards, parts
from dbp.reading.order import RowOrder
from dbp.reading.output_form import Form
from dbp.reading.shard import Batch, Shard
from dbp.reading.subset import Subset


class Loader:
    """A reader of a data set for one rank, which reads only the rows of the rank's shards.

    Args:
        data: the data set.
        form: of the model's outputs, into which targets are brought.
        dtype: of the run.
        shards: who computes which part.
        chunk_rows: examples of one evaluation pass; see evaluation.py.
        standardized: the meaning of columns whose numbers are used as deviations from a mean, by name.
        check: checks the rows of an evaluation as they are read; None if they have been checked.
        copy: whether inputs and targets of an evaluation are new arrays; else they may be those of the data set, for
            models, losses and metrics that do not write to them.
    """

    def __init__(
        self,
        data: Dataset,
        form: Form,
        dtype: np.dtype[Any],
        shards: Shards,
        chunk_rows: int = 1,
        standardized: Meaning | None = None,
        check: RowCheck | None = None,
        copy: bool = True,
    ):
        self._copy = copy
        self.data, self.dtype, self._shards, self._chunk_rows = data, dtype, shards, chunk_rows
        self._form, self._check, self._scalings = form, check, scalings_of(data, standardized)

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
        """Yield the part of the whole data set that belongs to a shard, in chunks that bound the memory.

        They have about the same size, as a small one takes more time an example.
        """
        span = self.span(number)
        count = -(-len(span) // self._chunk_rows)
        for index in range(count):
            part = parts(len(span), count, index)
            rows = slice(span.start + part.start, span.start + part.stop)
            yield self._shard(number, rows, self._check, self._copy)

    def first(self) -> Shard:
        """Return the first example of the data set, which is not checked."""
        return self._shard(0, slice(0, 1), None)

    def of_target(self, name: str) -> TargetLoader:
        """Return this reader for one of several targets alone."""
        return TargetLoader(self, name)

    def _shard(self, number: int, rows: Any, check: RowCheck | None, copy: bool = True) -> Shard:
        examples = without_placeholders(self.data.read(rows))
        if check is not None:
            check(examples, self._stored_rows(rows))
        found = self._form.prepared(examples, self._scalings, self.dtype, copy)
        inputs = scaled_inputs(found.examples, self._scalings, self.dtype, copy)
        return Shard(number, inputs, found.targets, found.example_weights, found.examples.mask)

    def _stored_rows(self, rows: Any) -> NDArray[Any]:
        """Return the numbers of rows in the whole data set."""
        chosen = np.arange(*rows.indices(len(self.data))) if isinstance(rows, slice) else rows
        return self.data.rows_of_whole(chosen) if isinstance(self.data, Subset) else chosen


class TargetLoader:
    """A reader of a data set for one of its named targets, as if it were the only one.

    Args:
        loader: of the data set.
        name: of the target.
    """

    def __init__(self, loader: Loader, name: str):
        self.dtype, self._loader, self._name = loader.dtype, loader, name

    def chunks(self, number: int) -> Iterator[Shard]:
        """Yield the part of the whole data set that belongs to a shard, in chunks that bound the memory."""
        for shard in self._loader.chunks(number):
            yield shard.of_target(self._name)

    def first(self) -> Shard:
        """Return the first example of the data set, which is not checked."""
        return self._loader.first().of_target(self._name)
