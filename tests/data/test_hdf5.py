"""Data sets in HDF5 files: however they are stored, mapped or read, and files that do not fit."""

import fcntl
import os

import h5py
import numpy as np
import pytest

from dbp.data import HDF5Dataset, data_path
from dbp.errors import DataError, StorageError, UserError

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
    assert data.layout is not None


def test_big_endian_and_a_user_block(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["inputs"], file["targets"] = X.astype(">f8"), Y
    examples = HDF5Dataset(tmp_path / "a.h5").read(np.array([3, 1]))
    np.testing.assert_array_equal(examples.inputs, X[[3, 1]])


def float_type(bias, sign, exponent, mantissa, size):
    """Return a number type: exponent and mantissa are (position, bits)."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(sign, *exponent, *mantissa)
    kind.set_size(size)
    kind.set_ebias(bias)
    return kind


def integer_type(bits, offset=0, size=2):
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(bits)
    kind.set_offset(offset)
    kind.set_size(size)
    return kind


TYPES = {
    "bfloat16": float_type(127, 15, (7, 8), (0, 7), 2),
    "float8": float_type(7, 7, (3, 4), (0, 3), 1),
    "another bias": float_type(100, 31, (23, 8), (0, 23), 4),
    "12 bits": integer_type(12),
    "12 bits higher up": integer_type(12, 4),
    "committed": h5py.h5t.IEEE_F32BE,
}


@pytest.mark.parametrize("kind", TYPES)
def test_numbers_of_types_that_hdf5_converts(tmp_path, kind):
    values = np.round(4 * X)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        column = h5py.h5d.create(file.id, b"inputs", TYPES[kind], h5py.h5s.create_simple(X.shape))
        column.write(h5py.h5s.ALL, h5py.h5s.ALL, values.astype(np.int16) if "bits" in kind else values)
        file["targets"], file["behind it"] = Y, np.ones(1000)
    data = HDF5Dataset(tmp_path / "a.h5")
    np.testing.assert_array_equal(data.read(np.array([7, 2, 22])).inputs, values[[7, 2, 22]])
    assert (data.layout is not None) == (kind == "committed")


def test_integers_of_three_bytes_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"inputs", integer_type(24, size=3), h5py.h5s.create_simple(X.shape))
        file["targets"] = Y
    with pytest.raises(UserError, match=r"a.h5: 'inputs' has numbers of a type that NumPy does not have, of 3 bytes"):
        HDF5Dataset(tmp_path / "a.h5")


def test_a_column_behind_a_link_is_read_from_the_file_that_it_is_in(tmp_path):
    write(tmp_path / "real.h5", x=X, y=Y)
    links = {"inputs": h5py.ExternalLink("real.h5", "x"), "targets": h5py.SoftLink("/group/y")}
    path = write(tmp_path / "linked.h5", ballast=RNG.random(9999), **links)
    with h5py.File(path, "a") as file:
        file["group/y"] = h5py.ExternalLink(str(tmp_path / "real.h5"), "y")
    examples = HDF5Dataset(path).read(np.array([5, 3]))
    np.testing.assert_array_equal(examples.inputs, X[[5, 3]])
    np.testing.assert_array_equal(examples.targets, Y[[5, 3]])


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("text"), os.mkfifo])
def test_a_link_to_what_is_no_hdf5_file_is_refused(tmp_path, make):
    make(tmp_path / "real.h5")
    path = write(tmp_path / "a.h5", group=h5py.ExternalLink("real.h5", "/"), targets=Y)
    with pytest.raises(DataError, match=r"'group/x' is a link to / in real.h5, which is missing or not an HDF5 file"):
        HDF5Dataset(path, inputs="group/x")


def test_weights_and_scale_are_found(tmp_path):
    path = write(tmp_path / "a.h5", inputs=X, targets=Y, weights=np.arange(23.0))
    with h5py.File(path, "a") as file:
        file["inputs"].attrs["scale"] = 0.5
    data = HDF5Dataset(path)
    assert data.scale == 0.5
    np.testing.assert_array_equal(data.read(slice(3, 5)).weights, [3, 4])
    assert HDF5Dataset(path, scale=2.0).scale == 2


@pytest.mark.parametrize(
    "value", ["minmax", [0.1, 0.0], [[0.1, 0.2]], h5py.Empty("f4"), 1j, np.nan, np.inf, 0, True, b"1"]
)
def test_a_scale_that_is_no_factor_is_named(tmp_path, value):
    path = write(tmp_path / "a.h5", inputs=X, targets=Y)
    with h5py.File(path, "a") as file:
        file["inputs"].attrs["scale"] = value
    with pytest.raises(UserError, match=r"a.h5: 'inputs': the attribute scale must be a finite number other than 0"):
        HDF5Dataset(path)
    assert HDF5Dataset(path, scale=3).scale == 3


def test_a_scale_in_an_array_of_one_is_taken(tmp_path):
    path = write(tmp_path / "a.h5", inputs=X, targets=Y)
    with h5py.File(path, "a") as file:
        file["inputs"].attrs["scale"] = [0.5]
    assert HDF5Dataset(path).scale == 0.5


def test_a_group_called_weights_is_not_taken_for_weights(tmp_path):
    assert HDF5Dataset(write(tmp_path / "a.h5", inputs=X, targets=Y, **{"weights/x": X})).read(slice(1)).weights is None
    path = write(tmp_path / "b.h5", inputs=X, targets=Y, weights=h5py.SoftLink("/nowhere"))
    with pytest.raises(UserError, match="'weights' is a link to '/nowhere', which does not"):
        HDF5Dataset(path)


def test_packaged_digits_tell_where_they_are_from():
    train, test = HDF5Dataset("dbp:digits-train"), HDF5Dataset("dbp:digits-test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.input_shape == (8, 8)
    with h5py.File(data_path(test.name)) as file:
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
        ({"inputs": 3.0, "targets": Y}, "one row per example, but inputs have none"),
        ({"inputs": h5py.Empty("f4"), "targets": Y}, "one row per example, but inputs have none"),
        ({"inputs": X, "targets": h5py.Empty("i4")}, "inputs have 23 rows and targets have none"),
        ({"inputs": X[:, :0], "targets": Y}, r"inputs have shape \(23, 0\), so an example has no numbers"),
        ({"inputs": X, "targets": X[:, :0]}, r"targets have shape \(23, 0\), so an example has no numbers"),
        ({"train/x": X, "train/y": Y}, "no data set 'inputs'; it has train/x, train/y: .* or with --set, such"),
        ({"inputs": h5py.SoftLink("/inputs"), "targets": Y}, "'inputs' cannot be read: .*too many links"),
        ({"inputs": {"shape": (23, 2**45), "chunks": (1, 9), "dtype": "f4"}, "targets": Y}, "too many for the memory"),
        ({str(i): Y for i in range(99)}, r"it has 0, 1, 10, .*, \.\.\.: name the right"),
    ],
)
def test_files_that_do_not_fit(tmp_path, columns, message):
    path = write(tmp_path / "a.h5", **columns)
    with pytest.raises(UserError, match=message) as caught:
        HDF5Dataset(path)
    assert "a.h5" in str(caught.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    os.mkfifo(tmp_path / "fifo.h5")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "zero.h5").symlink_to("/dev/zero")
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    for name, message in {
        "missing.h5": "does not exist",
        "loop.h5": "does not exist",
        "": "is a folder, not an HDF5 file",
        "fifo.h5": "is a FIFO, not an HDF5 file",
        "zero.h5": "is a device, not an HDF5 file",
        "text.h5": "is not an HDF5 file.*dbp convert",
        "rows.csv": r"is not an HDF5 file; make one with: dbp convert csv rows\.csv OUT\.h5; with --like TRAIN\.h5 ",
    }.items():
        with pytest.raises(UserError, match=f"data file {tmp_path / name} {message}"):
            HDF5Dataset(tmp_path / name)
    with pytest.raises(UserError, match=r"did you mean 'dbp:digits-train'"):
        HDF5Dataset("dbp:digits-trian")


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = write(tmp_path / "a.h5", inputs=X, targets=Y)
    os.truncate(path, path.stat().st_size - 9)
    with pytest.raises(DataError, match=r"data file .*a.h5 is damaged or cut off: .*truncated file"):
        HDF5Dataset(path)


def test_a_file_that_is_locked_names_both_causes(tmp_path):
    path = write(tmp_path / "a.h5", inputs=X, targets=Y)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"another program .* set HDF5_USE_FILE_LOCKING=FALSE .*Resource"):
            HDF5Dataset(path)


def test_a_damaged_chunk_is_named_with_its_file_and_row(tmp_path):
    path = write(tmp_path / "a.h5", inputs={"data": X, "chunks": (5, 4), "compression": "gzip"}, targets=Y)
    with h5py.File(path) as file:
        chunk = file["inputs"].id.get_chunk_info(2)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    data = HDF5Dataset(path)
    np.testing.assert_array_equal(data.read(slice(0, 10)).inputs, X[:10])
    with pytest.raises(DataError, match=r"a.h5: inputs of 5 examples from 10 to 14 cannot be read: .* inflated"):
        data.read(np.array([3, 12]))


def test_columns_of_a_role_have_names(tmp_path):
    path = write(tmp_path / "a.h5", pixels=X, age=X[:, :1], energy=Y, w=np.arange(23))
    data = HDF5Dataset(path, {"image": "pixels", "age": "age"}, {"energy": "energy"}, {"energy": "w"})
    found = data.read(slice(2, 4))
    assert list(found) == ["inputs.image", "inputs.age", "targets.energy", "weights.energy"]
    np.testing.assert_array_equal(found["inputs.age"], X[2:4, :1])
    np.testing.assert_array_equal(found["weights.energy"], [2, 3])
    assert set(data.meaning) == {"inputs.image", "inputs.age", "targets.energy"}


def test_how_a_group_is_written_is_said(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["train/inputs"] = np.ones((2, 2))
    for name, group in (("a.h5:", "train"), ("a.h5:test", "test")):
        with pytest.raises(UserError, match=rf"does not exist .*; a group in .*a.h5 is written .*a.h5:/{group}"):
            HDF5Dataset(tmp_path / name)
