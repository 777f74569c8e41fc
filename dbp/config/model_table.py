"""Models in configs: lists of layers, some with a name and the names of what they take, to objects and back."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

from dbp.config.own_code import Own
from dbp.errors import UserError, unknown, unknown_setting
from dbp.nn import LAYERS, Graph, Layer, Named, Sequential, model_of
from dbp.text import brief

# Returns an object from the kinds there are, its table, its key, and the readers of some of its settings.
KindReader = Callable[[Mapping[str, type[Any]], Any, str, Any], Any]
LISTS = (Sequential.kind, Graph.kind)  # kinds of tables with a list of layers
KEYS = ("layers", "outputs")  # of these tables
NAME, FROM = KEYS_OF_LAYER = ("name", "from")  # keys of any layer


def read_model(value: Any, key: str, read_kind: KindReader) -> Layer:
    """Return the model that a table describes; raise UserError, which names the key, if it is wrong.

    Args:
        value: the table.
        key: its key.
        read_kind: reads the table of a kind that is no list of layers.
    """
    table = as_table(value, key)
    if table.get("kind", Graph.kind) not in LISTS:
        return _layer(table, key, read_kind)
    for name in table:
        if name not in ("kind", *KEYS):
            raise unknown("key", f"{key}.{name}", [f"{key}.{known}" for known in KEYS])
    if not isinstance(table.get("layers"), list):
        raise UserError(f"{key}.layers must be a list of layers, such as [{{ kind = 'dense', units = 10 }}]")
    layers = _layers(table["layers"], f"{key}.layers", read_kind)
    try:
        return model_of(layers, table.get("outputs"))
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def as_table(value: Any, key: str) -> Mapping[str, Any]:
    """Return a table; UserError for anything else."""
    if not isinstance(value, Mapping):
        raise UserError(f"{key} must be a table, but is {brief(value)}")
    return value


def _layers(value: Any, key: str, read_kind: KindReader) -> tuple[Layer, ...]:
    """Return the layers in a list, some of which may contain layers themselves."""
    if not isinstance(value, list):
        raise UserError(f"{key} must be a list of layers, but is {brief(value)}")
    return tuple(_layer_in_list(layer, f"{key}.{i}", read_kind) for i, layer in enumerate(value))


def _layer_in_list(value: Any, key: str, read_kind: KindReader) -> Any:
    """Return a layer, with its name and what it takes, if its table has any."""
    table = dict(as_table(value, key))
    own = _settings_of(table.get("kind"))
    found = {name: table.pop(name) for name in KEYS_OF_LAYER if name in table and name not in (own or {})}
    for name in table:
        if own is not None and name not in (*own, "kind"):
            raise unknown_setting("key", f"{key}.{name}", [f"{key}.{known}" for known in (*own, *KEYS_OF_LAYER)])
    layer = read_model(table, key, read_kind) if table.get("kind") in LISTS else _layer(table, key, read_kind)
    if not found:
        return layer
    try:
        return Named(layer, found.get(NAME, ""), found.get(FROM, ()))
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _layer(table: Mapping[str, Any], key: str, read_kind: KindReader) -> Layer:
    are_counted = (_settings_of(table.get("kind")) or {}).get("layers") is int  # those that a layer stacks
    layers = lambda value, inner: _layers(value, inner, read_kind)  # noqa: E731
    return typing.cast(
        Layer, read_kind(LAYERS, table, key, {} if are_counted else {"layers": layers, "shortcut": layers})
    )


def _settings_of(kind: Any) -> dict[str, Any] | None:
    """Return the types of the settings of a kind of layer by name; None if they are not known."""
    found = kind.code if isinstance(kind, Own) else LAYERS.get(kind) if isinstance(kind, str) else None
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        return None
    types = typing.get_type_hints(found)
    return {field.name: types[field.name] for field in dataclasses.fields(found)}


def model_table(value: Sequential | Graph | Named, to_value: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the table of a list of layers, or of a layer with a name.

    Args:
        value: the layers or the layer.
        to_value: returns what stands in a config for a layer.
    """
    if isinstance(value, Named):
        taken = {} if value.from_ == () else {FROM: to_value(value.from_)}
        return {**to_value(value.layer), **({NAME: value.name} if value.name else {}), **taken}
    table = {"kind": value.kind, "layers": [to_value(layer) for layer in value.layers]}
    outputs = value.outputs if isinstance(value, Graph) else None
    return table if outputs is None else {**table, "outputs": dict(outputs)}
