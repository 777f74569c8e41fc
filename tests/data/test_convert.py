"""Converters from IDX, NPZ and CSV files."""

import gzip
import struct

import numpy as np
import pytest

from dbp.data import HDF5Dataset, convert
from dbp.errors import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


def idx_bytes(array, code=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


IMAGES = RNG.integers(0, 256, (5, 3, 2)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 1, 0], np.uint8)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_plain_and_gzip(tmp_path, pack):
    (tmp_path / "i").write_bytes(pack(idx_bytes(IMAGES)))
    (tmp_path / "l").write_bytes(pack(idx_bytes(LABELS)))
    columns = convert.from_idx(tmp_path / "i", tmp_path / "l")
    assert convert.write_hdf5(tmp_path / "o.h5", columns, {"source": "here"}, overwrite=False) == 5
    data = HDF5Dataset(tmp_path / "o.h5")
    np.testing.assert_array_equal(data.read(slice(0, 5)).inputs, IMAGES)
    assert data.scale == 1 / 255
    assert data.layout is not None


def test_idx_of_other_types(tmp_path):
    (tmp_path / "f").write_bytes(idx_bytes(np.array([1.5, -2], ">f4"), 13))
    np.testing.assert_array_equal(convert.read_idx(tmp_path / "f"), [1.5, -2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\x89PNG", "not an IDX file: it starts with 89 50 4e 47"),
        (idx_bytes(IMAGES)[:9], "cut short"),
        (idx_bytes(IMAGES)[:-1], r"needs 30 bytes, but 29 follow"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9], "cannot be unpacked"),
    ],
)
def test_idx_files_that_are_none(tmp_path, content, message):
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(UserError, match=message):
        convert.read_idx(tmp_path / "i")


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    (tmp_path / "o.h5").write_text("mine")
    columns = {"inputs": X, "targets": Y}
    with pytest.raises(UserError, match="exists; choose another name or pass --overwrite"):
        convert.write_hdf5(tmp_path / "o.h5", columns, {}, overwrite=False)
    assert (tmp_path / "o.h5").read_text() == "mine"
    assert convert.write_hdf5(tmp_path / "o.h5", columns, {}, overwrite=True) == 23
    with pytest.raises(UserError, match="one row per example"):
        convert.write_hdf5(tmp_path / "p.h5", {"inputs": X, "targets": Y[:3]}, {}, overwrite=False)
    with pytest.raises(UserError, match="cannot be written"):
        convert.write_hdf5(tmp_path / "no" / "p.h5", columns, {}, overwrite=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.h5"]


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, targets=Y, w=np.ones(23))
    columns = convert.from_npz(tmp_path / "a.npz", "x", "targets", "w")
    np.testing.assert_array_equal(columns["inputs"], X)
    with pytest.raises(UserError, match="no array 'inputs'; it has x, targets, w"):
        convert.from_npz(tmp_path / "a.npz", "inputs", "targets", None)
    np.savez(tmp_path / "b.npz", inputs=np.array([{}], object), targets=Y)
    (tmp_path / "c.npz").write_text("no")
    for name in ("b.npz", "c.npz"):
        with pytest.raises(UserError, match="is not an npz archive of plain arrays"):
            convert.from_npz(tmp_path / name, "inputs", "targets", None)


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    ("text", "target", "inputs", "targets", "classes"),
    [
        ("1,2,0\n3,4,1\n", None, [[1, 2], [3, 4]], [0, 1], []),
        ("a,b,y\n1,2,0.5\n3,4,1\n", None, [[1, 2], [3, 4]], [0.5, 1], []),
        ("y,a,b\n7,1,2\n\n9,3,4\n", "y", [[1, 2], [3, 4]], [7, 9], []),
        ("cat,1,2\nbee,3,4\ncat,5,6\n", "0", [[1, 2], [3, 4], [5, 6]], [1, 0, 1], ["bee", "cat"]),
        ("1, 2, u\n3, 4, v\n", "-1", [[1, 2], [3, 4]], [0, 1], ["u", "v"]),
    ],
)
def test_csv(tmp_path, text, target, inputs, targets, classes):
    columns, names = convert.from_csv(table(tmp_path, text), target, ",")
    assert columns["inputs"].tolist() == inputs
    assert columns["targets"].tolist() == targets
    assert names == classes


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("1,2\n3\n", None, "line 2: 1 values, but the first line has 2"),
        ("a,y\n1,0\nx,1\n", None, "line 3: 'x' is not a number"),
        ("a,y\n", None, "no rows"),
        ("1\n2\n", None, "at least two columns"),
        ("", None, "at least two columns"),
        ("a,y\n1,2\n", "z", "no column 'z'; its first line has a, y"),
        ("a,y\n1,2\n", "5", "no column '5'"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, target, message):
    with pytest.raises(UserError, match=message):
        convert.from_csv(table(tmp_path, text), target, ",")
