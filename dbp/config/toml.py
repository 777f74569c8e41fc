"""Tables as TOML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any


def to_toml(table: Mapping[str, Any]) -> str:
    """Return a table as TOML: plain values first, then one section per table."""
    lines = [f"{name} = {_toml(value)}" for name, value in table.items() if not isinstance(value, Mapping)]
    for name, section in table.items():
        if isinstance(section, Mapping):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def inline_toml(value: Any) -> str:
    """Return a value as TOML on one line."""
    return _toml(value, inner=True)


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
