"""The config that a checkpoint holds, which may have been made to do harm, as a table."""

from __future__ import annotations

import re
from typing import Any

from dbp.errors import DataError

DEEPEST = 50  # tables and lists within one another, and parts of a key
LONG_STRINGS = ('"""', "'''")  # which dbp never writes
STRINGS = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
LONG_KEY = re.compile(rf"(?:\.[^.,=\[\]{{}}\n]*){{{DEEPEST}}}")  # what a parser takes long for


def table_of(config: str) -> dict[str, Any]:
    """The config of a checkpoint as a table; DataError if it is not one that a run has written."""
    import tomllib  # by who has a checkpoint to read, which most ranks have not

    try:
        if any(mark in config for mark in LONG_STRINGS) or LONG_KEY.search(STRINGS.sub("", config)):
            raise DataError("its config has strings or keys that no run writes")
        table = tomllib.loads(config)
    except (ValueError, RecursionError) as error:
        raise DataError(f"its config is not valid ({error})") from None
    if _deeper(table, DEEPEST):
        raise DataError(f"its config is nested more than {DEEPEST} deep")
    return table


def _deeper(table: Any, levels: int) -> bool:
    """Whether tables or lists lie in one another more than so many deep."""
    if not isinstance(table, (dict, list)):
        return False
    return levels == 0 or any(_deeper(x, levels - 1) for x in (table.values() if isinstance(table, dict) else table))
