"""The examples of a mini-batch, shard by shard, and sums over examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Value, mean
from dbp.nn import read_only
from dbp.types import Array


class Shard(NamedTuple):
    """The examples of one shard, ready for the model.

    Args:
        number: of the shard.
        inputs: of the model.
        targets: of the loss.
        example_weights: of the examples, or of the elements of each target; None if all are 1.
    """

    number: int
    inputs: Array
    targets: Array
    example_weights: Array | None

    @property
    def example_weight(self) -> float:
        """Return the sum of the example weights."""
        weights = self.example_weights
        return float(len(self.inputs)) if weights is None else float(weights.sum(dtype=np.float64))

    def rows(self, which: Any) -> Shard:
        """Return some of the examples, in read-only arrays."""
        arrays = (None if array is None else array[which] for array in self[1:])
        inputs, targets, example_weights = (None if array is None else read_only(array) for array in arrays)
        return Shard(self.number, inputs, targets, example_weights)  # type: ignore[arg-type]


Batch = Sequence[Shard]  # this rank's shards of one mini-batch
# Yields the examples of the shard of a number, in chunks that bound the memory.
Chunks = Callable[[int], Iterable[Shard]]


@dataclass(frozen=True)
class ExampleSums:
    """Sums over examples.

    Args:
        example_weight: sum of the example weights.
        loss: sum of the weighted losses.
        metrics: sums of the weighted metrics.
    """

    example_weight: float
    loss: float
    metrics: tuple[float, ...]

    @property
    def cost(self) -> float:
        """Return the weighted mean of the losses; zero if all example weights are zero."""
        return self.loss / self.example_weight if self.example_weight else 0.0

    def __add__(self, other: ExampleSums) -> ExampleSums:
        metrics = tuple(a + b for a, b in zip(self.metrics, other.metrics, strict=True))
        return ExampleSums(self.example_weight + other.example_weight, self.loss + other.loss, metrics)

    def means(self, names: tuple[str, ...]) -> dict[str, float]:
        """Return the cost and the weighted means of the metrics, by name."""
        weight = self.example_weight or 1.0
        return {"cost": self.cost, **{n: m / weight for n, m in zip(names, self.metrics, strict=True)}}


def as_weighted(losses: Value, shard: Shard) -> Value:
    """Return one loss for each example weight: losses of elements that have no weights of their own are averaged."""
    axes = 1 if shard.example_weights is None else shard.example_weights.ndim
    return losses if losses.ndim == axes else mean(losses, axis=tuple(range(axes, losses.ndim)))
