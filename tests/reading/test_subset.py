"""Parts of a data set."""

import numpy as np

from dbp.data import ArrayDataset
from dbp.reading.order import Order
from dbp.reading.subset import PositionRange, Subset

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


def test_a_subset_reads_through_its_order():
    whole = ArrayDataset(X, Y, weights=np.arange(23.0))
    order = Order(23, 0, "split")
    rows = order(np.arange(23))
    part = Subset(whole, PositionRange(order, range(15, 23)))
    assert len(part) == 8
    np.testing.assert_array_equal(part.read(slice(2, 5)).inputs, X[rows[17:20]])
    np.testing.assert_array_equal(part.read(np.array([7, 0])).weights, rows[[22, 15]])
