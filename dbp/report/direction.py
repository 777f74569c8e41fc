"""Whether larger values of a column of a run's history are the better ones, as its metrics say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbp.config.from_table import settings_from
from dbp.errors import UserError
from dbp.metrics.metric_set import VALIDATION
from dbp.metrics.registry import as_metrics, directions
from dbp.nn import JointLoss
from dbp.report.record import RunRecord


def larger_is_better(record: RunRecord, column: str) -> bool:
    """Return True if larger values of a column are better; of a metric that is code, as the run has chosen its best."""
    name, columns = column.removeprefix(VALIDATION), _columns(record)
    known = [metric for metric in columns if name == metric or name.startswith(f"{metric}_")]
    if known:
        return columns[max(known, key=len)]
    if column != record.best_by or column not in record.history.best:
        return False
    values = record.history.series[column].values
    return bool(record.history.best[column] > np.nanmin(values)) if np.isfinite(values).any() else False


def _columns(record: RunRecord) -> dict[str, bool]:
    """Return the columns of the metrics of a run; none if its config names code."""
    try:
        settings = settings_from(record.config)
    except UserError:
        return {}
    if not isinstance(settings.loss, JointLoss):
        return _of_target(settings.metrics, settings.loss)
    found: dict[str, bool] = {}
    for name, part in settings.loss.parts.items():
        given = settings.metrics
        chosen = given.get(name, ()) if isinstance(given, Mapping) else given
        found |= {f"{column}_{name}": better for column, better in _of_target(chosen, part.loss).items()}
    return found


def _of_target(metrics: Any, loss: Any) -> dict[str, bool]:
    """Return the columns of the metrics of one target; without metrics, of those that its loss reports."""
    return directions(as_metrics(loss.default_metrics) if metrics is None else metrics, loss)
