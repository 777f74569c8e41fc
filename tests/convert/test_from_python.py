"""Data files that a program writes block by block."""

import numpy as np
import pytest

import dbp
from dbp.convert import write_blocks
from dbp.data import HDF5Dataset, Ragged
from dbp.errors import UserError

RNG = np.random.default_rng(0)
X, Y, W = RNG.integers(0, 256, (10, 3)).astype(np.uint8), RNG.integers(0, 2, 10), RNG.random(10)


@pytest.mark.parametrize("count", [None, 10])
@pytest.mark.parametrize("compress", [False, True])
def test_blocks_in_each_form(tmp_path, count, compress):
    blocks = [(X[:4], Y[:4], W[:4]), {"inputs": X[4:], "targets": Y[4:], "weights": W[4:]}]
    options = {"input_names": ["r", "g", "b"], "classes": ["ant", "bee"], "target_names": ["kind"]}
    assert write_blocks(tmp_path / "o.h5", iter(blocks), count, compress=compress, **options) == 10
    data = HDF5Dataset(tmp_path / "o.h5")
    rows = data.read(slice(0, 10))
    for found, given in ((rows.inputs, X), (rows.targets, Y), (rows.weights, W)):
        np.testing.assert_array_equal(found, given)
    assert (data.meaning["inputs"].names, data.scale) == (("r", "g", "b"), 1 / 255)
    assert (data.meaning["targets"].names, data.meaning["targets"].classes) == (("kind",), ("ant", "bee"))
    assert dbp.convert.write_blocks is write_blocks


def test_blocks_may_have_several_columns_of_a_sort(tmp_path):
    blocks = [{"inputs.color": X[:4], "inputs.size": W[:4, None]}, {"inputs.color": X[4:], "inputs.size": W[4:, None]}]
    assert write_blocks(tmp_path / "o.h5", blocks) == 10
    names = {"color": "inputs.color", "size": "inputs.size"}
    rows = HDF5Dataset(tmp_path / "o.h5", names, None).read(slice(0, 10))
    np.testing.assert_array_equal(rows["inputs.color"], X)
    np.testing.assert_array_equal(rows["inputs.size"], W[:, None])


@pytest.mark.parametrize(
    ("blocks", "options", "message"),
    [
        ([X], {}, r"a block must be a tuple \(inputs, targets\)"),
        ([{"x": X}], {}, "or a mapping with inputs"),
        ([(X, Y[:3])], {}, "every column needs one row per example, but inputs have 10, targets have 3"),
        ([(X, Y)], {"scale": 0}, "scale must be a finite number other than 0"),
        ([(X, Y)], {"input_names": ["a"]}, "inputs need a name for each of 3 columns, but have 1 name"),
        ([(X, Y)], {"classes": ["a", "a"]}, "targets must have classes of different names"),
        ([], {}, "has no examples"),
    ],
)
def test_blocks_that_do_not_fit(tmp_path, blocks, options, message):
    with pytest.raises(UserError, match=message):
        write_blocks(tmp_path / "o.h5", blocks, **options)
    assert list(tmp_path.iterdir()) == []


ROWS = [RNG.integers(0, 9, length).astype(np.int32) for length in (3, 1, 20, 7, 2)]


def test_rows_of_unequal_length(tmp_path):
    blocks = [(Ragged.of(ROWS[:2]), Y[:2]), (Ragged.of(ROWS[2:]), Y[2:5])]
    assert write_blocks(tmp_path / "o.h5", blocks, classes=["ant", "bee"]) == 5
    data = HDF5Dataset(tmp_path / "o.h5", offsets="offsets")
    found = data.read(slice(0, 5))
    assert [row[mask].tolist() for row, mask in zip(found.inputs, found.mask, strict=True)] == [
        row.tolist() for row in ROWS
    ]
    np.testing.assert_array_equal(found.targets, Y[:5])
    assert data.meaning["targets"].classes == ("ant", "bee")
    per_position = [{"inputs": Ragged.of(ROWS), "targets": Ragged.of([row + 1 for row in ROWS])}]
    assert write_blocks(tmp_path / "p.h5", per_position) == 5
    found = HDF5Dataset(tmp_path / "p.h5", offsets="offsets").read(slice(0, 5))
    np.testing.assert_array_equal(found.targets[found.mask], found.inputs[found.mask] + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.h5", "p.h5"]


@pytest.mark.parametrize(
    ("blocks", "options", "message"),
    [
        ([(Ragged.of(ROWS), Y[:3])], {}, "targets of a block need as many rows as inputs, of the same lengths"),
        ([(Ragged.of(ROWS), Ragged.of(ROWS[::-1]))], {}, "targets of a block need as many rows as inputs"),
        ([(Ragged.of(ROWS), Y[:5]), (X, Y)], {}, "all blocks need the same columns, but one has no rows of unequal"),
        ([(X, Y), (Ragged.of(ROWS), Y[:5])], {}, "some have rows of unequal length and others have not"),
        (
            [(Ragged.of(ROWS), Y[:5]), (Ragged.of([W]), Y[:1])],
            {},
            "inputs are int32 .* at first and float64 .* later",
        ),
        ([(Ragged.of(ROWS), Y[:5]), {"inputs": Ragged.of(ROWS)}], {}, "the same columns, but one has inputs"),
        ([(Ragged.of(ROWS), Y[:5].astype(str))], {}, "targets must be numbers, but have type <U"),
        ([(Ragged.of(ROWS), Y[:5])], {"compress": True}, "written in one piece; leave out compress"),
    ],
)
def test_rows_of_unequal_length_that_do_not_fit(tmp_path, blocks, options, message):
    with pytest.raises(UserError, match=message):
        write_blocks(tmp_path / "o.h5", blocks, **options)
    assert list(tmp_path.iterdir()) == []
