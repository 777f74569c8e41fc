"""The rules that numbers in settings obey, each with one function and one message.

All take settings by name, such as check_positive(epsilon=self.epsilon), and raise UserError for the first that breaks
the rule; none accepts NaN or infinity, nor a whole number of more than 64 bits, which no config and no file can hold.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from dbp.errors import UserError
from dbp.text import brief

LARGEST = 2**63 - 1  # of whole numbers of 64 bits
UNITS = {"": 1} | {unit + i: (1024 if i else 1000) ** n for n, unit in enumerate("kmgt", 1) for i in ("", "i")}
BYTES_RULE = 'a number of bytes, or text such as "500 MB" or "2 GiB"'
MAX_CONFIG_BYTES = 1 << 22  # of a config, and of the one that a checkpoint stores
MAX_CONFIG_DEPTH = 50  # of nested tables and lists in them, and of the parts of a key


def check_at_least(least: int, **values: float) -> None:
    """Raise UserError unless all values are `least` or more, and finite."""
    for name, value in _numbers(values):
        _must(value >= least, name, f"at least {least}", value)
        _must(value < math.inf, name, "finite", value)
        _must(value <= LARGEST, name, "at most 2^63 - 1", value)


def check_positive(**values: float) -> None:
    """Raise UserError unless all values are positive and finite."""
    for name, value in _numbers(values):
        _must(0 < value < math.inf, name, "a positive number", value)


def check_not_negative(**values: float) -> None:
    """Raise UserError unless all values are 0 or positive, and finite."""
    for name, value in _numbers(values):
        _must(0 <= value < math.inf, name, "0 or a positive number", value)


def check_fraction(**values: float) -> None:
    """Raise UserError unless all values are at least 0 and below 1."""
    for name, value in _numbers(values):
        _must(0 <= value < 1, name, "at least 0 and below 1", value)


def check_from_0_to_1(**values: float) -> None:
    """Raise UserError unless all values are at least 0 and at most 1."""
    for name, value in _numbers(values):
        _must(0 <= value <= 1, name, "at least 0 and at most 1", value)


def check_between_0_and_1(**values: float) -> None:
    """Raise UserError unless all values are above 0 and below 1."""
    for name, value in _numbers(values):
        _must(0 < value < 1, name, "between 0 and 1", value)


def check_integer(name: str, value: Any, least: int, most: int = LARGEST) -> int:
    """Return an integer of Python or NumPy as one of Python; raise UserError if it is none, or not in these bounds."""
    _must(is_integer(value), name, "a whole number", value)
    check_at_least(least, **{name: value})
    _must(value <= most, name, f"at most {most:,}", value)
    return int(value)


def check_bytes(name: str, value: Any) -> int:
    """Return a number of bytes, given as such or as text with a unit; raise UserError if it is none."""
    if not isinstance(value, str):
        return check_integer(name, value, 1)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    unit = found[2].lower().removesuffix("b") if found else ""
    _must(found is not None and unit in UNITS, name, BYTES_RULE, value)
    assert found is not None
    return check_integer(name, int(float(found[1]) * UNITS[unit]), 1)


def check_takes(name: str, function: Callable[..., Any], *arguments: str) -> None:
    """Raise UserError if a function is known to take other arguments than so many by position.

    Args:
        name: of the setting.
        function: the function.
        arguments: their names, for the message.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # of some functions in C
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise UserError(f"{name} must be a function of {' and '.join(arguments)}, but takes {signature}") from None


def is_integer(value: Any) -> bool:
    """Return True for an integer of Python or NumPy."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values; raise UserError for one that is not a number."""
    for name, value in values.items():
        _must(isinstance(value, Real), name, "a number", value)
        yield name, value


def _must(holds: bool, name: str, rule: str, value: Any) -> None:
    if not holds:
        shown = value if isinstance(value, Real) and not isinstance(value, Integral) else brief(value)
        raise UserError(f"{name} must be {rule}, but is {shown}")
