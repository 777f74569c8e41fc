"""Columns that are mapped: rows small and large, and files that are cut off while they are mapped."""

import errno
import mmap
import os
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dbp.data import HDF5Dataset
from dbp.data.mapped import LARGE_ROW_BYTES, Column, open_columns
from dbp.errors import DataError, UserError
from tests.processes import run

ROW = LARGE_ROW_BYTES // 4


@pytest.fixture
def numbers(tmp_path):
    """Return the path of a file of 40 large rows, and the rows."""
    values = np.random.default_rng(0).integers(0, 1000, (40, ROW)).astype(np.int32)
    values.tofile(tmp_path / "numbers")
    return tmp_path / "numbers", values


@pytest.mark.parametrize("width", [ROW, 50])
@pytest.mark.parametrize("offset", [0, 5000])
def test_rows_are_those_of_the_file(numbers, width, offset):
    path, values = numbers
    expected = values.ravel()[offset // 4 :][: 39 * width].reshape(39, width)
    column = open_columns(path, {"x": Column(np.dtype(np.int32), (39, width), offset)})["x"]
    for rows in (slice(3, 9), slice(30, 99), np.array([7, 2, 2, 38, 8, 9]), np.array([], int), slice(5, 5)):
        np.testing.assert_array_equal(column.read(rows), expected[rows])


def test_rows_are_read_where_the_system_maps_no_files(numbers, monkeypatch):
    path, values = numbers

    def refuse(*_, **__):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    column = open_columns(path, {"x": Column(np.dtype(np.int32), (40, ROW // 2), 0)})["x"]
    np.testing.assert_array_equal(column.read(np.array([9, 4])), values.reshape(80, -1)[[9, 4]])


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(UserError, match=r"data file .*gone cannot be read: No such file"):
        open_columns(tmp_path / "gone", {})


@pytest.mark.parametrize("left", [0, 100])
@pytest.mark.parametrize("width", [ROW, 50])
@pytest.mark.parametrize("rows", [slice(0, 20), np.array([30, 2])])
def test_a_file_that_is_cut_off_while_it_is_open_is_named(numbers, left, width, rows):
    path, _ = numbers
    column = open_columns(path, {"x": Column(np.dtype(np.int32), (40, width), 0)})["x"]
    column.read(rows)
    os.truncate(path, left)
    for _ in range(2):
        with pytest.raises(DataError, match=f"numbers: x.* cannot be read: the file was cut off to {left:,} bytes"):
            column.read(rows)


def test_pages_that_were_lost_are_not_read_as_zeros_once_the_file_is_back(numbers):
    path, values = numbers
    column = open_columns(path, {"x": Column(np.dtype(np.int32), (40, 50), 0)})["x"]
    os.truncate(path, 0)
    with pytest.raises(DataError, match="cut off"):
        column.read(np.array([30, 2]))
    values.tofile(path)
    with pytest.raises(DataError, match=r"x of 2 examples from 2 to 30 cannot be read"):
        column.read(np.array([30, 2]))


def test_a_bus_error_of_another_map_still_ends_the_process(numbers):
    path, _ = numbers
    code = f"""if True:
        import mmap, os, numpy as np
        from dbp.data.mapped import Column, open_columns
        open_columns({str(path)!r}, {{"x": Column(np.dtype(np.int32), (40, 50), 0)}})
        other = mmap.mmap(os.open({str(path)!r}, os.O_RDONLY), 0, access=mmap.ACCESS_READ)
        os.truncate({str(path)!r}, 0)
        other[9]
    """
    assert run(sys.executable, "-c", code).code == -signal.SIGBUS


def test_a_layout_whose_column_lies_behind_the_end_of_the_file_is_refused(numbers):
    path, _ = numbers
    with pytest.raises(DataError, match=r"x cannot be read: the file was cut off"):
        open_columns(path, {"x": Column(np.dtype(np.int32), (41, ROW), 0)})


def times_open(path):
    return [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()].count(str(path))


def test_files_stay_open_no_longer_than_their_data_set(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inputs"], file["targets"] = np.zeros((9, 4)), np.zeros(9)
    data = HDF5Dataset(tmp_path / "a.h5")
    data.read(np.array([1, 5]))
    assert times_open(tmp_path / "a.h5") > 0
    del data
    assert times_open(tmp_path / "a.h5") == 0
