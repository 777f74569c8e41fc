"""The sources of examples: files, lists, patterns, groups, tables with names of their own, and arrays."""

import numpy as np
import pytest

from dbp.config.config_file import load_table
from dbp.config.data import Data, with_paths
from dbp.config.from_table import data_from, settings_from
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.data import ArrayDataset
from dbp.errors import UserError

X, Y = np.zeros((6, 2)), np.arange(6)
CONFIG = """
loss = "cross_entropy"
epochs = 1
batch_size = 2
optimizer = "adam"
model.layers = [{ kind = "dense", units = 3 }]

[data]
inputs = "x"
train = ["part-*.h5", "dbp:digits-train", "/far/all.h5:/train"]
validation = "all.h5:/validation"
test = { files = "all.h5:/test", inputs = "pixels", targets = "label" }
"""


def test_paths_in_lists_and_tables_are_relative_to_the_config(tmp_path):
    (tmp_path / "config.toml").write_text(CONFIG)
    data = data_from(load_table(tmp_path / "config.toml", []))
    assert data.train == [f"{tmp_path}/part-*.h5", "dbp:digits-train", "/far/all.h5:/train"]
    assert data.validation == f"{tmp_path}/all.h5:/validation"
    assert data.test == {"files": f"{tmp_path}/all.h5:/test", "inputs": "pixels", "targets": "label"}


def test_lists_and_tables_are_stored_and_read_again(tmp_path):
    (tmp_path / "config.toml").write_text(CONFIG)
    table = table_from(settings_from(load_table(tmp_path / "config.toml", [])))
    (tmp_path / "stored.toml").write_text(to_toml(table))
    assert load_table(tmp_path / "stored.toml", []) == table


def test_files_of_single_columns_have_paths_too():
    found = with_paths({"inputs": "x.npy", "targets": "y.npy"}, lambda path: f"/data/{path}")
    assert found == {"inputs": "/data/x.npy", "targets": "/data/y.npy"}
    assert with_paths({"part": 0.2}, lambda path: f"/data/{path}") == {"part": 0.2}


def test_paths_of_python_are_taken(tmp_path):
    data = Data([tmp_path / "a.h5"], test={"files": tmp_path / "b.h5", "targets": "y", "weights": None})
    assert data.train == [f"{tmp_path}/a.h5"]
    assert data.test == {"files": f"{tmp_path}/b.h5", "targets": "y"}


@pytest.mark.parametrize("weights", [None, np.ones(6)])
def test_arrays_have_names_or_an_order(weights):
    for given in ((X, Y, weights), {"inputs": X, "targets": Y, "weights": weights}):
        data = Data(given).train
        assert isinstance(data, ArrayDataset)
        assert data.name == "the train arrays"
        found = data.read(slice(2, 4))
        np.testing.assert_array_equal(found.targets, [2, 3])
        assert (found.weights is None) == (weights is None)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], r"data.train must be a file or a list of files, but is \[\]"),
        ({}, r"data.train.files is missing; name the files, or a file .npy for each column, such as \{ inputs = .*"),
        ({"inputs": "x"}, "data.train.files is missing; name the files, or a file .npy .*"),
        ({"files": 3}, "data.train.files must be a file or a list of files, but is 3"),
        (
            {"files": "a.h5", "inputs": 3},
            "data.train.inputs must be the name of a column, or a list of names, but is 3",
        ),
        ({"files": "a.h5", "input": "x"}, r"unknown key 'data.train.input'; did you mean 'data.train.inputs'\?"),
        ({"inputs": X, "target": Y}, r"unknown key of the train arrays 'target'; did you mean 'targets'\?"),
        ({"inputs": X}, "the train arrays must have targets, but have inputs"),
        ((X,), r"the train arrays must be \(inputs, targets\) or \(inputs, targets, weights\), but has 1 elements"),
        (True, "data.train must be a file, .*, but is True"),
    ],
)
def test_what_is_no_source_is_refused_in_one_line(train, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        Data(train)
