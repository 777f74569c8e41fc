"""The examples of a mini-batch, shard by shard, ready for the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.data import counting_rows
from dbp.named_arrays import each, row_count
from dbp.nn import read_only
from dbp.types import Arrays


class Shard(NamedTuple):
    """The examples of one shard, ready for the model.

    Columns of a data set that names several are arrays by name.

    Args:
        number: of the shard.
        inputs: of the model.
        targets: of the loss.
        example_weights: of the examples, or of the elements of each target; None if all are 1. Of named targets, they
            are weights by target, without the targets whose weights are all 1.
        mask: which positions of the inputs hold data, booleans (examples, *positions); None if all do. Of named inputs,
            it is a mask for each input that has one, by its name.
    """

    number: int
    inputs: Arrays
    targets: Arrays
    example_weights: Arrays | None
    mask: Arrays | None = None

    @property
    def count(self) -> int:  # type: ignore[override]  # no shard is asked for equal fields
        """Return the number of examples."""
        return row_count(self.inputs)

    @property
    def example_weight(self) -> float:
        """Return the sum of the example weights; of named targets, each with weights of its own, the count."""
        weights = self.example_weights
        if weights is None or isinstance(weights, dict):
            return float(self.count)
        return float(weights.sum(dtype=np.float64))

    @property
    def counted(self) -> int:
        """Return the number of examples of which any weight is not 0."""
        weights = self.example_weights
        if isinstance(weights, dict):
            has_others = isinstance(self.targets, dict) and self.targets.keys() != weights.keys()
            counts = [counting_rows(of_target) for of_target in weights.values()]
            return self.count if has_others else int(np.logical_or.reduce(counts).sum())
        return self.count if weights is None else int(counting_rows(weights).sum())

    def rows(self, which: Any) -> Shard:
        """Return some of the examples, in read-only arrays."""
        return Shard(self.number, *(each(lambda array: read_only(array[which]), arrays) for arrays in self[1:]))

    def of_target(self, name: str) -> Shard:
        """Return the examples with one of their named targets alone, and its weights."""
        assert isinstance(self.targets, dict)
        weights = self.example_weights.get(name) if isinstance(self.example_weights, dict) else None
        return Shard(self.number, self.inputs, self.targets[name], weights, self.mask)


Batch = Sequence[Shard]  # this rank's shards of one mini-batch
# Yields the examples of the shard of a number, in chunks that bound the memory.
Chunks = Callable[[int], Iterable[Shard]]


class CountedChunks:
    """Chunks that count the examples that they have yielded, without those of weight 0.

    Args:
        chunks: yields the examples of a shard, by its number.
    """

    def __init__(self, chunks: Chunks):
        self._chunks, self.count = chunks, 0

    def __call__(self, number: int) -> Iterator[Shard]:
        """Yield the examples of a shard."""
        for chunk in self._chunks(number):
            self.count += chunk.counted
            yield chunk
