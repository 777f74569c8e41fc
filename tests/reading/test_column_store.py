"""A column in memory: units in slots, each at its own offset, and single rows that are collected from units."""

from types import SimpleNamespace

import numpy as np
import pytest

from dbp.data import Ragged
from dbp.reading.column_store import ColumnStore, stored_forms

RNG = np.random.default_rng(2)
LENGTHS = np.array([3, 0, 5, 1, 2, 7, 4, 0, 6, 2])
FIXED = RNG.standard_normal((10, 2))
RAGGED = Ragged.of([RNG.integers(1, 9, (length, 2)) for length in LENGTHS])
BORDERS = np.array([0, 4, 5, 9, 10])
DATA = SimpleNamespace(columns={"fixed": FIXED, "ragged": RAGGED})
FORMS = stored_forms(DATA, BORDERS)
ROWS = {"fixed": lambda rows: FIXED[rows], "ragged": RAGGED.read}


def fill(store, name, unit, slot):
    """Write the rows of a unit to a slot, as files do."""
    first, stop = BORDERS[unit : unit + 2]
    if name == "fixed":
        store.unit(unit, slot)[...] = FIXED[first:stop]
    else:
        RAGGED.read_into(range(first, stop), store.unit(unit, slot))


def store_of(name, slots):
    form = FORMS[name]
    count = form.total if slots is None else slots * form.of_slot
    return ColumnStore(form, np.full((count, *form.shape), -1, form.dtype), slots is not None)


@pytest.mark.parametrize("name", FORMS)
def test_units_that_are_all_held_lie_at_their_own_offsets(name):
    store = store_of(name, None)
    for unit in (2, 0, 3, 1):
        fill(store, name, unit, unit)
    rows = np.array([9, 0, 5, 5, 1])
    np.testing.assert_array_equal(store.take(rows, rows, rows), ROWS[name](rows))


@pytest.mark.parametrize("name", FORMS)
def test_units_lie_in_any_slots(name):
    store, slots = store_of(name, 3), {0: 2, 2: 0, 3: 1}
    for unit, slot in slots.items():
        fill(store, name, unit, slot)
    rows = np.array([8, 0, 9, 5, 1])
    units = np.searchsorted(BORDERS, rows, side="right") - 1
    found = store.take(rows, units, np.array([slots[unit] for unit in units.tolist()]))
    np.testing.assert_array_equal(found, ROWS[name](rows))


@pytest.mark.parametrize("name", FORMS)
def test_rows_are_collected_from_units_one_after_the_other(name):
    store, wanted = store_of(name, 4), np.array([8, 2, 9, 0])  # at indices 0 to 3
    for unit in (3, 0, 2):
        fill(store, name, unit, 3)
        first, stop = BORDERS[unit : unit + 2]
        indices = np.flatnonzero((wanted >= first) & (wanted < stop))
        store.collect(wanted[indices], indices, unit, 3)
    np.testing.assert_array_equal(
        store.take_collected(wanted[[3, 1, 0]], np.array([3, 1, 0])), ROWS[name](wanted[[3, 1, 0]])
    )


def test_the_memory_of_a_column_follows_from_its_rows():
    fixed, ragged = FORMS["fixed"], FORMS["ragged"]
    assert (fixed.total, fixed.of_slot, fixed.of_row, fixed.element_bytes) == (10, 4, 1, 16)
    assert (ragged.total, ragged.of_slot, ragged.of_row, ragged.element_bytes) == (30, 17, 7, 16)
