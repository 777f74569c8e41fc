"""Tables of a config to Settings and back to TOML; every error names the key that is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dbp.config.config_file import Table, check_not_in_folder, load_table
from dbp.config.data import NAMES, PARTS, Data
from dbp.config.loss_table import loss_table, read_loss
from dbp.config.model_table import as_table, model_table, read_model
from dbp.config.own_code import CODE, Own, folder_of, kind_of, kind_of_object, own_kinds, with_own_code
from dbp.config.settings import SECTIONS, Settings
from dbp.data import Dataset
from dbp.errors import UserError, unknown, unknown_setting
from dbp.nn import LAYERS, LOSSES, FunctionLoss, Graph, JointLoss, Layer, Named, Sequential
from dbp.optim import OPTIMIZERS, SCHEDULES, ScheduleFunction
from dbp.reading.splits import Split
from dbp.text import brief

Readers = Mapping[str, Callable[[Any, str], Any]]
CUSTOM = "custom"  # key of the name of a custom object, which a config cannot hold


def read_run_settings(path: Path, changes: list[str], out: str | None = None) -> Settings:
    """Return the settings of a run that is to begin; see read_settings().

    Raises:
        UserError: the config has a mistake, or lies in the run's folder, where the run would write over it.
    """
    settings = read_settings(path, changes, out)
    if settings.out is not None:
        check_not_in_folder(path, Path(settings.out))
    return settings


def read_settings(path: Path, changes: list[str], out: str | None = None) -> Settings:
    """Return the settings in a config file, with changes; see load_table().

    Raises:
        UserError: the config has a mistake.
    """
    return settings_of_config(path, load_table(path, changes, out))


def settings_of_config(path: Path, table: Mapping[str, Any]) -> Settings:
    """Return the settings in the table of a config file; raise UserError, which names the file, for a mistake."""
    try:
        return settings_from(table, Path(table[CODE]) if CODE in table else None)
    except UserError as error:
        raise UserError(f"config {path}: {error}") from None


# --- tables to objects ------------------------------------------------------------------------------


def settings_from(table: Mapping[str, Any], code: Path | None = None) -> Settings:
    """Return the settings that a table describes; raise UserError, which names the key, if it is wrong.

    Args:
        table: as a config has it.
        code: the folder of Python files that the user has asked for; None for none.
    """
    return typing.cast(
        Settings,
        _record(
            Settings,
            with_own_code(table, code),
            "",
            {
                "model": _model,
                "loss": _loss,
                "optimizer": lambda value, key: _named(OPTIMIZERS, value, key),
                "schedule": lambda value, key: _named(SCHEDULES, value, key),
                "metrics": _metrics,
                **{name: partial(_section, section) for name, section in SECTIONS.items()},
                # Numbers, words or tables, which Settings checks.
                **dict.fromkeys(("threads", "batch_size", "weights", "frozen"), lambda value, key: value),
            },
        ),
    )


def _loss(value: Any, key: str) -> Any:
    return read_loss(value, key, _named, (CUSTOM,))


def _metrics(value: Any, key: str) -> Any:
    """Return the metrics in a list of names and tables, or such lists by the names of targets."""
    if isinstance(value, Mapping):
        return {name: _metrics(metrics, f"{key}.{name}") for name, metrics in value.items()}
    from dbp.metrics.registry import METRICS

    if not isinstance(value, list):
        raise UserError(f"{key} must be a list of names and tables of metrics, but is {brief(value)}")
    for number, metric in enumerate(value):
        if not isinstance(metric, (str, Mapping)):
            raise UserError(f"{key}.{number} must be the name of a metric, or a table, but is {brief(metric)}")
        if (code := custom_code(metric)) is not None:
            raise UserError(
                f"{key}.{number} is the Python code {code!r}, which a config cannot name; give it to dbp.fit, or leave "
                "it out"
            )
    return [_named(METRICS, metric, f"{key}.{i}") for i, metric in enumerate(value)]


def _section(cls: type[Any], value: Any, key: str) -> Any:
    sources = dict.fromkeys((*PARTS, *NAMES[:-1], "standardize"), lambda given, _: given)  # which Data checks
    if cls is not Data:
        sources = {}
    for name in ("scale", "shift"):  # tables by name too
        if isinstance(value, Mapping) and isinstance(value.get(name), Mapping):
            sources[name] = lambda given, _: given
    return _record(cls, value, key, sources)


def model_from(table: Mapping[str, Any], code: Path | None = None) -> Layer:
    """Return the model alone of a table, whose other parts may hold custom objects; see settings_from()."""
    return _model(with_own_code({"model": table["model"]}, code)["model"], "model")


def loss_from(value: Any) -> Any:
    """Return the loss alone of a table, or the JointLoss of those of several targets."""
    return _loss(value, "loss")


def data_from(table: Mapping[str, Any]) -> Data:
    """Return the data settings alone of a table."""
    return typing.cast(Data, _section(Data, table["data"], "data"))


def _model(value: Any, key: str) -> Layer:
    return read_model(value, key, _named)


def _named(kinds: Mapping[str, type[Any]], value: Any, key: str, readers: Readers | None = None) -> Any:
    """Return an object of the kind that its table names, or that a text is the name of."""
    table = dict(as_table({"kind": value} if isinstance(value, str) else value, key))
    if "kind" not in table:
        raise UserError(f"{key} needs a kind; valid: {', '.join(sorted(kinds))}")
    kind = table.pop("kind")
    if isinstance(kind, Own):
        return _own(kind, table, key, readers or {})
    if not isinstance(kind, str) or kind not in kinds:
        raise unknown(f"{key} kind", kind, kinds)
    return _record(kinds[kind], table, key, readers or {})


def _own(own: Own, table: Mapping[str, Any], key: str, readers: Readers) -> Any:
    """Return an object of a class of the user's, given its settings; anything else as it is."""
    if dataclasses.is_dataclass(own.code) and isinstance(own.code, type):
        return _record(own.code, table, key, readers)
    if isinstance(own.code, type):
        try:
            return own.code(**table)
        except TypeError as error:
            raise UserError(f"{key} {own.kind!r}: {error}") from None
    if set(table) == {"targets_are"} and key.partition(".")[0] == "loss":
        return FunctionLoss(own.code, table["targets_are"])
    if table:
        raise UserError(f"{key}.{next(iter(table))}: {own.kind} is no class, so it takes no settings")
    return own.code


