"""The sum of values by row, and the gradient of rows that are looked up."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.row_sums import MOST_ROUNDS, added_by_row

RNG = np.random.default_rng(0)
ENTRIES = 50


@pytest.mark.parametrize("units", [1, 7])
@pytest.mark.parametrize("places", [0, 1, 30, 40 * MOST_ROUNDS])
def test_values_are_added_by_row(places, units):
    numbers, values = RNG.integers(0, ENTRIES, places), RNG.standard_normal((places, units))
    numbers[places // 2 :] = 3  # more often than a row is added up beside others
    expected = np.zeros((ENTRIES, units))
    np.add.at(expected, numbers, values)
    rows, sums = added_by_row(numbers, values)
    np.testing.assert_array_equal(rows, np.unique(numbers))
    found = np.zeros((ENTRIES, units))
    found[rows] = sums
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_bits_of_a_row_do_not_depend_on_others():
    numbers, values = RNG.integers(0, ENTRIES, 3000), RNG.standard_normal((3000, 8)).astype(np.float32)
    numbers[::2] = numbers[::2] % 3
    for number, row in zip(*added_by_row(numbers, values), strict=True):
        _, alone = added_by_row(numbers[numbers == number], values[numbers == number])
        np.testing.assert_array_equal(alone[0], row)


@pytest.mark.parametrize("shape", [(ENTRIES,), (ENTRIES, 3), (ENTRIES, 2, 3)])
def test_the_gradient_of_looked_up_rows_is_their_sum(shape):
    numbers, g = RNG.integers(0, ENTRIES, (9, 40)), RNG.standard_normal((9, 40, *shape[1:]))
    expected = np.zeros(shape)
    np.add.at(expected, numbers, g)
    found = ad.gradient(lambda table: ad.sum_(ad.take(table, index=numbers) * g))(RNG.standard_normal(shape))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
