"""Texts in the cells of a table as numbers and dates."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from dbp.types import Array

MISSING = frozenset(("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?"))  # texts that say that a value is
EXACT = 2**53  # up to here, float64 holds every integer
INFINITE = "infinite or too large for float64"  # what a number is that cannot be used
DAY = 86_400 * 10**6  # microseconds
ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d([.]\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")
OTHERS = {re.compile(r"\d{4}/\d\d?/\d\d?"): "%Y/%m/%d", re.compile(r"\d\d?[.]\d\d?[.]\d{4}"): "%d.%m.%Y"}


def number(cell: str) -> float:
    """Return the number in a cell, or inf; raise ValueError if it has none. Python's 1_000 is none, nor is NaN."""
    found = float(cell)
    if "_" in cell or found != found:
        raise ValueError("no number")
    return found


def finite_number(cell: str) -> float | None:
    """Return the number in a cell; None if it has none, or one that float64 cannot hold, such as inf and 1e400."""
    return found if is_number(cell) and math.isfinite(found := number(cell)) else None


def is_number(cell: str) -> bool:
    """Return True if a cell has a number."""
    try:
        number(cell)
    except ValueError:
        return False
    return True


def numbers(cells: Sequence[str]) -> Array | None:
    """Return the numbers in cells, or None unless each has a finite one."""
    try:
        found = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    return None if "_" in "".join(cells) or not np.isfinite(found).all() else found


def as_texts(values: Array) -> list[str]:
    """Return numbers or dates as texts; whole numbers without decimals, and an empty text for one that is missing."""
    is_date = values.dtype.kind == "M"
    empty = np.isnat(values) if is_date else np.isnan(values)
    texts = [str(one) if is_date or one % 1 else str(int(one)) for one in np.where(empty, values.dtype.type(0), values)]
    return ["" if lost else text for text, lost in zip(texts, empty, strict=True)]


def date(cell: str, pattern: str | None = None) -> int:
    """Return the microseconds from 1970, in UTC, of a date with or without a time of day.

    Args:
        cell: such as 2019-03-01, 2019-03-01 12:30, 2019/3/1 or 1.3.2019.
        pattern: how it is written instead, in the letters of strptime.

    Raises:
        ValueError: it is no date.
    """
    if pattern is None and ISO.fullmatch(cell):
        found = datetime.fromisoformat(cell)
    else:
        pattern = pattern or next((given for form, given in OTHERS.items() if form.fullmatch(cell)), None)
        if pattern is None:
            raise ValueError("it is written in no way that is known")
        found = datetime.strptime(cell, pattern)  # without a zone it counts as UTC
    found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    passed = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * 86_400 + passed.seconds) * 10**6 + passed.microseconds


def date_or_none(cell: str, pattern: str | None = None) -> int | None:
    """Return what date() does, or None."""
    try:
        return date(cell, pattern)
    except (ValueError, OverflowError):
        return None
