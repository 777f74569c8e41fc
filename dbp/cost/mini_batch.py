"""Sums over the examples of a mini-batch, and losses with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from dbp.autodiff import Value
from dbp.metrics.metric_set import MetricSet
from dbp.nn import Loss, Mixture, as_weighted
from dbp.reading.shard import Shard
from dbp.types import Array


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class ExampleSums:
    """Sums over examples.

    Args:
        example_weight: sum of the example weights.
        loss: sum of the weighted losses.
        metrics: the sums of the metrics, as a MetricSet lays them out.
    """

    example_weight: float
    loss: float
    metrics: Array

    @classmethod
    def of(cls, scalars: Array) -> ExampleSums:
        """Return the sums from an array of them: example weight, loss and metrics."""
        return cls(float(scalars[0]), float(scalars[1]), scalars[2:].copy())

    @property
    def cost(self) -> float:
        """Return the weighted mean of the losses; zero if all example weights are zero."""
        return self.loss / self.example_weight if self.example_weight else 0.0

    def __add__(self, other: ExampleSums) -> ExampleSums:
        weight, loss = self.example_weight + other.example_weight, self.loss + other.loss
        return ExampleSums(weight, loss, self.metrics + other.metrics)

    def values(self, metrics: MetricSet) -> dict[str, float]:
        """Return the cost and the values of the metrics that the sums are of, by column."""
        return {"cost": self.cost, **metrics.values(self.example_weight, self.metrics)}


def losses_of(loss: Loss, outputs: Value, shard: Shard, mixture: Mixture | None = None) -> Value:
    """Return the loss of each example, or of each element of it if these have weights.

    Args:
        loss: computes losses from outputs and targets.
        outputs: of the model for the shard.
        shard: the examples.
        mixture: how a layer has mixed them; None if none has.
    """
    losses = as_weighted(loss(outputs, shard.targets), shard.example_weights)
    if mixture is None:
        return losses
    others = as_weighted(loss(outputs, shard.targets[mixture.partners]), shard.example_weights)
    return cast("Value", mixture.of(losses, others, shard.example_weights))
