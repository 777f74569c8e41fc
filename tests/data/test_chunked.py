"""Columns in chunks that are read without HDF5: the same bits as HDF5 reads, and files that are damaged."""

import ctypes
import itertools
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.data import HDF5Dataset, chunked, mapped
from dbp.data.chunk_index import chunk_table
from dbp.data.chunked import ChunkedColumn
from dbp.data.open_file import OpenFile
from dbp.errors import DataError
from tests.data.test_hdf5_fuzz import fuzz

RNG, NUMBERS_OF_FILES = np.random.default_rng(0), itertools.count()
DTYPES = ["f2", "f4", ">f8", "g", "u1", "<i8", ">u2", "?"]
X, Y = RNG.integers(0, 9, (23, 4)).astype(np.float32), np.arange(23) % 3


def column_of(path, name="inputs"):
    """Return a column as a process reads it that does not import HDF5, and as h5py reads it."""
    with h5py.File(path) as file:
        table = chunk_table(file[name], "it")
        expected = file[name][:]
    return ChunkedColumn(OpenFile(path), name, pickle.loads(pickle.dumps(table))), expected


def bits(numbers):
    """Return the bytes of numbers, but for the unused ones of long double, which HDF5 does not always write."""
    used = 10 if numbers.dtype == np.longdouble and np.finfo(np.longdouble).nmant == 63 else numbers.dtype.itemsize
    return (
        np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).reshape(-1, numbers.dtype.itemsize)[:, :used].tobytes()
    )


