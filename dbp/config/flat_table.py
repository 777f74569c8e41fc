"""Tables by the full names of their keys, such as model.layers.0.units, by which two tables are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbp.config.toml import inline_toml


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
    if prefix == "metrics" and isinstance(value, list):  # one setting, as the index of a metric says nothing
        return {prefix: inline_toml(value)}
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
