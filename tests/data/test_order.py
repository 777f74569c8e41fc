"""The order of examples: permutations by seed, purpose and epoch, and mini-batches of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.data import Batches, Order


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
