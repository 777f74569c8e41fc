"""Test arrays of one column without a name, and of several by name."""

import numpy as np
import pytest

from dbp.named_arrays import all_finite, as_dict, each, first_of, row_count, same_form, shapes_of, zeros_of


def test_an_array_and_arrays_by_name_are_handled_alike():
    one, several = np.ones((3, 2)), {"a": np.ones((3, 4, 5)), "b": np.ones(3)}
    assert (row_count(one), row_count(several)) == (3, 3)
    assert shapes_of(one) == (2,)
    assert shapes_of(several) == {"a": (4, 5), "b": ()}
    assert shapes_of(zeros_of(shapes_of(several), 7, "f4")) == shapes_of(several)
    assert zeros_of((2,), 7, "f4").shape == (7, 2)
    assert first_of(several) is several["a"]
    assert each(len, None) is None
    assert each(len, several) == {"a": 3, "b": 3}
    assert same_form(one, one)
    assert not same_form(one, several)
    assert not same_form(several, {"a": one})


def test_what_has_no_name_gets_one():
    assert as_dict({"a": 1}) == {"a": 1}
    assert as_dict(2) == {"": 2}
    assert as_dict(2, "inputs") == {"inputs": 2}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_numbers_that_are_not_finite_are_found_and_large_ones_are_not(dtype):
    largest = np.full((3, 5), np.finfo(dtype).max, dtype)
    assert all_finite(largest)
    assert all_finite(largest[:, ::2])
    for wrong in (np.nan, np.inf, -np.inf):
        changed = largest.copy()
        changed[1, 2] = wrong
        assert not all_finite(changed)
        assert not all_finite(changed[:, ::2])
    assert all_finite(np.arange(3))
