"""Data files from blocks of rows: whole or not at all, in bounded memory, the same however the rows are cut."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from dbp.convert import content as content_module
from dbp.convert.content import Content
from dbp.data import ColumnMeaning, HDF5Dataset
from dbp.errors import UserError
from tests.convert.files import write

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


def blocks(rows, x=X, y=Y):
    """Return rows as blocks, some of which may be empty."""
    return ({"inputs": x[i : i + rows], "targets": y[i : i + rows]} for i in range(0, len(x) + rows, rows))


@pytest.mark.parametrize("count", [23, None])
@pytest.mark.parametrize("rows", [1, 5, 23])
def test_blocks_of_any_size_make_columns_in_one_piece(tmp_path, count, rows, monkeypatch):
    monkeypatch.setattr(content_module, "BLOCK_BYTES", 100)
    write(tmp_path / "o.h5", Content(blocks(rows), count))
    data = HDF5Dataset(tmp_path / "o.h5")
    np.testing.assert_array_equal(data.read(slice(0, 23)).inputs, X)
    np.testing.assert_array_equal(data.read(slice(0, 23)).targets, Y)
    assert data.layout is not None
    assert [path.name for path in tmp_path.iterdir()] == ["o.h5"]


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        (blocks(5), 22, "does not have the 22 examples"),
        (blocks(5), 24, "does not have the 24 examples"),
        ([], None, "has no examples"),
        (
            [{"inputs": X, "targets": Y[:3]}],
            None,
            "every column needs one row per example, but inputs have 23, targets",
        ),
        (
            [{"inputs": X}, {"inputs": X[:, :3]}],
            46,
            "all blocks need the same columns, but inputs are float32 46 x 4 at",
        ),
        ([{"inputs": X}, {"inputs": X.astype("f8")}], None, "all blocks need the same columns, but inputs are float32"),
        ([{"inputs": X, "targets": Y}, {"inputs": X}], None, "all blocks need the same columns, but targets are int64"),
        ([{"inputs": np.array(["a"])}], 1, "inputs must be numbers"),
    ],
)
def test_blocks_that_do_not_fit(tmp_path, given, count, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path / "o.h5", Content(given, count))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    (tmp_path / "o.h5").write_text("mine")
    with pytest.raises(UserError, match="exists; choose another name or pass --overwrite"):
        write(tmp_path / "o.h5", Content(blocks(5), 23))
    assert (tmp_path / "o.h5").read_text() == "mine"
    write(tmp_path / "o.h5", Content(blocks(5), 23), overwrite=True)
    with pytest.raises(UserError, match=r"a\.npz: every column needs one row per example"):
        write(tmp_path / "p.h5", Content([{"inputs": X, "targets": Y[:3]}], 23), [Path("a.npz")])
    for count in (23, None):
        with pytest.raises(UserError, match="cannot be written"):
            write(tmp_path / "no" / "p.h5", Content(blocks(5), count))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.h5"]


def test_the_names_of_columns_and_classes_are_kept(tmp_path):
    names = {"inputs": [f"größe {i}" for i in range(5000)], "targets": ["kind"]}  # more than 64 KiB
    block = {"inputs": np.zeros((2, 5000)), "targets": np.array([0, 1])}
    attributes = {"inputs": {"names": names["inputs"]}, "targets": {"names": ["kind"], "classes": ("bee", "ant")}}
    write(tmp_path / "o.h5", Content([block], 2, attributes))
    found = HDF5Dataset(tmp_path / "o.h5").meaning
    assert found["inputs"] == ColumnMeaning("floats", names=tuple(names["inputs"]))
    assert found["targets"] == ColumnMeaning("integers", names=("kind",), classes=("bee", "ant"))
    write(tmp_path / "p.h5", Content([block], 2, {"targets": {"classes": ()}}))
    assert HDF5Dataset(tmp_path / "p.h5").meaning["targets"] == ColumnMeaning("integers", classes=())


def test_file_names_are_a_column(tmp_path):
    files = np.array(["a/ä.png".encode(), b"b/2.png"])
    write(tmp_path / "o.h5", Content([{"inputs": np.zeros((2, 1), np.uint8), "files": files}], 2))
    with h5py.File(tmp_path / "o.h5") as file:
        assert file["files"].asstr()[:].tolist() == ["a/ä.png", "b/2.png"]
        assert file["inputs"].attrs["scale"] == 1 / 255
