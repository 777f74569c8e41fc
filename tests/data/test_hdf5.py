"""Data sets in HDF5 files: however they are stored, mapped or read, and files that do not fit."""

import h5py
import numpy as np
import pytest

from dbp.data import HDF5Dataset
from dbp.errors import UserError

RNG = np.random.default_rng(0)


def write(path, **columns):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if isinstance(values, dict):
                file.create_dataset(name, **values)
            else:
                file[name] = values
    return path


X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


@pytest.mark.parametrize("storage", [{}, {"chunks": (5, 4)}, {"chunks": (7, 2), "compression": "gzip"}])
def test_hdf5_rows_however_they_are_stored(tmp_path, storage):
    path = write(tmp_path / "a.h5", inputs={"data": X, **storage}, targets=Y)
    data = HDF5Dataset(path)
    assert len(data) == 23
    assert data.input_shape == (4,)
    for rows in (slice(3, 9), np.array([7, 2, 2, 22, 8, 9]), np.array([], int)):
        examples = data.read(rows)
        np.testing.assert_array_equal(examples.inputs, X[rows])
        np.testing.assert_array_equal(examples.targets, Y[rows])
        assert examples.weights is None


def test_rows_in_one_piece_are_mapped_not_read(tmp_path):
    data = HDF5Dataset(write(tmp_path / "a.h5", inputs=X, targets=Y))
    assert isinstance(data._columns[0], np.memmap)


def test_big_endian_and_a_user_block(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["inputs"], file["targets"] = X.astype(">f8"), Y
    examples = HDF5Dataset(tmp_path / "a.h5").read(np.array([3, 1]))
    np.testing.assert_array_equal(examples.inputs, X[[3, 1]])


def test_weights_and_scale_are_found(tmp_path):
    path = write(tmp_path / "a.h5", inputs=X, targets=Y, weights=np.arange(23.0))
    with h5py.File(path, "a") as file:
        file["inputs"].attrs["scale"] = 0.5
    data = HDF5Dataset(path)
    assert data.scale == 0.5
    np.testing.assert_array_equal(data.read(slice(3, 5)).weights, [3, 4])
    assert HDF5Dataset(path, scale=2.0).scale == 2


def test_packaged_digits_tell_where_they_are_from():
    train, test = HDF5Dataset("dbp:digits-train"), HDF5Dataset("dbp:digits-test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.input_shape == (8, 8)
    with h5py.File(test._columns[0].filename) as file:
        assert "CC BY 4.0" in file.attrs["license"]
        assert "UCI" in file.attrs["source"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"inputs": X, "targets": Y[:9]}, "one row per example.*inputs have 23 rows and targets have 9"),
        ({"inputs": X}, "no data set 'targets'; it has inputs"),
        ({"x": X, "y": Y}, "no data set 'inputs'; it has x, y.*data.inputs"),
        ({"inputs": X[:0], "targets": Y[:0]}, "has no examples"),
        ({"inputs": Y, "targets": Y}, "at least two axes"),
        ({"inputs": np.array([[b"a"]] * 23), "targets": Y}, "inputs must be numbers, but have type"),
        ({"inputs": X, "targets": 3}, "targets have none"),
    ],
)
def test_files_that_do_not_fit(tmp_path, columns, message):
    path = write(tmp_path / "a.h5", **columns)
    with pytest.raises(UserError, match=message) as caught:
        HDF5Dataset(path)
    assert "a.h5" in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"missing.h5 does not exist"):
        HDF5Dataset(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(UserError, match=r"text.h5 is not an HDF5 file.*dbp convert"):
        HDF5Dataset(tmp_path / "text.h5")
    with pytest.raises(UserError, match=r"is not an HDF5 file"):
        HDF5Dataset(tmp_path)
    with pytest.raises(UserError, match=r"did you mean 'dbp:digits-train'"):
        HDF5Dataset("dbp:digits-trian")
