"""Metrics of regression: errors of each output in the units of the targets, and their mean over the outputs.

Each is a weighted mean over examples and positions for one output, as in scikit-learn; several outputs have a column
each, and the metric itself is the plain mean over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.metrics.fitting import check_targets_are, columns_of_each
from dbp.metrics.metric_set import LARGER, SMALLER, FittedMetric, Sums
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import NUMBERS
from dbp.types import Array


def _weighted_sums(columns: Sequence[Array], weights: Array | None) -> Array:
    """Return the weighted sums of columns (rows, outputs) over their rows, one after the other."""
    return np.concatenate([np.sum(c if weights is None else c * weights, axis=0) for c in columns])


def _as_rows(found: Predictions, count: int) -> tuple[Array, Array, Array | None]:
    """Return differences, targets and weights of the outputs in float64, (rows, outputs) each."""
    shape = (-1, count)
    outputs, targets = (array.astype(np.float64).reshape(shape) for array in (found.outputs, found.targets))
    weights = found.weights_of(found.outputs.shape)
    return outputs - targets, targets, None if weights is None else weights.reshape(shape)


@dataclass(frozen=True)
class ErrorSums:
    """The sums of weights, absolute errors and squared errors of each output."""

    count: int
    name: ClassVar[str] = "errors"

    @property
    def width(self) -> int:
        """Return the number of sums."""
        return 3 * self.count

    def of(self, found: Predictions) -> Array:
        """Return the sums over some examples."""
        errors, _, weights = _as_rows(found, self.count)
        return _weighted_sums([np.ones_like(errors), np.abs(errors), errors**2], weights)


@dataclass(frozen=True)
class VariationSums:
    """The sums of weights, targets, their squares and squared errors of each output.

    Args:
        center: a number for each output that is subtracted from the targets first, so that the squares of large
            targets with a small variation lose no digits.
    """

    center: tuple[float, ...]
    name: ClassVar[str] = "variation"

    @classmethod
    def around(cls, form: TargetForm) -> VariationSums:
        """Return the sums around the first target of the data."""
        assert form.sample is not None
        center = form.sample.targets.astype(np.float64).reshape(-1, form.count)[0]
        return cls(tuple(np.where(np.isfinite(center), center, 0).tolist()))

    @property
    def width(self) -> int:
        """Return the number of sums."""
        return 4 * len(self.center)

    def of(self, found: Predictions) -> Array:
        """Return the sums over some examples."""
        errors, targets, weights = _as_rows(found, len(self.center))
        moved = targets - np.array(self.center)
        return _weighted_sums([np.ones_like(errors), moved, moved**2, errors**2], weights)

    def r2(self, sums: Array) -> Array:
        """Return R2 of each output; that of targets that are all equal is 1 without an error, and else 0."""
        weight, moved, squares, errors = sums.reshape(4, -1)
        spread = squares - moved**2 / np.where(weight > 0, weight, 1)
        varies = spread > 0
        without = np.where(errors > 0, 0.0, 1.0)
        return np.where(weight > 0, 1 - np.divide(errors, spread, out=1 - without, where=varies), np.nan)


def _fitted(
    kind: str, better: bool, form: TargetForm, sums: Sums, of_outputs: Callable[[Array], Array]
) -> list[FittedMetric]:
    """Return a metric that is the mean of a number for each output, with a column for each of several."""
    names = columns_of_each(kind, form)

    def values(found: Array, _: float) -> list[float]:
        each = of_outputs(found)
        return [float(np.mean(each)), *(each.tolist() if names else [])]

    return [FittedMetric(dict.fromkeys([kind, *names], better), sums, values, details=len(names))]


@dataclass(frozen=True)
class ErrorMetric:
    """The base of the metrics that are a mean error."""

    kind: ClassVar[str]

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((NUMBERS,), self.kind, form)
        return _fitted(self.kind, SMALLER, form, ErrorSums(form.count), self.of_outputs)

    def of_outputs(self, sums: Array) -> Array:
        """Return the error of each output from its sums."""
        raise NotImplementedError


def means_of(sums: Array) -> Array:
    """Return the means of absolute and of squared errors, (2, outputs)."""
    weight, *others = sums.reshape(3, -1)
    return np.asarray(np.array(others) / np.where(weight > 0, weight, 1))


@dataclass(frozen=True)
class MAE(ErrorMetric):
    """The mean absolute error of each output."""

    kind: ClassVar[str] = "mae"

    def of_outputs(self, sums: Array) -> Array:
        """Return the mean absolute error of each output."""
        return np.asarray(means_of(sums)[0])


@dataclass(frozen=True)
class MSE(ErrorMetric):
    """The mean squared error of each output."""

    kind: ClassVar[str] = "mse"

    def of_outputs(self, sums: Array) -> Array:
        """Return the mean squared error of each output."""
        return np.asarray(means_of(sums)[1])


@dataclass(frozen=True)
class RMSE(ErrorMetric):
    """The square root of the mean squared error of each output."""

    kind: ClassVar[str] = "rmse"

    def of_outputs(self, sums: Array) -> Array:
        """Return the root of the mean squared error of each output."""
        return np.asarray(np.sqrt(means_of(sums)[1]))


@dataclass(frozen=True)
class R2:
    """The coefficient of determination of each output: 1 - sum of squared errors / sum of squared deviations."""

    kind: ClassVar[str] = "r2"
    needs_sample: ClassVar[bool] = True

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((NUMBERS,), self.kind, form)
        sums = VariationSums.around(form)
        return _fitted(self.kind, LARGER, form, sums, sums.r2)
