"""Draws in proportion to weights."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import UserError
from dbp.reading.draws import DrawnChunkOrder, DrawnOrder, Draws, ends_of

WEIGHTS = st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.7, 20.0]), min_size=1, max_size=200).filter(any)


@settings(max_examples=80, deadline=None)
@given(WEIGHTS, st.integers(0, 2**63), st.integers(0, 1000))
def test_each_row_is_drawn_as_often_as_its_share_says(weights, seed, epoch):
    size = len(weights)
    rows = DrawnOrder(Draws(ends_of(np.array(weights), "w"), seed, epoch), size, seed, epoch)(np.arange(size))
    counts = np.bincount(rows, minlength=size)
    shares = np.array(weights) / sum(weights) * size
    assert (np.abs(counts - shares) < 1 + 1e-9).all()
    assert not counts[shares == 0].any()


@settings(max_examples=80, deadline=None)
@given(WEIGHTS, st.integers(1, 50), st.integers(1, 100), st.integers(0, 100))
def test_draws_of_chunks_lie_in_their_windows(weights, chunk, window, seed):
    size, borders = len(weights), np.append(np.arange(0, len(weights), chunk), len(weights))
    draws = Draws(ends_of(np.array(weights), "w"), seed, 2)
    order = DrawnChunkOrder(draws, borders, window, seed, 2)
    rows = order(np.arange(size))
    assert sorted(rows.tolist()) == draws(np.arange(size)).tolist()
    units_of_windows = np.split(order.units, np.cumsum(order.unit_counts)[:-1])
    for number in range(order.windows):
        used = set((rows[order.positions_in(number)] // chunk).tolist())
        assert used == set(units_of_windows[number].tolist())


def test_draws_change_with_the_epoch():
    ends = ends_of(np.arange(1, 101), "w")
    first, second = (np.bincount(Draws(ends, 0, epoch)(np.arange(100)), minlength=100) for epoch in range(2))
    assert (first != second).any()


def test_draws_are_those_of_all_earlier_versions():
    ends = ends_of(np.arange(1797) % 7, "w")
    rows = DrawnOrder(Draws(ends, 3, 1), 1797, 3, 1)(np.arange(1797))
    assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:32] == "200aca9881039bd17bf93ca7c6e4a89a"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -2.0], "finite and not negative, but that of example 1 is -2.0"),
        ([np.nan], "finite and not negative"),
        ([0.0, 0.0], "a finite sum above 0, but it is 0.0"),
        ([[1.0]], r"one number per example, but has type float64 and shape \(1, 1\)"),
        (["a"], "one number per example"),
    ],
)
def test_what_is_no_weight_is_refused(weights, message):
    with pytest.raises(UserError, match=message):
        ends_of(np.array(weights), "the column")
