"""Data sets in archives of NumPy and in a file for each column: mapped where they can be, else held."""

import io
import zipfile

import numpy as np
import pytest

from dbp.data import ColumnNames, FileSource, layout_of
from dbp.data.columns import HeldColumn
from dbp.data.mapped import MappedColumn
from dbp.errors import UserError

RNG = np.random.default_rng(0)
X, Y, W = RNG.standard_normal((20, 3)).astype(">f4"), RNG.integers(0, 3, 20), RNG.random(20)
ROWS = [slice(0, 20), slice(4, 9), np.array([19, 0, 7, 7])]
NAMES = ColumnNames("x", "y", "w")


def same(data):
    for rows in ROWS:
        found = data.read(rows)
        for column, expected in (("inputs", X), ("targets", Y), ("weights", W)):
            np.testing.assert_array_equal(found[column], expected[rows])
            if isinstance(rows, slice):
                into = np.empty_like(found[column])
                data.columns[column].read_into(range(rows.start, rows.stop), into)
                np.testing.assert_array_equal(into, expected[rows])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives(tmp_path, save):
    save(tmp_path / "a.npz", x=X, y=Y, w=W)
    source = FileSource([f"{tmp_path}/a.npz"], NAMES)
    data = source.open()
    same(data)
    same(source.open_as(layout_of(data)))
    is_mapped = save is np.savez
    assert isinstance(data.columns["inputs"], MappedColumn if is_mapped else HeldColumn)
    assert bool(data.warnings) != is_mapped
    assert "targets" not in source.open(with_targets=False).columns


def test_arrays_in_fortrans_order_and_names_by_default(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.asfortranarray(X), targets=Y, weights=W)
    same(FileSource([f"{tmp_path}/a.npz"]).open())


def test_several_archives_are_one_data_set(tmp_path):
    for i, rows in enumerate((slice(0, 6), slice(6, 20))):
        np.savez(tmp_path / f"{i}.npz", x=X[rows], y=Y[rows], w=W[rows])
    same(FileSource([f"{tmp_path}/*.npz"], NAMES).open())


def test_a_file_for_each_column(tmp_path):
    for name, values in {"x": X, "y": Y, "w": W}.items():
        np.save(tmp_path / f"{name}.npy", values)
    source = FileSource([], ColumnNames(*(f"{tmp_path}/{name}.npy" for name in "xyw")), scale=2.0)
    data = source.open()
    same(data)
    assert data.scale == 2.0
    assert source.paths() == data.paths() == [tmp_path / f"{name}.npy" for name in "xyw"]
    alone = FileSource([f"{tmp_path}/x.npy"]).open(with_targets=False)
    np.testing.assert_array_equal(alone.read(slice(2, 5)).inputs, X[2:5])
    with pytest.raises(UserError, match=r"x.npy: is one array; name a file for each column, such as \{ inputs = "):
        FileSource([f"{tmp_path}/x.npy"]).open()


def spoiled(tmp_path, change):
    np.save(tmp_path / "x.npy", X)
    change(tmp_path / "x.npy")
    return FileSource([f"{tmp_path}/x.npy"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-5]),
            r"x.npy: has 363 bytes, but its shape \(20, 3\) needs 368",
        ),
        (lambda path: path.write_bytes(b"text"), "x.npy: damaged, or no array of NumPy: "),
        (lambda path: path.unlink(), "x.npy cannot be read: No such file"),
        (lambda path: np.save(path, np.asfortranarray(X)), "x.npy: is in Fortran's order"),
        (lambda path: np.save(path, np.array(["a", "b"])), "x.npy: inputs must be numbers, but have type <U1"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "x.npy: "),
    ],
)
def test_files_that_do_not_fit(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        spoiled(tmp_path, change).open(with_targets=False)


def test_archives_that_do_not_fit(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    with pytest.raises(UserError, match=r"a.npz: has no array 'w' for the weights; it has x, y: name the right ones"):
        FileSource([f"{tmp_path}/a.npz"], NAMES).open()
    with pytest.raises(UserError, match=r"data.mask and data.offsets need HDF5 files"):
        FileSource([f"{tmp_path}/a.npz"], ColumnNames("x", "y", mask="m")).open()
    content = io.BytesIO()
    np.save(content, X)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("inputs.npy", content.getvalue()[:-4])
    with pytest.raises(UserError, match=r"b.npz: damaged, or no npz archive of plain arrays: 'inputs' is shorter"):
        FileSource([f"{tmp_path}/b.npz"]).open(with_targets=False)


def test_columns_that_no_model_sees_are_read_by_name(tmp_path):
    for i, rows in enumerate((slice(0, 6), slice(6, 20))):
        np.savez(tmp_path / f"{i}.npz", x=X[rows], y=Y[rows], subject=Y[rows].astype("U3"))
    source = FileSource([f"{tmp_path}/*.npz"], ColumnNames("x", "y"))
    np.testing.assert_array_equal(source.read_column("subject"), Y.astype("U3"))
    with pytest.raises(UserError, match=r"0.npz: has no array 'group'; it has x, y, subject"):
        source.read_column("group")
    with pytest.raises(UserError, match=r"x.npy: column 'group' is in no file, as each column is a file of its own"):
        FileSource([], ColumnNames("x.npy", "y.npy")).read_column("group")
