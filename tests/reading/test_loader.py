"""Ranks that read their own rows only."""

import numpy as np
import pytest

from dbp.data import ArrayDataset
from dbp.nn import MeanSquaredError
from dbp.parallel import Shards
from dbp.reading.loader import Loader
from dbp.reading.order import Order
from dbp.reading.output_form import OutputForm

X = np.random.default_rng(0).standard_normal((23, 4)).astype(np.float32)


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
        loader = Loader(data, OutputForm(MeanSquaredError(), (4,)), np.dtype("float32"), Shards(4, rank, ranks))
        batch = loader.batch(order, range(10, 23))
        assert sum(len(shard.inputs) for shard in batch) == len(data.rows)
        seen += data.rows
    assert sorted(seen) == sorted(order(np.arange(10, 23)).tolist())


@pytest.mark.parametrize("copy", [True, False])
def test_the_arrays_of_an_evaluation_are_those_of_the_data_set_if_that_is_allowed(copy):
    form, shards, y = OutputForm(MeanSquaredError(), (4,)), Shards(2), -X
    loader = Loader(ArrayDataset(X, y), form, np.dtype("float32"), shards, chunk_rows=5, copy=copy)
    chunks = [chunk for number in range(2) for chunk in loader.chunks(number)]
    for stored, arrays in ((X, [chunk.inputs for chunk in chunks]), (y, [chunk.targets for chunk in chunks])):
        assert [np.shares_memory(array, stored) for array in arrays] == [not copy] * len(chunks)
        np.testing.assert_array_equal(np.concatenate(arrays), stored)


def test_targets_in_another_order_of_memory_are_copied():
    data = ArrayDataset(X, np.asfortranarray(-X))
    loader = Loader(data, OutputForm(MeanSquaredError(), (4,)), np.dtype("float32"), Shards(1), 30, copy=False)
    (chunk,) = loader.chunks(0)
    assert chunk.targets.flags.c_contiguous
    np.testing.assert_array_equal(chunk.targets, -X)
