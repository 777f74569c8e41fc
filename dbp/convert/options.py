"""Parse what the command line says of columns: lists of names, pairs, and the rule for missing values."""

from __future__ import annotations

import csv
import math
import re

from dbp.convert.roles import RULES
from dbp.errors import UserError
from dbp.text import is_digits

MAX_PIXELS = 65_535  # along a side of an image


def names_in(option: str, text: str | None) -> list[str]:
    """Return the names in a text such as ant,bee; none for None.

    Args:
        option: the name of the option, for messages.
        text: names with commas between them; one that has a comma stands in quotes.

    Raises:
        UserError: they are not different names.
    """
    if text is None:
        return []
    names = [] if re.search("[\0\r\n]", text) else [name.strip() for name in next(csv.reader([text]), [])]
    if not names or len(set(names)) < len(names) or not all(names):
        raise UserError(f"{option} must be different names with commas between them, such as ant,bee, but is {text!r}")
    return names


def pair_in(option: str, text: str) -> tuple[str, str]:
    """Return name and value in a text such as name=value; raise UserError if it is none."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise UserError(f"{option} takes COLUMN=..., but is {text!r}")
    return name, value


def missing_rule(text: str | None) -> str | float | None:
    """Return a rule for missing values, or the number that stands for them; raise UserError for anything else."""
    if text is None or text in RULES:
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--missing takes {', '.join(RULES)} or a number, but is {text!r}")
    return value


def size_in(text: str) -> tuple[int, int]:
    """Return width and height in a text such as 32x48, or 32 for both; raise UserError for anything else."""
    words = text.lower().split("x")
    if len(words) > 2 or not all(is_digits(word) and 0 < int(word) <= MAX_PIXELS for word in words):
        raise UserError(
            f"--size takes width and height in pixels, at most {MAX_PIXELS:,}, such as 32x48, but is {text!r}"
        )
    return int(words[0]), int(words[-1])
