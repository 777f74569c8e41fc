"""Parse the config in a checkpoint, which may be malicious."""

from __future__ import annotations

import re
from typing import Any

from dbp.checks import MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH
from dbp.errors import DataError

MULTILINE_QUOTES = ('"""', "'''")  # which dbp never writes
STRINGS = re.compile(r"\"{3}|'{3}|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
# A key with so many parts that parsing it takes long.
LONG_KEY = re.compile(rf"(?:\.[^.,=\[\]{{}}\n]*){{{MAX_CONFIG_DEPTH}}}")


def table_of(config: str) -> dict[str, Any]:
    """Parse the config of a checkpoint; raise DataError if no run can have written it."""
    import tomllib  # only ranks that read a checkpoint need it

    if len(config.encode(errors="replace")) > MAX_CONFIG_BYTES:
        raise DataError(f"its config has more than {MAX_CONFIG_BYTES:,} bytes")
    try:
        if not set(MULTILINE_QUOTES).isdisjoint(STRINGS.findall(config)) or LONG_KEY.search(STRINGS.sub("", config)):
            raise DataError("its config has strings or keys that no run writes")
        table = tomllib.loads(config)
    except (ValueError, RecursionError) as error:
        raise DataError(f"its config is not valid ({error})") from None
    if _deeper(table, MAX_CONFIG_DEPTH):
        raise DataError(f"its config is nested more than {MAX_CONFIG_DEPTH} deep")
    return table


def _deeper(table: Any, levels: int) -> bool:
    """Return True if tables or lists are nested more than `levels` deep."""
    if not isinstance(table, (dict, list)):
        return False
    return levels == 0 or any(_deeper(x, levels - 1) for x in (table.values() if isinstance(table, dict) else table))
