"""The pass over the training data that counts classes."""

import numpy as np
import pytest

from dbp import nn
from dbp.data import ArrayDataset
from dbp.errors import PassStoppedError
from dbp.parallel import OneProcess, Shards
from dbp.reading.class_counts import class_totals
from dbp.reading.loader import Loader
from dbp.reading.output_form import OutputForm

TARGETS = np.random.default_rng(0).integers(3, size=50)


def totals(shards, chunk_rows, stops=lambda: False):
    parts, loss = Shards(shards), nn.CrossEntropy()
    data = ArrayDataset(np.zeros((50, 2)), TARGETS)
    loader = Loader(data, OutputForm(loss, (3,)), np.dtype("float32"), parts, chunk_rows)
    count = lambda shard: loss.class_totals(shard.targets, shard.example_weights, (3,))  # noqa: E731
    return class_totals(OneProcess(), loader, parts, count, stops)


@pytest.mark.parametrize(("shards", "chunk_rows"), [(1, 100), (3, 4), (60, 1)])
def test_every_example_is_counted_once(shards, chunk_rows):
    assert totals(shards, chunk_rows).tolist() == np.bincount(TARGETS).tolist()


def test_a_signal_ends_it():
    with pytest.raises(PassStoppedError):
        totals(2, 5, stops=lambda: True)
