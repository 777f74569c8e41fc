"""Metrics that are means over examples, and that no loss reports by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import log_softmax, softplus
from dbp.checks import check_integer
from dbp.errors import UserError
from dbp.metrics.fitting import check_targets_are
from dbp.metrics.metric_set import LARGER, SMALLER, FittedMetric, mean_metric
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.nn import ANSWERS, CLASSES
from dbp.types import Array


@dataclass(frozen=True)
class TopK:
    """The share of examples whose class is among the k with the largest outputs."""

    kind: ClassVar[str] = "top_k"
    k: int = 5

    def __post_init__(self) -> None:
        check_integer("k", self.k, 1)

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((CLASSES,), self.kind, form)
        if self.k >= form.count:
            raise UserError(
                f"metric {self.kind!r}: k must be below the number of classes, {form.count}, as any prediction is "
                f"among all of them, but is {self.k}"
            )
        return [mean_metric(f"top_{self.k}", LARGER, self._hits)]

    def _hits(self, found: Predictions) -> Array:
        """Return where fewer than k outputs are larger than that of the target's class."""
        return np.asarray(found.positions_in_order < self.k)


@dataclass(frozen=True)
class LogLoss:
    """The negative logarithm of the probability of the target, whatever loss the model is trained with.

    Of targets that are probabilities it is the mean of theirs. With answers yes or no it is the mean over the outputs.
    """

    kind: ClassVar[str] = "log_loss"

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run; see MetricKind."""
        check_targets_are((CLASSES, ANSWERS), self.kind, form)
        return [mean_metric(self.kind, SMALLER, _of_classes if form.kind == CLASSES else _of_answers)]


def _of_classes(found: Predictions) -> Array:
    if found.targets.ndim == found.outputs.ndim:
        return np.asarray(-np.sum(log_softmax(found.outputs) * found.targets, axis=-1))
    shifted = found.outputs - found.largest[..., None]
    logarithms = np.log(np.add.reduce(np.exp(shifted), axis=-1))
    return np.asarray(logarithms + (found.largest - found.of_target_class))


def _of_answers(found: Predictions) -> Array:
    return np.asarray(softplus(found.outputs) - found.outputs * found.targets)
