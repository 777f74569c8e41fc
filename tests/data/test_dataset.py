"""Placeholders in the rows of data sets, and arrays that are no data."""

import numpy as np
import pytest

from dbp.data import ArrayDataset, Dataset, Examples, Ragged, meaning_of, without_placeholders
from dbp.errors import UserError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((23, 4)).astype(np.float32)

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
    given = Examples({"inputs": inputs, "targets": np.array(targets), "weights": np.array(weights)})
    copies = {name: column.copy() for name, column in given.items()}
    found = without_placeholders(given)
    np.testing.assert_array_equal(found.targets, expected)
    kept = inputs.copy()
    kept[left_out] = 0
    np.testing.assert_array_equal(found.inputs, kept)
    for name, column in given.items():
        np.testing.assert_array_equal(column, copies[name])


def test_without_weights_of_0_nothing_is_copied():
    given = Examples({"inputs": X, "targets": X[:, 0], "weights": np.ones(23)})
    assert without_placeholders(given) is given


SEVERAL = {
    "inputs.image": np.full((3, 2), NAN),
    "inputs.age": np.array([[1.0], [NAN], [3.0]]),
    "targets.energy": np.array([NAN, NAN, 5]),
    "targets.kind": np.array([-100, 1, 2]),
    "weights.energy": np.array([0, 0, 1]),
    "weights.kind": np.array([0, 1, 1]),
}


def test_each_target_has_the_weights_of_its_name():
    found = without_placeholders(Examples(SEVERAL))
    np.testing.assert_array_equal(found["targets.energy"], [0, 0, 5])
    np.testing.assert_array_equal(found["targets.kind"], [0, 1, 2])
    np.testing.assert_array_equal(found["inputs.age"], [[0], [NAN], [3]])
    np.testing.assert_array_equal(found["inputs.image"], [[0, 0], [NAN, NAN], [NAN, NAN]])


def test_inputs_count_where_a_target_has_no_weights():
    columns = {name: column for name, column in SEVERAL.items() if name != "weights.kind"}
    found = without_placeholders(Examples(columns))
    np.testing.assert_array_equal(found["targets.energy"], [0, 0, 5])
    np.testing.assert_array_equal(found["inputs.age"], SEVERAL["inputs.age"])


class Squares(Dataset):
    """A data set of one's own, with nothing but the two methods that it needs."""

    def __len__(self):
        return 30

    def read(self, rows):
        numbers = np.arange(30.0)[rows]
        return Examples({"inputs": numbers[:, None], "targets": numbers**2})


def test_a_data_set_of_ones_own_needs_two_methods():
    data = Squares()
    assert isinstance(data, Dataset)
    assert (data.name, data.scale, data.input_shape) == ("the data set", None, (1,))
    assert meaning_of(data)["inputs"].kind == "floats"


@pytest.mark.parametrize("column", ["inputs", "targets", "weights"])
def test_masked_positions_of_numpy_are_refused(column):
    columns = {"inputs": X, "targets": X[:, 0], "weights": X[:, 1] ** 2}
    columns[column] = np.ma.masked_where(columns[column] == columns[column].flat[0], columns[column])
    with pytest.raises(UserError, match=f"{column} have 1 masked positions, of which the numbers are not known; fill"):
        ArrayDataset(**columns)
    with pytest.raises(UserError, match="rows of a ragged column have 1 masked positions"):
        Ragged.of([columns[column], X])
    columns[column] = np.ma.masked_array(X if column == "inputs" else X[:, 0])  # without a masked position
    assert len(ArrayDataset(**columns)) == len(X)
