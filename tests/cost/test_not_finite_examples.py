"""The search for examples whose loss is not finite."""

import numpy as np
import pytest

from dbp.cost.not_finite_examples import describe_not_finite, finite_rows, why_not_finite
from dbp.cost.objective import Objective
from dbp.data import ArrayDataset
from dbp.nn import BatchNorm, MeanSquaredError, RunningMoments
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.loader import Loader
from dbp.reading.order import Order
from dbp.reading.output_form import OutputForm
from dbp.reading.subset import PositionRange, Subset

FLOAT, ROWS = np.dtype(np.float32), 20


def described(data, shards=3):
    layout, numbers = Layout({"w": (2, 1)}), Shards(shards, 0, 1)
    objective = Objective(
        lambda scope, x: x @ scope.parameter("w", (2, 1)), MeanSquaredError(), layout, OneProcess(), numbers, FLOAT
    )
    loader = Loader(data, OutputForm(MeanSquaredError(), (1,)), FLOAT, numbers, chunk_rows=ROWS)
    return describe_not_finite(objective, np.ones(2, FLOAT), loader)


@pytest.mark.parametrize("row", [0, ROWS + 3, 2 * ROWS + 1])
def test_the_first_example_is_named_whatever_its_shard(row):
    x = np.ones((2 * ROWS + 2, 2), np.float32)
    x[row:, 0] = 1e30
    data = ArrayDataset(x, np.ones(len(x)), name="valid.h5")
    count = len(x) - row
    more = f"; {count:,} of {len(x):,} examples have such a loss" if count > 1 else ""
    assert described(data) == f"example {row} of valid.h5: its loss is not finite, with inputs from 1 to 1e+30{more}"


def test_an_example_of_a_part_is_named_by_its_row_in_the_file():
    x = np.ones((30, 2))
    order = Order(30, 0, "split")
    x[order(np.array([22]))] = -1e300
    found = described(Subset(ArrayDataset(x, np.ones(30), name="all.h5"), PositionRange(order, range(20, 30))))
    assert found == f"example {order(np.array([22]))[0]} of all.h5: its inputs contain -inf as float32"


def test_the_search_takes_the_moments_of_the_evaluation():
    """Search with averaged moments, not the model's own, as averaged weights are evaluated."""
    layout, numbers, x = Layout({"scale": (2,), "shift": (2,)}), Shards(1, 0, 1), np.ones((4, 2))
    own, averaged = (RunningMoments.at_start(2, 0.9, FLOAT) for _ in range(2))
    averaged.mean[:] = np.inf
    running = {"": own}
    objective = Objective(BatchNorm(), MeanSquaredError(), layout, OneProcess(), numbers, FLOAT, running)
    loader = Loader(ArrayDataset(x, x), OutputForm(MeanSquaredError(), (2,)), FLOAT, numbers, chunk_rows=ROWS)
    assert describe_not_finite(objective, np.ones(4, FLOAT), loader).startswith("no example of the arrays alone")
    found = describe_not_finite(objective, np.ones(4, FLOAT), loader, {"": averaged})
    assert found.startswith("example 0 of the arrays: the model's outputs for it contain -inf")


def test_where_all_losses_are_finite_none_is_named():
    assert described(ArrayDataset(np.ones((4, 2)), np.ones(4))).startswith("no example of the arrays alone")


def test_the_reason_is_the_first_that_is_not_finite():
    finite, wrong = np.ones((1, 2), np.float32), np.array([[1, np.nan]], np.float32)
    assert why_not_finite(wrong, wrong) == "its inputs contain nan as float32"
    assert why_not_finite(finite, wrong) == "the model's outputs for it contain nan, with inputs from 1 to 1"
    assert finite_rows(np.stack([finite, wrong])).tolist() == [True, False]
    assert finite_rows(np.ones((2, 3), int)).tolist() == [True, True]
