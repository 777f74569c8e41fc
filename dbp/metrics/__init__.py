"""Metrics: what a run reports beside its cost, exact over ranks, weights and masks.

To add a metric:

1. Write a frozen dataclass with a `kind` and a method `fit`, see MetricKind in metric_set.py, beside those of its
   family: classes.py, numbers.py (regression), scores.py (means over examples), rankings.py (what needs all outputs). A
   mean of one number for each example takes one line, mean_metric(); other sums over examples are a class of Sums.
2. List the class in METRICS in registry.py, and in this file.
3. Compare it with scikit-learn in tests/metrics, with weights and positions, and describe it in docs/metrics.md.

The columns of the history have the names that `fit` gives, for validation data with "validation_" in front. Modules are
loaded when they are first used, as a run with the metrics of its loss needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbp import lazy

if TYPE_CHECKING:
    from dbp.metrics.classes import F1, BalancedAccuracy, ConfusionMatrix, Precision, Recall
    from dbp.metrics.means import Accuracy, MeanAbsoluteError
    from dbp.metrics.metric_set import MetricSet
    from dbp.metrics.numbers import MAE, MSE, R2, RMSE
    from dbp.metrics.own import Metric
    from dbp.metrics.predictions import Predictions, TargetForm
    from dbp.metrics.rankings import AUC, AveragePrecision
    from dbp.metrics.registry import METRICS, as_metrics
    from dbp.metrics.scores import LogLoss, TopK

_HOMES = {
    **dict.fromkeys(("F1", "BalancedAccuracy", "ConfusionMatrix", "Precision", "Recall"), "classes"),
    **dict.fromkeys(("Accuracy", "MeanAbsoluteError"), "means"),
    **dict.fromkeys(("MAE", "MSE", "R2", "RMSE"), "numbers"),
    **dict.fromkeys(("Predictions", "TargetForm"), "predictions"),
    **dict.fromkeys(("AUC", "AveragePrecision"), "rankings"),
    **dict.fromkeys(("METRICS", "as_metrics"), "registry"),
    **dict.fromkeys(("LogLoss", "TopK"), "scores"),
    "Metric": "own",
    "MetricSet": "metric_set",
}

__all__ = [
    "AUC",
    "F1",
    "MAE",
    "METRICS",
    "MSE",
    "R2",
    "RMSE",
    "Accuracy",
    "AveragePrecision",
    "BalancedAccuracy",
    "ConfusionMatrix",
    "LogLoss",
    "MeanAbsoluteError",
    "Metric",
    "MetricSet",
    "Precision",
    "Predictions",
    "Recall",
    "TargetForm",
    "TopK",
    "as_metrics",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        return lazy.attribute(__name__, _HOMES, name)