def _record(cls: type[Any], value: Any, key: str, readers: Readers) -> Any:
    """Return a dataclass from a table of its fields; a field with a reader is read by it."""
    import msgspec

    table, prefix = as_table(value, key), f"{key}." if key else ""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in table:
        if name not in fields:
            raise unknown_setting("key", f"{prefix}{name}", [prefix + f for f in fields])
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in table and not optional:
            raise UserError(f"{prefix}{name} is missing; {cls.__name__} needs it")
    types = typing.get_type_hints(cls)
    values = {}
    for name, given in table.items():
        try:
            if name in readers:
                values[name] = readers[name](given, prefix + name)
            else:
                values[name] = msgspec.convert(given, _plain(types[name]))
        except msgspec.ValidationError as error:
            raise UserError(f"{prefix}{name} {_rule(error)}, but is {brief(given)}") from None
    try:
        return cls(**values)
    except UserError as error:
        named = key and cls not in SECTIONS.values()  # sections name their keys themselves
        raise UserError(f"{key}: {error}" if named else str(error)) from None


def _rule(error: Exception) -> str:
    """Return the rule, in plain words, of a message such as: Expected `int | null`, got `str`."""
    rule = str(error).split(", got")[0].removeprefix("Expected ").replace("`", "")
    for word, plain in {
        "array": "a list",
        "int": "a whole number",
        "float": "a number",
        "str": "text",
        "bool": "true or false",
        "object": "a table",
    }.items():
        rule = rule.replace(word, plain)
    whole = "must have values that are each " if " - at `$" in str(error) else "must be "
    return whole + rule.replace(" | null", "").replace(" | ", " or ")


def _plain(annotation: Any) -> Any:
    """Return the part of a type that a config can express."""
    alternatives = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    options = typing.get_args(annotation) if alternatives else ()
    plain = [
        t
        for t in options
        if t in (int, float, str, bool, type(None)) or {int, float} & {*_parts(t)} or t == Mapping[str, str]
    ]
    return typing.Union[tuple(plain)] if plain else annotation  # noqa: UP007


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return the types in the innermost lists of a type."""
    inner = typing.get_args(annotation)
    return _parts(inner[0]) if inner and typing.get_args(inner[0]) else inner


# --- objects to tables ------------------------------------------------------------------------------


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


def custom_code(value: Any) -> str | None:
    """Return the name of the first custom object in a table; None if there is none."""
    if isinstance(value, Mapping) and CUSTOM in value:
        return str(value[CUSTOM])
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((code for item in inner if (code := custom_code(item)) is not None), None)


def take_own_metrics(table: Table) -> list[str]:
    """Take the metrics out of a table that are code of the user, which no config can name; return their names."""
    metrics = table.get("metrics", [])
    if isinstance(metrics, Mapping):
        tables: dict[str, Table] = {name: {"metrics": of_target} for name, of_target in metrics.items()}
        names = [one for of_target in tables.values() for one in take_own_metrics(of_target)]
        table["metrics"] = {name: of_target["metrics"] for name, of_target in tables.items()}
        return names
    own = {str(code): metric for metric in metrics if (code := custom_code(metric)) is not None}
    if own:
        table["metrics"] = [metric for metric in metrics if metric not in own.values()]
    return [*own]


def to_toml(table: Mapping[str, Any]) -> str:
    """Return a table as TOML: plain values first, then one section per table."""
    lines = [f"{name} = {_toml(value)}" for name, value in table.items() if not isinstance(value, Mapping)]
    for name, section in table.items():
        if isinstance(section, Mapping):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any, inner: bool = False) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(v, inner=True)}" for key, v in value.items()) + " }"
    if isinstance(value, list) and not inner and any(isinstance(v, Mapping) for v in value):
        return "[\n" + "".join(f"    {_toml(v)},\n" for v in value) + "]"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v, inner=True) for v in value) + "]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value) if not isinstance(value, float) or math.isfinite(value) else str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(text: str) -> str:
    """Return a text in quotes: JSON's escapes are TOML's, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys at which two tables differ, each with a line about it."""
    old, new = flatten(stored), flatten(now)
    return {
        key: f"{key}: {old.get(key, 'not set')!r} in the checkpoint, {new.get(key, 'not set')!r} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    }


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables and lists by the full names of their keys, such as model.layers.0.units."""
    if prefix == "metrics" and isinstance(value, list):  # one setting, as the place of a metric says nothing
        return {prefix: _toml(value, inner=True)}
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, f"{prefix}.{key}" if prefix else key)
    return flat
