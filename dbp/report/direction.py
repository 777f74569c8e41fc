"""Whether larger values of a column of a run's history are the better ones, as its metrics say."""

from __future__ import annotations

import contextlib

import numpy as np

from dbp.config import toml
from dbp.data import FLOATS, ColumnMeaning
from dbp.errors import UserError
from dbp.metrics import as_metrics
from dbp.metrics.metric_set import VALIDATION, MetricSet
from dbp.metrics.predictions import TargetForm
from dbp.report.record import RunRecord

MANY = 1 << 8  # classes, where their number is not known


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
        kinds = settings.metrics or as_metrics(list(getattr(settings.loss, "default_metrics", ())))
    except UserError:
        return {}
    targets = record.meaning.get("targets", ColumnMeaning(FLOATS))
    names = targets.names or targets.classes or ()
    found: dict[str, bool] = {}
    form = TargetForm.of(settings.loss, (len(names) or MANY,), targets)
    for kind in kinds:
        with contextlib.suppress(UserError):  # it does not fit so many classes
            found |= MetricSet.of([kind], form).columns
    return found
