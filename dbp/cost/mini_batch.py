"""Sums over the examples of a mini-batch, and losses with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from dbp.autodiff import Value, mean
from dbp.nn import Loss, Mixture
from dbp.reading.shard import Shard
from dbp.types import Array


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

    @classmethod
    def of(cls, scalars: Array) -> ExampleSums:
        """Return the sums from an array of them: example weight, loss and metrics."""
        example_weight, loss, *metrics = scalars.tolist()
        return cls(example_weight, loss, tuple(metrics))

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


def losses_of(loss: Loss, outputs: Value, shard: Shard, mixture: Mixture | None = None) -> Value:
    """Return the loss of each example, or of each element of it if these have weights.

    Args:
        loss: computes losses from outputs and targets.
        outputs: of the model for the shard.
        shard: the examples.
        mixture: how a layer has mixed them; None if none has.
    """
    losses = as_weighted(loss(outputs, shard.targets), shard)
    if mixture is None:
        return losses
    others = as_weighted(loss(outputs, shard.targets[mixture.partners]), shard)
    return cast("Value", mixture.of(losses, others, shard.example_weights))


def metrics_of(loss: Loss, outputs: Array, shard: Shard, mixture: Mixture | None = None) -> list[Array]:
    """Return the columns of the loss's metrics, each as losses_of() returns losses."""
    found = [as_weighted(column, shard) for column in loss.measure(outputs, shard.targets)]
    if mixture is None:
        return found
    others = [as_weighted(column, shard) for column in loss.measure(outputs, shard.targets[mixture.partners])]
    pairs = ((own.astype(np.float64), other) for own, other in zip(found, others, strict=True))  # hits are booleans
    return [mixture.of(own, other, shard.example_weights) for own, other in pairs]
