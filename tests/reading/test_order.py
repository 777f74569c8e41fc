"""The order of examples: permutations by seed, purpose and epoch, and mini-batches of them."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.reading.order import Batches, ChunkOrder, Order


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 1000))
def test_an_order_is_a_permutation(size, seed, epoch):
    rows = Order(size, seed, "order", epoch)(np.arange(size))
    assert sorted(rows.tolist()) == list(range(size))


def test_an_order_depends_on_seed_purpose_and_epoch():
    orders = [Order(500, *key)(np.arange(500)) for key in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))]
    for i, one in enumerate(orders):
        for other in orders[i + 1 :]:
            assert (one == other).mean() < 0.05
    np.testing.assert_array_equal(orders[0], Order(500, 0, "a", 0)(np.arange(500)))


def test_every_row_comes_to_every_position_equally_often():
    """Chi-squared over 400 orders of 16 has 225 degrees of freedom: 330 is five standard deviations out."""
    counts = np.zeros((16, 16))
    for seed in range(400):
        counts[np.arange(16), Order(16, seed, "order")(np.arange(16))] += 1
    assert ((counts - 25) ** 2 / 25).sum() < 330


def test_neighbors_are_torn_apart():
    rows = Order(60000, 0, "order")(np.arange(60000))
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(rows, np.arange(60000))[0, 1]) < 0.02


def test_runs_of_positions_read_ahead_the_same_rows():
    order, again = Order(100000, 0, "order"), Order(100000, 0, "order")
    whole = order(np.arange(100000))
    for start, stop in [(0, 10), (10, 64), (5, 70000), (40000, 40001), (99990, 100000), (3, 3)]:
        np.testing.assert_array_equal(again.rows(range(start, stop)), whole[start:stop])


def test_batches_cover_an_epoch_with_a_short_last_one():
    batches = Batches(10, 4)
    assert [batches.positions(step) for step in range(batches.steps)] == [range(4), range(4, 8), range(8, 10)]


# --- units and windows --------------------------------------------------------------------------------

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=60).filter(any)


def chunk_order(sizes, window, seed=0, epoch=0):
    return ChunkOrder(np.cumsum([0, *sizes]), window, seed, epoch)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.integers(0, 500), st.integers(0, 2**63), st.integers(0, 1000))
def test_an_order_of_chunks_is_a_permutation_in_windows_of_whole_chunks(sizes, window, seed, epoch):
    order = chunk_order(sizes, window, seed, epoch)
    rows = order(np.arange(order.size))
    assert sorted(rows.tolist()) == list(range(sum(sizes)))
    borders = np.cumsum([0, *sizes])
    units, end = [], 0
    units_of_windows = np.split(order.units, np.cumsum(order.unit_counts)[:-1])
    for number in range(order.windows):
        inside, span = units_of_windows[number].tolist(), order.positions_in(number)
        expected = [row for unit in sorted(inside) for row in range(borders[unit], borders[unit + 1])]
        assert sorted(rows[span].tolist()) == expected
        assert span.start == end
        assert set(order.window_of(np.arange(span.start, span.stop)).tolist()) == {number}
        assert len(span) >= window or order.windows == 1
        units, end = units + inside, span.stop
    assert end == order.size
    assert sorted(units) == np.flatnonzero(sizes).tolist()


def test_windows_are_no_larger_than_they_must_be():
    order = chunk_order([10] * 25, 35)
    assert [len(order.positions_in(window)) for window in range(order.windows)] == [40, 40, 40, 40, 40, 50]


def test_a_window_of_all_rows_mixes_them_as_well_as_single_rows_do():
    rows = chunk_order([100] * 600, 60000)(np.arange(60000))
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(rows, np.arange(60000))[0, 1]) < 0.02


def test_an_order_of_chunks_depends_on_seed_epoch_window_and_chunks():
    keys = [((50,) * 10, 100, 0, 0), ((50,) * 10, 100, 1, 0), ((50,) * 10, 100, 0, 1), ((50,) * 10, 150, 0, 0)]
    orders = [chunk_order(*key)(np.arange(500)) for key in [*keys, ((25,) * 20, 100, 0, 0)]]
    for i, one in enumerate(orders):
        for other in orders[i + 1 :]:
            assert (one == other).mean() < 0.05
    np.testing.assert_array_equal(orders[0], chunk_order(*keys[0])(np.arange(500)))


def test_rows_of_chunks_are_the_same_however_they_are_asked_for():
    order, again = chunk_order([256] * 390 + [160], 4096), chunk_order([256] * 390 + [160], 4096)
    whole = order(np.arange(order.size))
    for start, stop in [(0, 10), (10, 64), (5, 70000), (40000, 40001), (99990, 100000), (3, 3)]:
        np.testing.assert_array_equal(again.rows(range(start, stop)), whole[start:stop])
    scattered = np.array([99999, 0, 4096, 4095, 50000, 0])
    np.testing.assert_array_equal(again(scattered), whole[scattered])
    assert again(np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, "43e038d5cd342185d1fa65ea00123082"), (1, "c693cd88feef7736a1172ef51d2a6949")],
)
def test_the_order_of_chunks_is_that_of_all_earlier_versions(epoch, expected):
    rows = chunk_order([64] * 28 + [5], 200, seed=3, epoch=epoch)(np.arange(1797))
    assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:32] == expected
