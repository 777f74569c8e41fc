"""Settings to the table of a config that describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from dbp.config.config_file import Table
from dbp.config.custom_objects import CUSTOM
from dbp.config.loss_table import loss_table
from dbp.config.model_table import model_table
from dbp.config.own_code import CODE, folder_of, kind_of, kind_of_object, own_kinds
from dbp.config.settings import SECTIONS, Settings
from dbp.data import Dataset
from dbp.nn import LAYERS, LOSSES, FunctionLoss, Graph, JointLoss, Named, Sequential
from dbp.optim import OPTIMIZERS, SCHEDULES, ScheduleFunction
from dbp.reading.splits import Split


def table_from(settings: Settings) -> Table:
    """Return the table that describes settings in full; custom objects appear by name only."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    if settings.weights is not None:
        from dbp.config.initial_weights import InitialWeights  # which a run without them does not need

        values["weights"] = InitialWeights.of(settings.weights).as_value(CUSTOM)
    values["frozen"] = settings.frozen or None
    if settings.metrics is not None:
        values["metrics"] = _metric_values(settings.metrics)
    table = {name: _value(value) for name, value in values.items() if value is not None}
    if isinstance(settings.model, (Sequential, Graph)):  # the kind of a model by default
        del table["model"]["kind"]
    if kinds := own_kinds(table):
        table[CODE] = folder_of(kinds[0])
    return table


def _value(value: Any) -> Any:
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _value(item) for name, item in value.items()}
    if isinstance(value, (Sequential, Graph, Named)):
        return model_table(value, _value)
    if isinstance(value, JointLoss):
        return loss_table(value, _value)
    if type(value) in LOSSES.values() and not dataclasses.fields(value):
        return value.kind
    has_kind = _is_registered(type(value))
    if has_kind or type(value) in (*SECTIONS.values(), Split):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        kind = {"kind": value.kind} if has_kind else {}
        return kind | {name: _value(v) for name, v in fields.items() if v is not None}
    if isinstance(value, Dataset):
        return value.name
    return _own_value(value)


def _is_registered(part: type) -> bool:
    """Return True for a layer, a loss, an optimizer or a schedule that a config names by its kind; import no others."""
    kind = getattr(part, "kind", None)
    registries = (LAYERS, LOSSES, OPTIMIZERS, SCHEDULES)
    return isinstance(kind, str) and any(kind in kinds and kinds[kind] is part for kinds in registries)


def _own_value(value: Any) -> Any:
    """Return code of the user's by its kind, with the settings of a dataclass; by its name alone if it has no kind."""
    if isinstance(value, (FunctionLoss, ScheduleFunction)):
        means, value = getattr(value, "targets_are", ""), value.function
        if (kind := kind_of(value)) is not None:
            return {"kind": kind, "targets_are": means} if means else kind
    elif (kind := kind_of(value)) is not None:
        return {"kind": kind}
    elif dataclasses.is_dataclass(value) and (kind := kind_of(type(value))) is not None:
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"kind": kind} | {name: _value(v) for name, v in fields.items() if v is not None}
    return {CUSTOM: getattr(value, "__qualname__", type(value).__qualname__)}


def _metric_values(metrics: Any) -> Any:
    """Return metrics by their names or as tables, or those of each target by its name."""
    if isinstance(metrics, Mapping):
        return {name: _metric_values(of_target) for name, of_target in metrics.items()}
    return [_metric_value(metric) for metric in metrics]


def _metric_value(metric: Any) -> Any:
    """Return the name of a metric, or a table of its kind and settings; of one of the user's own, its kind or name."""
    from dbp.metrics.registry import METRICS

    if METRICS.get(metric.kind) is not type(metric):
        if (kind := kind_of_object(metric, getattr(metric, "sums", None))) is not None:
            return kind
        return _own_value(metric) if kind_of(type(metric)) else {CUSTOM: getattr(metric, "name", str(metric.kind))}
    settings = {f.name: _value(getattr(metric, f.name)) for f in dataclasses.fields(metric)}
    return {"kind": metric.kind, **settings} if settings else metric.kind
