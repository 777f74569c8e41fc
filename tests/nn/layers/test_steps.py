"""Steps of lists of layers: names by number, and convolutions with the pooling after them."""

import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.nn.layers.steps import Step, numbered, only_input, with_pooling

CONV, POOL = nn.Conv2d(2, 3), nn.MaxPool2d(2)


def test_layers_are_numbered_by_kind():
    assert numbered([nn.Dense(1), nn.Flatten(), nn.Dense(2)]) == ("dense_1", "flatten_1", "dense_2")


@pytest.mark.parametrize(
    ("layers", "apart", "expected"),
    [
        ([CONV, POOL], [], [("0", "1")]),
        ([CONV, POOL], ["0"], [("0", ""), ("1", "")]),
        ([CONV, POOL, POOL], [], [("0", "1"), ("2", "")]),
        ([nn.Conv1d(2, 3), nn.MaxPool1d(2)], [], [("0", "1")]),
        ([nn.Conv1d(2, 3), POOL], [], [("0", ""), ("1", "")]),
        ([nn.Conv1d(2, 3), nn.MaxPool1d(2, 1)], [], [("0", ""), ("1", "")]),
        ([CONV, nn.MaxPool2d(3, 2)], [], [("0", ""), ("1", "")]),
        ([POOL, CONV], [], [("0", ""), ("1", "")]),
    ],
)
def test_pooling_is_a_part_of_the_step_of_its_convolution(layers, apart, expected):
    steps = with_pooling([Step(str(i), layer) for i, layer in enumerate(layers)], apart)
    assert [(step.name, step.pool_name) for step in steps] == expected
    assert steps[-1].output == str(len(layers) - 1)


def test_the_only_input():
    assert only_input(3) == only_input({"image": 3}) == 3
    with pytest.raises(UserError, match="several inputs"):
        only_input({"a": 1, "b": 2})
