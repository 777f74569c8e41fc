"""Data files from blocks of rows: whole or not at all, in bounded memory, the same however the rows are cut."""

import resource
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from dbp.convert import content as content_module
from dbp.convert.content import Content
from dbp.convert.writing import Chunks
from dbp.data import ColumnMeaning, HDF5Dataset, chunked_output
from dbp.errors import StorageError, UserError
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
        write(tmp_path / "p.h5", Content([{"inputs": X, "targets": Y[:3]}], 23, files=[Path("a.npz")]))
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


@pytest.mark.parametrize("chunks", [None, Chunks()])
@pytest.mark.parametrize(
    ("column", "attributes"),
    [
        ("inputs", {"inputs": {"names": ["a", "b\0"]}}),
        ("inputs", {"inputs": {"units": "b\0"}}),
        ("inputs", {"/": {"table": "b\0"}}),
        ("b\0", {}),
    ],
)
def test_names_that_hdf5_would_cut_are_refused(tmp_path, column, attributes, chunks):
    message = r"o\.h5 cannot hold the name 'b\\x00': HDF5 ends names at a NUL character; rename it in the source"
    block = {"inputs": np.zeros((2, 2)), column: np.zeros((2, 2))}
    with pytest.raises(UserError, match=message):
        write(tmp_path / "o.h5", Content([block], 2, attributes), chunks=chunks)
    assert list(tmp_path.iterdir()) == []


def test_file_names_are_a_column(tmp_path):
    files = np.array(["a/ä.png".encode(), b"b/2.png"])
    write(tmp_path / "o.h5", Content([{"inputs": np.zeros((2, 1), np.uint8), "files": files}], 2))
    with h5py.File(tmp_path / "o.h5") as file:
        assert file["files"].asstr()[:].tolist() == ["a/ä.png", "b/2.png"]
        assert file["inputs"].attrs["scale"] == 1 / 255


@pytest.mark.parametrize(("chunks", "shape"), [(Chunks(), (13, 4)), (Chunks(5, 4), (5, 4)), (Chunks(100), (23, 4))])
@pytest.mark.parametrize("rows", [1, 7, 23])
def test_columns_in_chunks(tmp_path, chunks, shape, rows, monkeypatch):
    monkeypatch.setattr(chunked_output, "CHUNK_BYTES", 16 * 13)
    names = np.array([f"{i}".encode() for i in range(23)])
    given = ({**block, "files": names[: len(block["inputs"])].astype("S5")} for block in blocks(rows))
    attributes = {"inputs": {"names": ("a", "b", "c", "d")}, "/": {"table": "x"}}
    write(tmp_path / "o.h5", Content(given, 23, attributes), chunks=chunks)
    with h5py.File(tmp_path / "o.h5") as file:
        assert file["inputs"].chunks == shape
        assert file["targets"].chunks[0] % shape[0] == 0 or file["targets"].chunks[0] == 23
        assert file["inputs"].compression == ("gzip" if chunks.level else None)
        np.testing.assert_array_equal(file["inputs"], X)
        np.testing.assert_array_equal(file["targets"], Y)
        assert len(file["files"].asstr()[:]) == 23
    data = HDF5Dataset(tmp_path / "o.h5")
    assert data.meaning["inputs"].names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(data.read(slice(0, 23)).inputs, X)
    assert [path.name for path in tmp_path.iterdir()] == ["o.h5"]


def test_chunks_that_the_disk_does_not_take_are_refused(tmp_path):
    """Write more than a limit on the size of files, beyond which the system answers "File too large"."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"o\.h5 cannot be written: File too large"):
            write(tmp_path / "o.h5", Content([{"inputs": np.ones((100, 100))}] * 9, 900), chunks=Chunks(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
