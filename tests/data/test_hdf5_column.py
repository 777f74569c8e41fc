"""Attributes of columns in files of NetCDF-4, which are HDF5."""

import h5py
import numpy as np
import pytest

from dbp.data import ColumnNames, FileSource, RowCheck, check_blocks
from dbp.errors import UserError
from tests.data.opening import opened

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
Y = np.arange(6) % 3


@pytest.mark.parametrize("storage", [{}, {"chunks": (2, 2), "compression": "gzip"}, {"compression": "lzf"}])
def test_packed_integers_of_netcdf_are_floats_with_scale_and_shift(tmp_path, storage):
    stored = np.array([[1, 2], [-999, 4], [5, 6]], "i2")
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.create_dataset("t", data=stored, **storage).attrs.update(
            {"scale_factor": 0.5, "add_offset": 2.0, "_FillValue": np.array([-999], "i2"), "units": "K"}
        )
        file["y"], file["weights"] = [0, 1, 2], [1, 0, 1]
    for data in opened(FileSource([f"{tmp_path}/a.nc"], ColumnNames("t", "y"))):
        meaning = data.meaning["inputs"]
        assert (meaning.kind, meaning.scale, meaning.shift, meaning.units) == ("floats", 0.5, 2.0, ("K", "K"))
        for rows in (slice(0, 3), np.array([2, 1, 0])):
            expected = np.where(stored[rows] == -999, np.nan, stored[rows].astype("f4"))
            np.testing.assert_array_equal(data.read(rows).inputs, expected)
        into = np.empty((2, 2), "f4")
        data.columns["inputs"].read_into(range(1, 3), into)
        np.testing.assert_array_equal(into, [[np.nan, 4], [5, 6]])
        check_blocks(data, range(1), np.dtype("float32"), lambda examples, first: None)  # as its weight is 0


def test_a_missing_value_is_told_like_nan(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["inputs"], file["targets"] = np.where(np.arange(24).reshape(6, 4) == 9, np.float32(1e20), X), Y
        file["inputs"].attrs["missing_value"] = np.float32(1e20)
        file["targets"].attrs["_FillValue"] = 2  # of integers without a scale: class 2 is no missing value
    data = FileSource([f"{tmp_path}/a.nc"]).open()
    with pytest.raises(UserError, match=r"a\.nc: inputs must be finite, but those of example 2 contain nan"):
        RowCheck(data, np.dtype("float32"), lambda examples, first: None)(data.read(slice(0, 6)), np.arange(6))
    np.testing.assert_array_equal(data.read(slice(0, 6)).targets, Y)
