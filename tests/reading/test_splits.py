"""Splits into training and validation examples."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.reading.order import Order
from dbp.reading.splits import MarkedRows, Split, mark, split

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=60).filter(lambda sizes: sum(sizes) > 9)


def numbered(size):
    return ArrayDataset(np.arange(size)[:, None], np.zeros(size))


def rows_of(subset):
    return subset.read(slice(0, len(subset))).inputs[:, 0]


def both(size, how, **options):
    return [rows_of(side) for side in split(numbered(size), how, 3, **options)]


def is_partition(sides, size):
    return sorted(np.concatenate(sides).tolist()) == list(range(size))


def test_single_rows_are_held_out_as_in_all_earlier_versions():
    train, validation = both(1797, Split(0.2))
    order = Order(1797, 3, "validation split")(np.arange(1797))
    np.testing.assert_array_equal(train, order[: 1797 - 359])
    np.testing.assert_array_equal(validation, order[1797 - 359 :])


@pytest.mark.parametrize("borders", [None, np.array([0, 1, 40, 40, 100, 160, 203])])
@pytest.mark.parametrize("take", ["random", "last", "stratified", "groups"])
def test_folds_part_all_rows_in_parts_of_almost_equal_size(take, borders):
    """Groups have one or two rows."""
    seen = []
    for fold in range(1, 6):
        how = Split(take=take, groups="g" if take == "groups" else None, folds=5, fold=fold)
        values = np.arange(203) // 2 * 7 % 101 if take == "groups" else np.arange(203) % 3
        held = mark(203, values, how, 3) if take in ("stratified", "groups") else None
        train, validation = both(203, how, borders=borders, held=held)
        assert is_partition([train, validation], 203)
        assert len(validation) in ((40, 41) if take != "groups" else range(38, 44))
        seen.append(validation)
    assert is_partition(seen, 203)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.floats(0.1, 0.9), st.integers(0, 100))
def test_each_chunk_is_split_in_the_same_proportion(sizes, part, seed):
    borders = np.cumsum([0, *sizes])
    train, validation = split(numbered(sum(sizes)), Split(part), seed, borders)
    rows = [rows_of(side) for side in (train, validation)]
    assert is_partition(rows, sum(sizes))
    assert len(validation) == round(sum(sizes) * part)
    for side, found, fraction in ((train, rows[0], 1 - part), (validation, rows[1], part)):
        assert (np.diff(found) > 0).all()
        for unit, size in enumerate(sizes):
            inside = found[side.borders[unit] : side.borders[unit + 1]]
            assert ((borders[unit] <= inside) & (inside < borders[unit + 1])).all()
            assert abs(len(inside) - size * fraction) < 2


def test_chunks_of_one_row_are_drawn_at_random():
    _, validation = both(1000, Split(0.25), borders=np.arange(1001))
    assert len(validation) == 250
    assert len(set(np.diff(validation).tolist())) > 5


def test_rows_are_found_in_any_order():
    train, validation = split(numbered(500), Split(0.3), 1, np.arange(0, 501, 50))
    for side in (train, validation):
        whole, some = rows_of(side), np.array([7, 100, 3, 7, len(side) - 1])
        np.testing.assert_array_equal(side.read(some).inputs[:, 0], whole[some])


def test_the_last_examples():
    train, validation = both(10, Split(0.2, "last"))
    assert (train.tolist(), validation.tolist()) == (list(range(8)), [8, 9])
    train, validation = split(numbered(10), Split(take="last", folds=5, fold=2), 0, np.array([0, 3, 6, 10]))
    assert rows_of(train).tolist() == [0, 1, 4, 5, 6, 7, 8, 9]
    assert train.borders.tolist() == [0, 2, 4, 8]
    assert validation.borders.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("borders", [None, np.arange(0, 1001, 100)])
def test_each_class_is_split_in_the_same_proportion(borders):
    classes = np.random.default_rng(0).choice(["ant", "bee", "cat"], 1000, p=[0.9, 0.08, 0.02])
    how = Split(0.3, "stratified")
    train, validation = both(1000, how, borders=borders, held=mark(1000, classes, how, 3))
    assert len(validation) == 300
    assert is_partition([train, validation], 1000)
    for one in ("ant", "bee", "cat"):
        assert abs((classes[validation] == one).sum() - 0.3 * (classes == one).sum()) <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.floats(0.2, 0.8), st.integers(0, 100))
def test_groups_stay_together(count, part, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, count, 400)
    how = Split(part, "groups", "subject")
    held = np.unpackbits(mark(400, groups, how, seed), count=400).astype(bool)
    assert not set(groups[held].tolist()) & set(groups[~held].tolist())
    assert abs(held.sum() - 400 * part) <= np.bincount(groups).max()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=1500))
def test_marked_rows_are_those_with_a_mark(marks):
    marked = np.flatnonzero(marks)
    rows = MarkedRows(np.packbits(marks), len(marks), np.array([0, len(marks) // 3, len(marks)]))
    np.testing.assert_array_equal(rows(np.arange(len(rows))), marked)
    assert rows.borders.tolist() == [0, sum(marks[: len(marks) // 3]), len(marked)]


@pytest.mark.parametrize(
    ("take", "expected"),
    [
        ("random", "85a17baa90353380c52a6e98b31bb74b"),
        ("stratified", "d3713d113c095436b86957a28d3be7ca"),
        ("groups", "81b0121eb47bcd8e345ff2f5c3b69374"),
    ],
)
def test_splits_are_those_of_all_earlier_versions(take, expected):
    how = Split(0.2, take, "g" if take == "groups" else None)
    held = None if take == "random" else mark(1797, np.arange(1797) // 9 % 50, how, 3)
    _, validation = both(1797, how, borders=np.array([*range(0, 1797, 64), 1797]), held=held)
    assert hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest()[:32] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "must have part, such as 0.2, or folds and fold"),
        ({"part": 0.2, "folds": 5, "fold": 1}, "leave the others out"),
        ({"folds": 5}, "folds 5 and fold None"),
        ({"folds": 5, "fold": 6}, "fold must be at most 5, but is 6"),
        ({"folds": 1, "fold": 1}, "folds must be at least 2"),
        ({"part": 1.0}, "part must be a fraction between 0 and 1, but is 1.0"),
        ({"part": 0.5, "take": "first"}, "take"),
        ({"part": 0.5, "take": "groups"}, "groups names the column"),
        ({"part": 0.5, "groups": "subject"}, "groups names the column"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Split(**settings)


@pytest.mark.parametrize("how", [Split(0.01), Split(0.99), Split(0.01, "last")])
def test_a_split_leaves_examples_on_both_sides(how):
    with pytest.raises(UserError, match="leaves no example on one side of 10"):
        split(numbered(10), how, 0)
