"""Top-k messages: the largest numbers are sent, and the others stay as residuals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.parallel.sums.top_k import Message, largest


def after(message, length):
    """Return a message as its receiver unpacks it."""
    piece = np.full(length, 7, np.float32)
    message.put(piece)
    return piece


@given(st.lists(st.floats(width=32), min_size=1, max_size=60), st.floats(0.001, 0.999))
def test_what_is_sent_and_what_stays_is_what_there_was(values, kept):
    there = np.array(values, np.float32)
    message, left = Message(len(there), kept), there.copy()
    message.take(left)
    sent, count = after(message, len(there)), max(1, round(kept * len(there)))
    taken = left.view(np.uint32) != there.view(np.uint32)
    np.testing.assert_array_equal(np.where(taken, sent, left).view(np.uint32), there.view(np.uint32))
    assert not left[taken].any()
    assert not sent[~taken & (there != 0)].any()
    assert np.count_nonzero(taken) <= count
    assert len(message.bytes) == 6 * count


def test_the_largest_are_sent_and_of_equal_ones_the_first():
    assert largest(np.array([1, -3, 2, 0, 3, -3], np.float32), 2).tolist() == [1, 4]
    assert largest(np.array([0, -0.0, 0, 0], np.float32), 3).tolist() == [0, 1, 2]
    assert largest(np.array([5, 5, 5], np.float32), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "mostly zeros", "whole", "large where the sample is"])
@pytest.mark.parametrize("count", [1, 50, 2000, 5000])
def test_the_largest_of_many_are_those_that_sorting_finds(kind, count):
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(5000)
    if kind == "heavy tails":
        numbers **= 5
    elif kind == "mostly zeros":
        numbers[rng.random(5000) < 0.99] = 0
    elif kind == "whole":
        numbers = np.rint(numbers)
    elif kind.startswith("large"):
        numbers[::31] += 100
    numbers = numbers.astype(np.float32)
    expected = np.sort(np.argsort(-np.abs(numbers), kind="stable")[:count])
    np.testing.assert_array_equal(largest(numbers, count), expected)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_sent_before_all_numbers(value):
    piece = np.full(1000, 3e38, np.float32)
    piece[700] = value
    message = Message(1000, 0.001)
    message.take(piece)
    assert np.isfinite(piece).all()
    np.testing.assert_array_equal(after(message, 1000)[700], np.float32(value))


def test_places_are_as_short_as_they_can_be():
    for length, place in ((1, 2), (1 << 16, 2), ((1 << 16) + 1, 4)):
        message = Message(length, 0.1)
        assert len(message.bytes) == (4 + place) * max(1, round(0.1 * length))
        piece = np.arange(length, dtype=np.float32)
        piece[-1] = 1e9
        message.take(piece)
        assert after(message, length)[-1] == 1e9
