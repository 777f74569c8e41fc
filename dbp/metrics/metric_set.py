"""The metrics of a run, fitted to its loss and data: their sums over examples, and their values from the sums.

The sums of all metrics lie in one vector, which is summed over shards along the fixed tree as the cost is; so values
have the same bits on any number of ranks. Metrics that need the same sums, such as precision and recall, share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from dbp.errors import UserError
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import Mixture, as_weighted
from dbp.types import Array

VALIDATION = "validation_"  # the beginning of the columns of validation data
MOST_DETAILS = 6  # values of single classes and outputs that are shown in a line
LARGER, SMALLER = True, False  # is better
Columns = Mapping[str, bool]  # the names of numbers, each with LARGER or SMALLER


class Sums(Protocol):
    """Sums over examples, from which the values of metrics follow; equal ones are taken once.

    `name` is that in checkpoints, and `width` the number of sums.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    def of(self, found: Predictions) -> Any:
        """Return the sums over some examples, (width,), each example counted with its weight."""
        ...


@dataclass(frozen=True)
class MeanSum:
    """The weighted sum of one number for each example; over the sum of the weights it is their mean.

    Args:
        name: of the metric.
        numbers: returns an array (examples, ...) of predictions.
    """

    name: str
    numbers: Callable[[Predictions], Array] = field(compare=False)
    width: int = field(default=1, init=False)

    def of(self, found: Predictions, partners: Predictions | None = None, mixture: Mixture | None = None) -> float:
        """Return the sum over some examples; of mixed ones given their outputs beside the targets of their partners."""
        weights = found.example_weights
        values = as_weighted(self.numbers(found), weights)
        if mixture is not None and partners is not None:
            others = as_weighted(self.numbers(partners), weights)
            values = mixture.of(values.astype(np.float64), others, weights)  # hits are booleans
        if weights is None and values.dtype == np.bool_:  # the same number, in less time
            return float(np.count_nonzero(values))
        if weights is None:
            return float(np.add.reduce(values, dtype=np.float64))
        return float(np.sum(values * found.wide_weights))


@dataclass(frozen=True)
class FittedMetric:
    """A metric of a run whose values follow from sums over examples.

    Args:
        columns: of its values.
        sums: what they follow from.
        values: returns the values, in the order of the columns, from the sums and the sum of the example weights.
        tables: returns arrays by name from the sums; None without any.
        details: how many of its last columns are those of single classes or outputs.
    """

    columns: Columns
    sums: Sums
    values: Callable[[Array, float], Sequence[float]] = field(compare=False)
    tables: Callable[[Array], Mapping[str, Array]] | None = field(default=None, compare=False)
    details: int = 0


class Ranking(Protocol):
    """A metric of a run that needs all outputs; see FittedRanking in rankings.py, by which dbp.cost takes it."""

    @property
    def columns(self) -> Columns: ...  # noqa: D102

    @property
    def details(self) -> int: ...  # noqa: D102

    @property
    def form(self) -> TargetForm: ...  # noqa: D102


def mean_metric(name: str, better: bool, numbers: Callable[[Predictions], Array]) -> FittedMetric:
    """Return the metric that is the weighted mean of one number for each example."""
    return FittedMetric({name: better}, MeanSum(name, numbers), lambda sums, weight: [sums[0] / (weight or 1.0)])


class MetricKind(Protocol):
    """A metric as settings name it: a frozen dataclass with a `kind`, which fits itself to a run."""

    @property
    def kind(self) -> str: ...  # noqa: D102

    def fit(self, form: TargetForm) -> Sequence[FittedMetric | Ranking]:
        """Return the metric of a run whose targets have this form; raise UserError if it does not fit."""
        ...


