"""Subsets, and ranks that read their own rows only."""

import numpy as np
import pytest

from dbp.cost.loader import Loader
from dbp.data import ArrayDataset, Examples, Order, Subset, without_placeholders
from dbp.nn import MeanSquaredError
from dbp.parallel import Shards

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


def test_a_subset_reads_through_its_order():
    whole = ArrayDataset(X, Y, weights=np.arange(23.0))
    order = Order(23, 0, "split")
    rows = order(np.arange(23))
    part = Subset(whole, order, range(15, 23))
    assert len(part) == 8
    np.testing.assert_array_equal(part.read(slice(2, 5)).inputs, X[rows[17:20]])
    np.testing.assert_array_equal(part.read(np.array([7, 0])).weights, rows[[22, 15]])


class Counting(ArrayDataset):
    """A data set that remembers which rows were read."""

    def __init__(self, *columns):
        super().__init__(*columns)
        self.rows = []

    def read(self, rows):
        self.rows += np.arange(len(self))[rows].tolist()
        return super().read(rows)


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_ranks_read_their_own_rows_only(ranks):
    order, seen = Order(23, 0, "order"), []
    for rank in range(ranks):
        data = Counting(X, X)
        loader = Loader(data, MeanSquaredError(), (4,), np.dtype("float32"), Shards(4, rank, ranks))
        batch = loader.batch(order, range(10, 23))
        assert sum(len(shard.inputs) for shard in batch) == len(data.rows)
        seen += data.rows
    assert sorted(seen) == sorted(order(np.arange(10, 23)).tolist())


NAN = float("nan")


@pytest.mark.parametrize(
    ("targets", "weights", "expected", "left_out"),
    [
        ([-100, 1, 255], [0, 1, 0.5], [0, 1, 255], [0]),
        ([[NAN, 1], [2, NAN], [NAN, NAN]], [[0, 1], [1, 0], [0, 0]], [[0, 1], [2, 0], [0, 0]], [2]),
        ([[1e30, 1], [2, 3], [4, 5]], [0, 1, -1], [[0, 0], [2, 3], [4, 5]], [0]),
        ([NAN, 1, 2], [[0], [1], [1]], [0, 1, 2], [0]),
        ([[[7], [8]], [[9], [7]], [[8], [9]]], [[0, 1], [1, 1], [1, 1]], [[[0], [8]], [[9], [7]], [[8], [9]]], []),
    ],
)
def test_placeholders_of_weight_0_are_replaced(targets, weights, expected, left_out):
    inputs = np.array([[NAN, 1], [2, 1e30], [3, NAN]])
    given = Examples(inputs, np.array(targets), np.array(weights))
    copies = [column.copy() for column in given]
    found = without_placeholders(given)
    np.testing.assert_array_equal(found.targets, expected)
    kept = inputs.copy()
    kept[left_out] = 0
    np.testing.assert_array_equal(found.inputs, kept)
    for before, after in zip(copies, given, strict=True):
        np.testing.assert_array_equal(before, after)


def test_without_weights_of_0_nothing_is_copied():
    given = Examples(X, Y, np.ones(23))
    assert without_placeholders(given) is given
