"""The metrics of several targets: for each its part of the cost, and its own metrics, with its name at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dbp.errors import UserError
from dbp.metrics.metric_set import SMALLER, MetricKind, MetricSet
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import Mixture
from dbp.types import Array

COST = "cost"  # of a target, in the name of its column


class JointMetrics(MetricSet):
    """The metrics of several targets.

    The sums begin with two for each target: of its example weights, and of its weighted losses.

    Args:
        sets: the metrics of each target, by its name.
        target_weights: the weight of each target's loss in the cost, in the same order.
    """

    def __init__(self, sets: Mapping[str, MetricSet], target_weights: Sequence[float]):
        super().__init__()
        self.sets, self.target_weights = dict(sets), tuple(target_weights)
        self.rankings = tuple(ranking for one in sets.values() for ranking in one.rankings)
        self.width = 2 * len(sets)
        self._blocks: dict[str, slice] = {}
        columns = {f"{COST}_{name}": SMALLER for name in sets}
        for name, one in sets.items():
            self._blocks[name] = slice(self.width, self.width + one.width)
            self.width += one.width
            for column, better in one.columns.items():
                if f"{column}_{name}" in columns:
                    raise UserError(
                        f"two metrics have the column {column}_{name}; rename the target {name!r}, or leave one out"
                    )
                columns[f"{column}_{name}"] = better
            self.details |= {f"{column}_{name}" for column in one.details}
        self.columns = columns

    @property
    def training(self) -> JointMetrics:
        """Return the metrics that are taken of training data too."""
        return JointMetrics({name: one.training for name, one in self.sets.items()}, self.target_weights)

    @property
    def parts(self) -> JointMetrics:
        """Return the parts of the cost alone, without other metrics."""
        return JointMetrics({name: MetricSet() for name in self.sets}, self.target_weights)

    def write_part(
        self, target: Array, name: str, sums: tuple[float, float], found: Predictions | None, mixture: Mixture | None
    ) -> None:
        """Write the sums of one target over some examples.

        Args:
            target: of all sums, (width,), in float64.
            name: of the target.
            sums: of its example weights, and of its weighted losses.
            found: its predictions; None if it has no metrics.
            mixture: how a layer has mixed the examples; None if none has.
        """
        number = 2 * list(self.sets).index(name)
        target[number : number + 2] = sums
        if found is not None:
            self.sets[name].write_sums(target[self._blocks[name]], found, mixture)

    def values(self, example_weight: float, sums: Array) -> dict[str, float]:  # noqa: ARG002
        """Return the values of all metrics but rankings, by the names of their columns; each target has its weight."""
        pairs = dict(zip(self.sets, pairs_in(sums, len(self.sets)), strict=True))
        found = {f"{COST}_{name}": mean_of(*pair) for name, pair in pairs.items()}
        for name, one in self.sets.items():
            values = one.values(float(pairs[name][0]), sums[self._blocks[name]])
            found |= {f"{column}_{name}": value for column, value in values.items()}
        return found

    def tables(self, sums: Array) -> dict[str, Array]:
        """Return the arrays of all metrics that have some, by name."""
        found = {name: one.tables(sums[self._blocks[name]]) for name, one in self.sets.items()}
        return {f"{table}_{name}": values for name, tables in found.items() for table, values in tables.items()}

    def named_sums(self, sums: Array) -> Iterator[tuple[str, Array]]:
        """Yield the name of each of the sums, and its part of the vector."""
        for number, (name, one) in enumerate(self.sets.items()):
            yield f"{name}.{COST}", sums[2 * number : 2 * number + 2]
            for own, part in one.named_sums(sums[self._blocks[name]]):
                yield f"{name}.{own}", part


def pairs_in(sums: Array, targets: int) -> Array:
    """Return the sums of weights and of losses of each target, (targets, 2), given the sums of JointMetrics."""
    return sums[: 2 * targets].reshape(targets, 2)


def mean_of(weight: float, loss: float) -> float:
    """Return the weighted mean of the losses of a target; zero if all its example weights are zero."""
    return float(loss / weight) if weight else 0.0


def joint_cost(target_weights: Sequence[float], sums: Array) -> float:
    """Return the weighted sum of the costs of all targets, given the sums of JointMetrics."""
    pairs = zip(target_weights, pairs_in(sums, len(target_weights)), strict=True)
    return float(np.sum([by * mean_of(*pair) for by, pair in pairs]))


def metrics_by_target(given: Any, forms: Mapping[str, TargetForm]) -> dict[str, list[MetricKind]]:
    """Return the metrics of each target, given them by target, or as a list of which each has those that fit it.

    Args:
        given: metrics by target, or a sequence of them.
        forms: of the targets, by name.

    Raises:
        UserError: a metric of a list fits no target; what was wrong with the first is raised.
    """
    if isinstance(given, Mapping):
        return {name: list(given.get(name, ())) for name in forms}
    chosen: dict[str, list[MetricKind]] = {name: [] for name in forms}
    for metric in given:
        errors = []
        for name, form in forms.items():
            try:
                metric.fit(form)
            except UserError as error:
                errors.append(UserError(f"target {name!r}: {error}"))
            else:
                chosen[name].append(metric)
        if len(errors) == len(forms):
            raise errors[0]
    return chosen