class MetricSet:
    """The metrics of a run.

    Args:
        fitted: those that follow from sums over examples.
        rankings: those that need all outputs.
        order: all columns in the order of the settings; by default that of the metrics.

    Attributes:
        target_weights: the weight of each target's cost, where there are several by name, see JointMetrics; else empty.
    """

    target_weights: tuple[float, ...] = ()

    def __init__(
        self, fitted: Sequence[FittedMetric] = (), rankings: Sequence[Ranking] = (), order: Sequence[str] = ()
    ):
        self._fitted, self.rankings = tuple(fitted), tuple(rankings)
        pairs = [(m.columns, m.details) for m in fitted] + [(r.columns, r.details) for r in rankings]
        found = {name: better for columns, _ in pairs for name, better in columns.items()}
        self.columns: Columns = {name: found[name] for name in order or found}
        self.details = {name for columns, count in pairs for name in list(columns)[len(columns) - count :]}
        self._slices: dict[Sums, slice] = {}
        self.width = 0
        for metric in self._fitted:
            if metric.sums not in self._slices:
                self._slices[metric.sums] = slice(self.width, self.width + metric.sums.width)
                self.width += metric.sums.width

    @classmethod
    def of(cls, metrics: Sequence[MetricKind], form: TargetForm) -> MetricSet:
        """Return these metrics for a run whose targets have this form.

        Raises:
            UserError: a metric does not fit the targets, or two have a column of the same name.
        """
        fitted: list[FittedMetric | Ranking] = []
        owners: dict[str, str] = {}
        for metric in metrics:
            for found in metric.fit(form):
                known = [other for other in fitted if other.columns.keys() & found.columns.keys()]
                if found in known:  # such as the columns of classes of two averages
                    continue
                for name in (name for other in known for name in other.columns if name in found.columns):
                    raise UserError(
                        f"metrics {owners[name]!r} and {metric.kind!r} both have the column {name!r}; leave one out, "
                        "or rename the class or output"
                    )
                fitted.append(found)
                owners |= dict.fromkeys(found.columns, metric.kind)
        sums = [metric for metric in fitted if isinstance(metric, FittedMetric)]
        rankings = [metric for metric in fitted if not isinstance(metric, FittedMetric)]
        return cls(sums, rankings, tuple(owners))

    @property
    def parts(self) -> MetricSet:
        """Return what is taken where no metrics are asked for: nothing; of several targets the parts of the cost."""
        return MetricSet()

    @cached_property
    def training(self) -> MetricSet:
        """Return the metrics that are taken of training data too: those with columns that are sums over examples."""
        return MetricSet([metric for metric in self._fitted if metric.columns])

    def larger_is_better(self, column: str) -> bool:
        """Return True if a larger value of a column of the history is better; a smaller one is better of a cost."""
        return self.columns.get(column.removeprefix(VALIDATION), SMALLER)

    def without_details(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return values without those of single classes and outputs, if these are more than MOST_DETAILS."""
        many = len(self.details) > MOST_DETAILS
        return {name: value for name, value in values.items() if not (many and name in self.details)}

    # --- sums and values -------------------------------------------------------------------------------

    def write_sums(self, target: Array, found: Predictions, mixture: Mixture | None = None) -> None:
        """Write the sums over some examples.

        Args:
            target: (width,), in float64.
            found: the predictions.
            mixture: how a layer has mixed the examples; None if none has.
        """
        if mixture is not None:
            self._write_mixed(target, found, mixture)
            return
        for sums, inside in self._slices.items():
            target[inside] = sums.of(found)

    def _write_mixed(self, target: Array, found: Predictions, mixture: Mixture) -> None:
        """Write sums for which each example counts with its share, and its partner with the rest."""
        others, weights = found.targets[mixture.partners], found.example_weights
        partners = Predictions(found.outputs, others, weights)
        if weights is not None:  # of the partners, but that examples of weight 0 are left out
            weights = np.where(weights != 0, weights[mixture.partners], weights.dtype.type(0))
        weighted = Predictions(found.outputs, others, weights)
        for sums, inside in self._slices.items():
            if isinstance(sums, MeanSum):
                target[inside] = sums.of(found, partners, mixture)
            else:
                own, other = (np.asarray(sums.of(one), np.float64) for one in (found, weighted))
                target[inside] = mixture.share * own + (1 - mixture.share) * other

    def values(self, example_weight: float, sums: Array) -> dict[str, float]:
        """Return the values of all metrics but rankings, by the names of their columns.

        Args:
            example_weight: the sum of the example weights.
            sums: of the examples, (width,).
        """
        found: dict[str, float] = {}
        for metric in self._fitted:
            numbers = metric.values(sums[self._slices[metric.sums]], example_weight)
            found.update(zip(metric.columns, map(float, numbers), strict=True))
        return found

    def tables(self, sums: Array) -> dict[str, Array]:
        """Return the arrays of all metrics that have some, by name."""
        made = (m.tables(sums[self._slices[m.sums]]) for m in self._fitted if m.tables is not None)
        return {name: table for tables in made for name, table in tables.items()}

    def named_sums(self, sums: Array) -> Iterator[tuple[str, Array]]:
        """Yield the name of each of the sums, and its part of the vector."""
        for one, inside in self._slices.items():
            yield one.name, sums[inside]