@st.composite
def stored(draw):
    """Return the options of a column, its numbers, and the rows that are written."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    chunks = tuple(draw(st.integers(1, size + 2)) for size in shape)
    options = {
        "chunks": chunks,
        "maxshape": (None,) * len(shape),
        "compression": draw(st.sampled_from([None, 1, 9])),
        "shuffle": draw(st.booleans()),
        "fletcher32": draw(st.booleans()),
        "fillvalue": draw(st.sampled_from([None, 1])),
    }
    numbers = np.random.default_rng(draw(st.integers(0, 99))).integers(0, draw(st.sampled_from([2, 120])), shape)
    dtype, written = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.integers(1, shape[0]))
    return options, numbers.astype(dtype), slice(draw(st.integers(0, written - 1)), written)


@fuzz(200)
@given(case=stored(), user_block=st.sampled_from([0, 0, 512, 4096]), library=st.sampled_from(["earliest", "latest"]))
def test_rows_have_the_bits_that_hdf5_reads(tmp_path, case, user_block, library):
    options, numbers, written = case
    path = tmp_path / f"{next(NUMBERS_OF_FILES)}.h5"
    with h5py.File(path, "w", userblock_size=user_block, libver=library) as file:
        file.create_dataset("inputs", numbers.shape, numbers.dtype, **options)[written] = numbers[written]
    column, expected = column_of(path)
    assert (column.dtype, column.shape) == (expected.dtype, expected.shape)
    count = len(numbers)
    for rows in (slice(0, count), slice(count // 2, 99), np.array([count - 1, 0, 0, count // 2]), np.array([], int)):
        found = column.read(rows)
        assert bits(found) == bits(expected[rows])
        assert found.dtype == expected.dtype
    for first, stop in [*itertools.pairwise(column.borders), (count // 2, count)]:
        into = np.empty((stop - first, *numbers.shape[1:]), numbers.dtype)
        column.read_into(range(first, stop), into)
        assert bits(into) == bits(expected[first:stop])


@pytest.mark.parametrize("split", [4, 1])
def test_a_column_keeps_few_units_and_reads_large_split_ones_in_parts(tmp_path, monkeypatch, split):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("inputs", data=X, chunks=(5, split), compression="gzip")
    monkeypatch.setattr(chunked, "KEPT_BYTES", 3 * 20)
    column, expected = column_of(tmp_path / "a.h5")
    np.testing.assert_array_equal(column.read(np.arange(23)[::-1]), expected[::-1])
    np.testing.assert_array_equal(column.read(slice(2, 13)), expected[2:13])
    assert len(column._kept) == (1 if split == 4 else 0)


def test_filters_that_single_chunks_have_not_gone_through(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("inputs", X.shape, "f4", chunks=(5, 4), compression="gzip", shuffle=True)
        data[:] = X
        data.id.write_direct_chunk((5, 0), X[5:10].tobytes(), filter_mask=3)
    column, expected = column_of(path)
    np.testing.assert_array_equal(expected, X)
    np.testing.assert_array_equal(column.read(slice(0, 23)), X)


@pytest.mark.parametrize(
    "options", [{"shuffle": True}, {"compression": 9}, {"shuffle": True, "fletcher32": True}], ids=str
)
@pytest.mark.parametrize("is_filtered", [True, False])
def test_chunks_at_the_ends_that_hdf5_leaves_unfiltered(tmp_path, options, is_filtered):
    library = ctypes.CDLL(
        next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libhdf5" in line)
    )
    library.H5Pset_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        like = file.create_dataset("like", X.shape, "f4", chunks=(5, 3), **options)
        properties = like.id.get_create_plist()
        assert library.H5Pset_chunk_opts(properties.id, 0 if is_filtered else 2) == 0
        space = h5py.h5s.create_simple(X.shape)
        data = h5py.h5d.create(file.id, b"inputs", h5py.h5t.NATIVE_FLOAT, space, dcpl=properties)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, X)
    column, expected = column_of(path)
    assert column.table.skipped.any() == (not is_filtered)
    np.testing.assert_array_equal(column.read(slice(0, 23)), expected)


def test_filters_that_only_hdf5_undoes_leave_the_column_to_it(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("inputs", data=X, chunks=(5, 4), compression="lzf")
        file["targets"] = Y
    data = HDF5Dataset(path)
    assert data.layout is None
    np.testing.assert_array_equal(data.read(np.array([22, 3])).inputs, X[[22, 3]])


def test_a_layout_is_enough_to_read_chunks(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("inputs", data=X, chunks=(5, 4), compression="gzip", shuffle=True)
        file.create_dataset("targets", data=Y, chunks=(7,))
    found = HDF5Dataset(path)
    other = mapped(str(path), pickle.loads(pickle.dumps(found.layout)))
    for data in (found, other):
        np.testing.assert_array_equal(data.read(np.array([22, 3])).inputs, X[[22, 3]])
        np.testing.assert_array_equal(data.read(slice(3, 9)).targets, Y[3:9])


# --- damage -------------------------------------------------------------------------------------------


@pytest.fixture(params=[{"compression": "gzip"}, {"fletcher32": True}, {}], ids=str)
def column(request, tmp_path):
    """Return a column of five units, the path of its file and its chunks."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("inputs", data=RNG.random((23, 400)), chunks=(5, 400), **request.param)
        chunks = [data.id.get_chunk_info(number) for number in range(5)]
    return column_of(path)[0], path, chunks


def test_a_damaged_chunk_is_named_and_others_are_read(column):
    column, path, chunks = column
    with path.open("r+b") as file:
        file.seek(chunks[2].byte_offset + 20)
        file.write(b"damage")
    column.read(slice(0, 10))
    if column.table.filters:
        with pytest.raises(DataError, match=r"file .*a.h5: inputs of 5 examples from 10 to 14 cannot be read: .*chunk"):
            column.read(np.array([3, 12]))


def test_a_file_that_is_cut_off_while_it_is_open_is_named(column):
    column, path, chunks = column
    os.truncate(path, chunks[3].byte_offset + 7)
    column.read(slice(0, 15))
    with pytest.raises(DataError, match=r"inputs of 5 examples from 15 to 19 cannot be read: the file was cut off"):
        column.read(np.array([3, 19]))
    with pytest.raises(DataError, match=r"inputs cannot be read: the file was cut off"):
        ChunkedColumn(OpenFile(path), "inputs", column.table)


def test_a_chunk_behind_the_end_of_the_file_is_named_at_the_start(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("inputs", data=X, chunks=(5, 4))
    with h5py.File(path) as file:
        os.truncate(path, path.stat().st_size - 30)
        with pytest.raises(DataError, match=r"it of examples from \d+ to \d+ cannot be read: .* file is damaged"):
            chunk_table(file["inputs"], "it")
