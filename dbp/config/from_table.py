"""Config files and their tables to Settings; every error names the key that is wrong."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dbp.config.config_file import check_not_in_folder, load_table
from dbp.config.custom_objects import CUSTOM, custom_code
from dbp.config.data import NAMES, PARTS, Data
from dbp.config.loss_table import read_loss
from dbp.config.model_table import as_table, read_model
from dbp.config.own_code import CODE, Own, with_own_code
from dbp.config.settings import SECTIONS, Settings
from dbp.errors import UserError, unknown, unknown_setting
from dbp.nn import FunctionLoss, Layer
from dbp.optim import OPTIMIZERS, SCHEDULES
from dbp.text import brief

Readers = Mapping[str, Callable[[Any, str], Any]]


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
                **dict.fromkeys(("threads", "batch_size", "weights", "frozen"), _as_given),
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
    """Return a section of the settings; what Data checks itself is given to it as it is."""
    unread = {*PARTS, *NAMES[:-1], "standardize"} if cls is Data else set()
    if isinstance(value, Mapping):
        unread |= {name for name in ("scale", "shift") if isinstance(value.get(name), Mapping)}  # by input or target
    return _record(cls, value, key, dict.fromkeys(unread, _as_given))


def _as_given(value: Any, _key: str) -> Any:
    return value


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
