"""The metrics that losses report by default: means over examples. A plain run loads no other metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff.pieces import PIECE, row_pieces
from dbp.autodiff.products import column_sum
from dbp.metrics.metric_set import LARGER, SMALLER, FittedMetric, mean_metric
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import ANSWERS, CLASSES, NUMBERS
from dbp.types import Array


@dataclass(frozen=True)
class Accuracy:
    """The share of predictions that are right, over all positions and outputs.

    With answers yes or no, an output counts as right on the target's side of one half, and each output has a column of
    its own besides.
    """

    kind: ClassVar[str] = "accuracy"

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        if form.kind == CLASSES:
            return [mean_metric(self.kind, LARGER, lambda found: found.right_classes)]
        mean = mean_metric(self.kind, LARGER, lambda found: found.right_answers)
        if form.kind == ANSWERS and form.count == 0:
            return [mean]
        from dbp.metrics.classes import accuracies_of_outputs
        from dbp.metrics.fitting import check_targets_are

        check_targets_are((CLASSES, ANSWERS), self.kind, form)
        return [mean, *accuracies_of_outputs(form)]


@dataclass(frozen=True)
class MeanAbsoluteError:
    """The mean absolute difference of outputs and targets, over all outputs in one number."""

    kind: ClassVar[str] = "mean_absolute_error"

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        if form.kind != NUMBERS:
            from dbp.metrics.fitting import check_targets_are

            check_targets_are((NUMBERS,), self.kind, form)
        return [mean_metric(self.kind, SMALLER, _absolute_error)]


def _absolute_error(found: Predictions) -> Array:
    """Return |output - target|, (examples, ...); averaged where elements share a weight, if there are many of them."""
    outputs, targets = found.outputs, found.targets
    axes = 1 if found.example_weights is None else found.example_weights.ndim
    if outputs.size <= PIECE or axes == outputs.ndim:
        return _distance(outputs, targets)
    count = math.prod(outputs.shape[axes:])
    sums = [
        column_sum(_distance(outputs[rows], targets[rows]).reshape(-1, count).T)
        for rows in row_pieces(len(outputs), outputs[0].size)
    ]
    return np.concatenate(sums).reshape(outputs.shape[:axes]) / count


def _distance(outputs: Array, targets: Array) -> Array:
    difference = np.asarray(outputs - targets)
    return np.asarray(np.abs(difference, out=difference))
