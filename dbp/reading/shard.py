"""The examples of a mini-batch, shard by shard, ready for the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.data import counting_rows
from dbp.nn import read_only
from dbp.types import Array


class Shard(NamedTuple):
    """The examples of one shard, ready for the model.

    Args:
        number: of the shard.
        inputs: of the model.
        targets: of the loss.
        example_weights: of the examples, or of the elements of each target; None if all are 1.
        mask: which places of the inputs hold data, booleans (examples, *places); None if all do.
    """

    number: int
    inputs: Array
    targets: Array
    example_weights: Array | None
    mask: Array | None = None

    @property
    def example_weight(self) -> float:
        """Return the sum of the example weights."""
        weights = self.example_weights
        return float(len(self.inputs)) if weights is None else float(weights.sum(dtype=np.float64))

    @property
    def counted(self) -> int:
        """Return the number of examples of which any weight is not 0."""
        weights = self.example_weights
        return len(self.inputs) if weights is None else int(counting_rows(weights).sum())

    def rows(self, which: Any) -> Shard:
        """Return some of the examples, in read-only arrays."""
        arrays = (None if array is None else array[which] for array in self[1:])
        return Shard(self.number, *(None if array is None else read_only(array) for array in arrays))  # type: ignore[arg-type]


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
