"""Whether larger values of a column of a run's history are the better ones, as its metrics say."""

from __future__ import annotations

import numpy as np

from dbp.config import toml
from dbp.errors import UserError
from dbp.metrics.metric_set import VALIDATION
from dbp.metrics.registry import as_metrics, directions
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
        settings = toml.settings_from(record.config)
    except UserError:
        return {}
    chosen = as_metrics(settings.loss.default_metrics) if settings.metrics is None else settings.metrics
    return directions(chosen, settings.loss)
