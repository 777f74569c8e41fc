"""The rules of numbers: what each accepts, and the one message that it has."""

import math

import numpy as np
import pytest

from dbp import checks
from dbp.errors import UserError

RULES = {
    checks.check_positive: ((1e-300, 3), (0, -1.0, math.inf), "a positive number"),
    checks.check_not_negative: ((0, 3.5), (-1e-300, math.inf), "0 or a positive number"),
    checks.check_fraction: ((0, 0.999), (1, -0.1), "at least 0 and below 1"),
    checks.check_from_0_to_1: ((0, 1), (1.1, -0.1), "at least 0 and at most 1"),
    checks.check_between_0_and_1: ((0.1, 0.999), (0, 1), "between 0 and 1"),
}


@pytest.mark.parametrize("check", RULES)
def test_a_rule_of_numbers(check):
    valid, invalid, rule = RULES[check]
    for value in valid:
        check(x=value)
    for value in ("3", None):
        with pytest.raises(UserError, match=f"^x must be a number, but is {value!r}$"):
            check(x=value)
    for value in (*invalid, math.nan):
        with pytest.raises(UserError, match=f"^y must be {rule}, but is {value}$"):
            check(x=valid[0], y=value)


def test_a_least_value():
    checks.check_at_least(1, x=1, y=2.5)
    with pytest.raises(UserError, match=r"^epochs must be at least 1, but is 0$"):
        checks.check_at_least(1, epochs=0)
    with pytest.raises(UserError, match=r"^epochs must be at least 1, but is nan$"):
        checks.check_at_least(1, epochs=math.nan)


def test_integers():
    found = checks.check_integer("units", np.int16(3), 1)
    assert (found, type(found)) == (3, int)
    for value in (3.0, "3", True, None, np.True_):
        with pytest.raises(UserError, match=r"^units must be a whole number, but is "):
            checks.check_integer("units", value, 1)
    with pytest.raises(UserError, match=r"^units must be at least 1, but is 0$"):
        checks.check_integer("units", 0, 1)


def test_bytes():
    for given, found in ((5, 5), ("5", 5), ("2 GB", 2 * 10**9), ("1.5MiB", 3 << 19), ("3k", 3000), (" 7 b ", 7)):
        assert checks.check_bytes("memory", given) == found
    for value in ("two", "2 XB", "-1 MB", "nan", "", None, True, 2.5, 0, "0 GB", -1, "1e999", "9999999999 TB"):
        with pytest.raises(UserError, match=r"^memory must be "):
            checks.check_bytes("memory", value)
