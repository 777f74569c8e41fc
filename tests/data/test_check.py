"""Checks of data: digests of all numbers, and bad numbers by row."""

import numpy as np
import pytest

from dbp.data import ArrayDataset, Examples, block_count, check_all, check_blocks, combined
from dbp.data.check import BLOCK_BYTES, sample_digest
from dbp.data.check import MAX_BLOCK_ROWS as BLOCK_ROWS
from dbp.errors import UserError

RNG = np.random.default_rng(0)


def check(data, blocks=None, dtype="float64"):
    chosen = range(block_count(data)) if blocks is None else blocks
    return check_blocks(data, chosen, np.dtype(dtype), lambda examples, first: None)


def digest(*checks):
    return combined([block.digest for blocks in checks for block in blocks])


def test_every_number_and_its_place_count_for_the_digest():
    x = RNG.standard_normal((2 * BLOCK_ROWS + 3, 2))
    y = np.arange(len(x))
    base = digest(check(ArrayDataset(x, y)))
    assert digest(check(ArrayDataset(x, y), range(1)), check(ArrayDataset(x, y), range(1, 3))) == base
    moved = x.copy()
    moved[-1, -1] += 1
    others = [ArrayDataset(moved, y), ArrayDataset(x, y[::-1]), ArrayDataset(x, y, np.ones(len(x)))]
    others += [ArrayDataset(x, y, scale=2.0), ArrayDataset(x[:-1], y[:-1]), ArrayDataset(x.astype("f4"), y)]
    assert base not in {digest(check(other)) for other in others}


def test_bad_numbers_are_named_by_row():
    x = np.zeros((BLOCK_ROWS + 10, 2))
    x[BLOCK_ROWS + 4, 1] = -np.inf
    with pytest.raises(UserError, match=f"the arrays: inputs must be finite.*example {BLOCK_ROWS + 4} contain -inf"):
        check(ArrayDataset(x, x))
    w = np.ones(len(x))
    w[7] = -1
    with pytest.raises(UserError, match=r"weights must be finite and not negative.*example 7 is -1"):
        check(ArrayDataset(0 * np.nan_to_num(x), x, w))


class Watched(ArrayDataset):
    """A data set that remembers the most bytes that were read at once."""

    most = 0

    def read(self, rows):
        examples = super().read(rows)
        self.most = max(self.most, examples.inputs.nbytes)
        return examples


def test_large_rows_are_read_a_few_at_a_time():
    x = np.zeros((50, BLOCK_BYTES // 24), np.float64)
    data = Watched(x, np.zeros(50))
    whole = digest(check(data))
    assert BLOCK_BYTES / 2 < data.most <= BLOCK_BYTES
    assert digest(check(data, range(9)), check(data, range(9, block_count(data)))) == whole
    assert sample_digest(data, 16) != sample_digest(data)  # of 50 rows
    assert data.most <= BLOCK_BYTES
    x = np.zeros((3, BLOCK_BYTES), np.int16)
    assert block_count(ArrayDataset(x, x)) == 3


@pytest.mark.parametrize(
    ("x", "weights", "scale", "message"),
    [
        (
            [[1.0], [-1e300]],
            None,
            None,
            r"inputs of example 1 contain 1e\+300 .* float32 cannot hold; ",
        ),
        (
            [[1.0], [1e300]],
            None,
            1e-280,
            r"example 1 contain 1e\+300 .* float32 cannot hold, times the scale",
        ),
        (
            [[200], [100]],
            None,
            1e37,
            r"example 0 contain 200 .* cannot hold, times the scale 1e\+37",
        ),
        (
            [[1.0], [2.0]],
            [1, 1e-320],
            None,
            r"weights of example 1 are 1e-320, which is 0.0 in float32",
        ),
        ([[1.0], [2.0]], [1e39, 1], None, r"weights of example 0 are 1e\+39, which is inf in float32"),
        ([[1e-310], [0]], None, None, "the arrays: all inputs are so small that they are 0 in float32; multiply them"),
        ([[1], [2]], None, 1e-60, "all inputs are so small"),
        ([[1.0], [2.0]], [0, 0], None, "the weights of all examples are 0"),
    ],
)
def test_numbers_that_the_precision_of_the_run_cannot_hold(x, weights, scale, message):
    data = ArrayDataset(x, [1, 2], weights, scale)
    with pytest.raises(UserError, match=message):
        check_all(data, check(data, dtype="float32"), np.dtype("float32"))
    if weights != [0, 0]:
        check_all(data, check(data, dtype="float64"), np.dtype("float64"))


def test_targets_that_the_precision_of_the_run_cannot_hold():
    data = ArrayDataset([[1], [2], [3]], [1.0, 1e-320, -1e200], [1, 1, 0])
    check_all(data, check(data, dtype="float32"), np.dtype("float32"))
    with pytest.raises(UserError, match=r"targets of example 2 contain 1e\+200"):
        check(ArrayDataset([[1], [2], [3]], [1.0, 1e-320, -1e200]), dtype="float32")


def test_a_few_numbers_may_vanish():
    data = ArrayDataset([[1e-310], [0.0], [1.0]], [0, 0, 0])
    check_all(data, check(data, dtype="float32"), np.dtype("float32"))


def test_what_stands_at_weight_0_is_not_checked():
    x, y, w = np.ones((9, 2)), np.ones(9), np.ones(9)
    x[4], y[4], w[4] = np.nan, 1e300, 0
    check(ArrayDataset(x, y, w), dtype="float32")


def test_columns_of_a_role_are_checked_by_name():
    x = np.ones((4, 2))
    columns = {"inputs.image": x, "inputs.age": x[:, :1], "targets.energy": x[:, 0], "weights.energy": np.arange(4)}
    found = check(NamedArrays(columns))
    assert set(found[0].nonzero) == {"inputs.image", "inputs.age", "targets.energy"}
    swapped = {**columns, "inputs.age": columns["inputs.image"], "inputs.image": columns["inputs.age"]}
    assert digest(found) != digest(check(NamedArrays(swapped)))
    with pytest.raises(UserError, match=r"^the arrays: inputs\.age must be finite, but those of example 2 contain nan"):
        check(NamedArrays({**columns, "inputs.age": np.array([[1], [2], [np.nan], [4]])}))
    with pytest.raises(UserError, match=r"weights\.energy must be finite and not negative, .* example 0 is -1"):
        check(NamedArrays({**columns, "weights.energy": np.arange(-1, 3)}))


class NamedArrays:
    """A data set in memory with columns of any names."""

    name, scale, input_shape = "the arrays", None, (2,)

    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return 4

    def read(self, rows):
        return Examples({name: values[rows] for name, values in self.columns.items()})


def test_examples_that_count_for_one_target_alone_are_enough():
    zeros = np.zeros(4)
    columns = {"inputs": np.ones((4, 2)), "targets.kind": zeros, "targets.energy": zeros, "weights.energy": zeros}
    check_all(NamedArrays(columns), check(NamedArrays(columns)), np.dtype("float64"))
    for missing in ({"weights.kind": zeros}, {"weights": zeros}):
        data = NamedArrays({**columns, **missing})
        with pytest.raises(UserError, match="the weights of all examples are 0"):
            check_all(data, check(data), np.dtype("float64"))
