"""Sums over the examples of a mini-batch, and losses with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np

from dbp.autodiff import Value, sum_
from dbp.metrics.metric_set import MetricSet
from dbp.nn import JointLoss, Mixture, weighted_losses
from dbp.reading.shard import Shard
from dbp.types import Array


@dataclass(slots=True, eq=False)  # arrays have no truth value
class ExampleSums:
    """Sums over examples.

    Args:
        example_weight: sum of the example weights.
        loss: sum of the weighted losses.
        metrics: the sums of the metrics, as a MetricSet lays them out.
        target_weights: the weight of each target's cost, where there are several by name; their sums are among those of
            the metrics then, see JointMetrics.
    """

    example_weight: float
    loss: float
    metrics: Array
    target_weights: tuple[float, ...] = ()

    @classmethod
    def of(cls, scalars: Array, target_weights: tuple[float, ...] = ()) -> ExampleSums:
        """Return the sums from an array of them: example weight, loss and metrics."""
        example_weight, loss = scalars[:2].tolist()
        return cls(example_weight, loss, scalars[2:].copy(), target_weights)

    @property
    def cost(self) -> float:
        """Return the weighted mean of the losses, or the sum of those of several targets; zero without any weights."""
        if self.target_weights:
            from dbp.metrics.joint import joint_cost  # which a run with one target does not need

            return joint_cost(self.target_weights, self.metrics)
        return self.loss / self.example_weight if self.example_weight else 0.0

    def __add__(self, other: ExampleSums) -> ExampleSums:
        weight, loss = self.example_weight + other.example_weight, self.loss + other.loss
        return ExampleSums(weight, loss, self.metrics + other.metrics, self.target_weights)

    def values(self, metrics: MetricSet) -> dict[str, float]:
        """Return the cost and the values of the metrics that the sums are of, by column."""
        return {"cost": self.cost, **metrics.values(self.example_weight, self.metrics)}


def weighted_sums(losses: Array, weights: Array | None) -> tuple[float, float]:
    """Return the sum of example weights, and of weighted losses, in float64.

    Args:
        losses: as losses_of() returns them.
        weights: of the losses; None if all are 1.
    """
    if weights is None:
        return len(losses), np.add.reduce(losses, dtype=np.float64)
    wide = weights.astype(np.float64)
    return wide.sum(), np.sum(losses * wide)


def losses_of(loss: Any, outputs: Any, shard: Shard, mixture: Mixture | None = None) -> Any:
    """Return the loss of each example, or of each element of it if these have weights; of a JointLoss, by target.

    Args:
        loss: computes losses from outputs and targets.
        outputs: of the model for the shard.
        shard: the examples.
        mixture: how a layer has mixed them; None if none has.
    """
    if isinstance(loss, JointLoss):
        given = loss.named(outputs)
        return {n: losses_of(p.loss, given[n], shard.of_target(n), mixture) for n, p in loss.parts.items()}
    losses = weighted_losses(loss, outputs, shard.targets, shard.example_weights)
    if mixture is None:
        return losses
    others = weighted_losses(loss, outputs, shard.targets[mixture.partners], shard.example_weights)
    return cast("Value", mixture.of(losses, others, shard.example_weights))


def example_losses(losses: Any) -> Any:
    """Return losses with the examples along the first axis: of several targets, their sum for each example."""
    if not isinstance(losses, dict):
        return losses
    sums = [sum_(one, axis=tuple(range(1, one.ndim))) if one.ndim > 1 else one for one in losses.values()]
    return reduce(add, sums)
