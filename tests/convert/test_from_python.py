"""Data files that a program writes block by block."""

import numpy as np
import pytest

import dbp
from dbp.convert import write_blocks
from dbp.data import HDF5Dataset
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
        ([(X, Y)], {"input_names": ["a"]}, "inputs need a name for each of 3 columns, but have 1 names"),
        ([(X, Y)], {"classes": ["a", "a"]}, "targets must have classes of different names"),
        ([], {}, "has no examples"),
    ],
)
def test_blocks_that_do_not_fit(tmp_path, blocks, options, message):
    with pytest.raises(UserError, match=message):
        write_blocks(tmp_path / "o.h5", blocks, **options)
    assert list(tmp_path.iterdir()) == []
