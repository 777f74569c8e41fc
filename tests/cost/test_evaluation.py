"""Evaluation a few examples at a time: how many, by closed form, and the same pieces on any number of ranks."""

import numpy as np
import pytest

from dbp import nn
from dbp.cost.evaluation import EVALUATION_BYTES, MAX_ROWS, example_bytes, rows_at_a_time
from dbp.data import ArrayDataset
from dbp.parallel import Shards
from dbp.reading.loader import Loader
from dbp.reading.output_form import OutputForm

SIZE = np.dtype(np.float32).itemsize


def bytes_of(layers, input_shape):
    model = nn.Sequential(*layers)
    initial = nn.initial_parameters(model, np.zeros((2, *input_shape), np.float32), 0)
    return example_bytes(model, initial.parameters, initial.running, input_shape, np.dtype(np.float32))


@pytest.mark.parametrize("width", [3, 3000])
def test_what_a_model_computes_for_an_example_is_counted_without_its_parameters(width):
    layers = [nn.Dense(width, bias=False), nn.BatchNorm(), nn.Dropout(0.5), nn.Flatten(), nn.Dense(2, bias=False)]
    assert bytes_of(layers[:1], (7,)) == SIZE * (7 + width)
    assert SIZE * (7 + 2 * width) <= bytes_of(layers, (7,)) <= SIZE * (7 + 6 * width + 2)


def test_what_nothing_needs_any_more_is_not_counted():
    widths = [10, 300, 20, 100, 150, 40]
    assert bytes_of([nn.Dense(width, bias=False) for width in widths], (7,)) == SIZE * (7 + 300 + 20)
    block = nn.Residual([nn.Dense(100, bias=False), nn.Dense(300, bias=False)])
    assert bytes_of([nn.Dense(300, bias=False), block], (7,)) == SIZE * (7 + 300 + 300 + 300)  # the shortcut is needed
    assert bytes_of([nn.Dense(300, bias=False), nn.Reshape((3, 100)), nn.Dense(5, bias=False)], (7,)) == SIZE * (
        7 + 300 + 15
    )


def test_what_a_layer_computes_inside_is_counted():
    assert bytes_of([nn.Residual((nn.Dense(3000), nn.Dense(8)))], (100, 8)) > SIZE * 100 * 3000


@pytest.mark.parametrize(
    ("example", "rows"),
    [
        (0, MAX_ROWS),
        (1000, MAX_ROWS),
        (EVALUATION_BYTES // 100, 100),
        (EVALUATION_BYTES, 1),
        (10 * EVALUATION_BYTES, 1),
    ],
)
def test_as_many_examples_as_fit(example, rows):
    assert rows_at_a_time(example) == rows


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_pieces_of_a_shard_do_not_depend_on_the_ranks(ranks):
    data = ArrayDataset(np.arange(46.0).reshape(23, 2), np.zeros((23, 1)))

    def pieces(rank, ranks):
        shards = Shards(3, rank, ranks)
        loader = Loader(data, OutputForm(nn.MeanSquaredError(), (1,)), np.dtype("float32"), shards, chunk_rows=3)
        return {number: [c.inputs[:, 0].tolist() for c in loader.chunks(number)] for number in shards.mine}

    alone, together = pieces(0, 1), {}
    for rank in range(ranks):
        together |= pieces(rank, ranks)
    assert together == alone
    assert [len(piece) for shard in alone.values() for piece in shard] == [2, 2, 3, 2, 3, 3, 2, 3, 3]
