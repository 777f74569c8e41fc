"""Sums of rows of tables over shards: those of whole tables, along the same tree."""

import numpy as np
import pytest

from dbp.autodiff.row_sums import added_by_row
from dbp.parallel import Arena, Layout, OneProcess, Rows, RowSum, Shards, no_rows
from dbp.parallel.sums.row_sum import merged

RNG = np.random.default_rng(0)
ENTRIES = 50


def row_sum(shards, units, dtype):
    """Return a sum for tables with rows of these lengths, beside another parameter."""
    tables = {f"table {number}": (ENTRIES, u) for number, u in enumerate(units)}
    arena = Arena(OneProcess(), Layout.with_tables({"bias": (3,), **tables}, tables), dtype)
    return RowSum(arena, Shards(shards))


def rows_of(places, units, dtype=float):
    """Return the sums of random values of random rows."""
    values = RNG.standard_normal((places, units)).astype(dtype)
    return Rows(*added_by_row(RNG.integers(0, ENTRIES, places), values))


def table_of(rows, units):
    """Return a whole table with these rows, and zeros elsewhere."""
    table = np.zeros((ENTRIES, units), rows.values.dtype)
    table[rows.numbers] = rows.values
    return table


def test_merged_rows_are_the_sums_of_those_of_both_sides():
    left, right = rows_of(40, 3), rows_of(40, 3)
    found = merged(left, right)
    np.testing.assert_array_equal(found.numbers, np.union1d(left.numbers, right.numbers))
    np.testing.assert_array_equal(table_of(found, 3), table_of(left, 3) + table_of(right, 3))
    for one, other in ((left, no_rows(3, np.dtype(float))), (no_rows(3, np.dtype(float)), left)):
        np.testing.assert_array_equal(merged(one, other).numbers, left.numbers)
        np.testing.assert_array_equal(merged(one, other).values, left.values)


@pytest.mark.parametrize("shards", [1, 2, 5, 8])
def test_the_total_of_all_shards_is_that_of_whole_tables(shards):
    """The tree is that of the sums of whole vectors, so that the bits agree; an odd row length leaves a gap."""
    units, dtype = (3, 4), np.dtype(np.float32)
    parts = [[rows_of(count, u, dtype) for u in units] for count in RNG.integers(0, 60, shards)]
    total = row_sum(shards, units, dtype).total(parts, 4.0)
    assert total.finite
    for number, found in enumerate(total.rows):
        assert total.squares[number] == pytest.approx((found.values.astype(float) ** 2).sum())
        sums = [table_of(part[number], units[number]) for part in parts]
        while len(sums) > 1:  # level by level
            sums = [sum(sums[i + 1 : i + 2], sums[i]) for i in range(0, len(sums), 2)]
        np.testing.assert_array_equal(table_of(found, units[number]), sums[0] / 4)


def test_a_total_that_is_not_finite_is_noticed():
    rows = Rows(np.array([2, 5]), np.array([[1.0], [np.inf]]))
    assert not row_sum(1, (1,), np.dtype(float)).total([[rows]], 1.0).finite


def test_squares_larger_than_the_precision_are_added_up():
    rows = Rows(np.array([2]), np.array([[1.5e38, 2e38]], np.float32))
    total = row_sum(1, (2,), np.dtype(np.float32)).total([[rows]], 1.0)
    assert total.finite
    assert total.squares == [pytest.approx(2.5e38**2, rel=1e-6)]
