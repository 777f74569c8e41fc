"""Columns whose rows lie in other files: the same bits as HDF5 reads, and sources that only HDF5 can read."""

import itertools
import os
import pickle

import h5py
import numpy as np
import pytest

from dbp.data import HDF5Dataset, mapped, parts
from dbp.errors import DataError

RNG = np.random.default_rng(0)
X, Y = RNG.random((40, 3)).astype(np.float32), np.arange(40)
STORED = {"a": {}, "b": {"chunks": (4, 3), "compression": "gzip"}, "c": {"chunks": (3, 2)}}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three files, of 20 rows each, that are stored in different ways."""
    for name, storage in STORED.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("x", data=RNG.random((20, 3), np.float32), **storage)
    return tmp_path


def written(path, *shown, shape=(40, 3), dtype="f4"):
    """Write a virtual column; each part is its place in it, a file, and the place there."""
    layout = h5py.VirtualLayout(shape, dtype)
    for place, name, source in shown:
        layout[place] = h5py.VirtualSource(f"{name}.h5", "x", (20, 3), dtype="f4")[source]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("inputs", layout)
        file["targets"] = Y[: shape[0]]
    return path


def check(path, is_resolved=True):
    """Check the rows against those that h5py reads, in this data set and in one that another process would have."""
    with h5py.File(path) as file:
        expected = file["inputs"][:]
    found = HDF5Dataset(path)
    assert (found.layout is not None) == is_resolved
    others = [mapped(str(path), pickle.loads(pickle.dumps(found.layout)))] if is_resolved else []
    count = len(expected)
    for data in (found, *others):
        for rows in (slice(0, count), slice(13, 29), np.array([count - 1, 0, 0, 19, count // 2, 7]), np.array([], int)):
            np.testing.assert_array_equal(data.read(rows).inputs, expected[rows])
        for first, stop in itertools.pairwise([0, 4, 13, count]):
            into = {"inputs": np.empty((stop - first, 3), "f4"), "targets": np.empty(stop - first, int)}
            data.read_into(range(first, stop), into)
            np.testing.assert_array_equal(into["inputs"], expected[first:stop])
    return found


@pytest.mark.parametrize("most_open", [64, 1])
def test_whole_rows_of_sources_are_read_from_their_files(folder, monkeypatch, most_open):
    monkeypatch.setattr(parts, "MOST_OPEN", most_open)
    whole = slice(None)
    check(written(folder / "v.h5", (slice(0, 20), "a", whole), (slice(20, 40), "b", whole)))
    check(written(folder / "w.h5", (slice(13, 40), "b", whole), shape=(33, 3)), is_resolved=False)
    found = check(
        written(
            folder / "u.h5",
            (slice(15, 31), "c", slice(3, 19)),
            (slice(0, 15), "b", slice(2, 17)),
            (slice(31, 40), "a", slice(11, 20)),
        )
    )
    assert found.borders.tolist() == [0, 2, 6, 10, 14, 15, 18, 21, 24, 27, 30, 31, 40]


def test_sources_in_one_piece_have_no_borders(folder):
    path = written(folder / "v.h5", (slice(0, 20), "a", slice(None)), (slice(20, 40), "a", slice(None)))
    assert check(path).borders is None


ODD = {
    "a row left out": [(slice(0, 19), "a", slice(0, 19)), (slice(20, 40), "b", slice(None))],
    "columns of two files": [
        (np.s_[0:20, :2], "a", np.s_[:, :2]),
        (np.s_[0:20, 2:], "b", np.s_[:, 2:]),
        (slice(20, 40), "b", slice(None)),
    ],
    "every second row": [(slice(0, 20), "a", slice(None)), (slice(20, 30), "b", slice(0, 20, 2))],
    "rows that lie over others": [(slice(0, 20), "a", slice(None)), (slice(10, 30), "b", slice(None))],
}


@pytest.mark.parametrize("shown", ODD.values(), ids=ODD)
def test_other_sources_are_read_through_hdf5(folder, shown):
    check(written(folder / "v.h5", *shown, shape=(30 if len(shown) == 2 and shown[1][0].stop == 30 else 40, 3)), False)


def test_numbers_of_another_type_are_read_through_hdf5(folder):
    whole = (slice(0, 20), "a", slice(None)), (slice(20, 40), "b", slice(None))
    check(written(folder / "v.h5", *whole, dtype="f8"), is_resolved=False)


def test_a_column_behind_a_link_is_read_from_its_file(folder):
    with h5py.File(folder / "v.h5", "w") as file:
        file["inputs"] = h5py.ExternalLink("b.h5", "x")
        file["targets"] = Y[:20]
    data = check(folder / "v.h5")
    assert data.borders.tolist() == [0, 4, 8, 12, 16, 20]


def test_a_source_of_another_size_does_not_fit_and_one_that_is_cut_off_is_named(folder):
    data = HDF5Dataset(written(folder / "v.h5", (slice(0, 20), "a", slice(None)), (slice(20, 40), "b", slice(None))))
    assert data.layout.fits(folder / "v.h5")
    os.truncate(folder / "b.h5", 100)
    assert not data.layout.fits(folder / "v.h5")
    with pytest.raises(DataError, match=r"b.h5: inputs of 4 examples from 4 to 7 cannot be read: the file was cut off"):
        data.read(np.array([24]))
