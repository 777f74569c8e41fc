"""The metrics by the names of their kinds, and metrics as settings give them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from dbp.errors import UserError, unknown
from dbp.metrics.classes import F1, BalancedAccuracy, ConfusionMatrix, Precision, Recall
from dbp.metrics.fitting import MOST_COLUMNS
from dbp.metrics.means import Accuracy, MeanAbsoluteError
from dbp.metrics.metric_set import MetricKind, MetricSet
from dbp.metrics.numbers import MAE, MSE, R2, RMSE
from dbp.metrics.own import Metric
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.metrics.rankings import AUC, AveragePrecision
from dbp.metrics.scores import LogLoss, TopK
from dbp.nn import JointLoss, Loss
from dbp.text import brief

METRICS: dict[str, type[Any]] = {
    metric.kind: metric
    for metric in (
        Accuracy,
        BalancedAccuracy,
        Precision,
        Recall,
        F1,
        TopK,
        LogLoss,
        ConfusionMatrix,
        AUC,
        AveragePrecision,
        R2,
        RMSE,
        MAE,
        MSE,
        MeanAbsoluteError,
    )
}


def as_metrics(given: Any) -> tuple[MetricKind, ...]:
    """Return metrics, given one or a list of them, each as itself, its name, or a table with `kind` and settings.

    Raises:
        UserError: one is not known, or given twice.
    """
    several = given if isinstance(given, (list, tuple)) else [given]
    found = tuple(as_metric(one) for one in several)
    for number, metric in enumerate(found):
        if metric in found[:number]:
            raise UserError(f"metrics has {metric.kind!r} twice; leave one out")
    return found


def metrics_for(given: Any, loss: Any) -> Any:
    """Return metrics as as_metrics() does, or a list of them for each of several targets by name.

    Args:
        given: one or a list of them, or a mapping from the names of targets to such.
        loss: of the run.

    Raises:
        UserError: one is not known, or given twice, or the loss has no target of this name.
    """
    if not isinstance(given, Mapping) or "kind" in given:
        return as_metrics(given)
    for name in given:
        if isinstance(loss, JointLoss) and name not in loss.parts:
            raise unknown("target of metrics", name, loss.parts)
    return {name: as_metrics(metrics) for name, metrics in given.items()}


def directions(metrics: Sequence[MetricKind], loss: Loss) -> dict[str, bool]:
    """Return the columns of metrics before they are fitted to data, each with whether a larger value is better.

    The columns of single classes and outputs, which begin with those of their metric and an underscore, are not named.
    """
    kind, count = getattr(loss, "targets_are", ""), MOST_COLUMNS + 1  # so many that none has a column of its own
    zeros = np.zeros((1, count))
    form = TargetForm(loss.kind, kind, count, sample=Predictions(zeros, zeros))
    found: dict[str, bool] = {}
    for metric in metrics:
        if isinstance(metric, Metric):
            found[metric.name] = metric.larger_is_better
        else:
            with contextlib.suppress(UserError):  # it does not fit so many classes, or the loss
                found |= MetricSet.of([metric], form).columns
    return found


def as_metric(given: Any) -> MetricKind:
    """Return a metric, given itself, its name, or a table; UserError for anything else."""
    if isinstance(given, str):
        given = {"kind": given}
    if isinstance(given, Mapping):
        settings = dict(given)
        kind = settings.pop("kind", None)
        if not isinstance(kind, str) or kind not in METRICS:
            raise unknown("metric", kind, METRICS)
        known = [field.name for field in dataclasses.fields(METRICS[kind])]
        for name in settings:
            if name not in known:
                raise unknown(f"setting of metric {kind!r}:", name, known)
        return cast(MetricKind, METRICS[kind](**settings))
    if isinstance(given, type) or not (hasattr(given, "kind") and callable(getattr(given, "fit", None))):
        raise UserError(
            f"a metric must be a name ({', '.join(METRICS)}), a table with its kind, or a dbp.metrics.Metric(name, "
            f"sums, value, larger_is_better), but is {brief(given)}"
        )
    return cast(MetricKind, given)
