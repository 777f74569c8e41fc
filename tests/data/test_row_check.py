"""Rows that are checked as they are first read, and the identity of data that is not read whole."""

import os

import h5py
import numpy as np
import pytest

from dbp.data import ArrayDataset, Examples, FileSource, RowCheck, identity_of, is_checked_at_start, stored_bytes
from dbp.data import is_same_but_written_since as written_since
from dbp.data.identity import CHECKED_AT_START_BYTES
from dbp.errors import UserError

X, Y = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32), np.arange(30) % 3


def check_of(data, targets=lambda examples, first: None):
    return RowCheck(data, np.dtype("float32"), targets)


@pytest.mark.parametrize("rows", [[5, 17, 2], [17], [17, 17]])
def test_a_bad_row_is_named_wherever_it_is_read(rows):
    x = X.copy()
    x[17, 2] = np.inf
    data, rows = ArrayDataset(x, Y), np.array(rows)
    with pytest.raises(UserError, match=r"^the arrays: inputs must be finite, but those of example 17 contain inf"):
        check_of(data)(data.read(rows), rows)
    check_of(data)(data.read(np.array([5, 2])), np.array([5, 2]))
    check_of(data)(data.read(np.array([], int)), np.array([], int))


def test_bad_targets_are_named_by_row():
    def targets(examples, first):
        if examples.targets.max() > 2:
            raise UserError(f"the class of example {first + examples.targets.argmax()} is too large")

    data, rows = ArrayDataset(X, np.where(np.arange(30) == 9, 5, Y)), np.array([20, 9, 3])
    with pytest.raises(UserError, match=r"^the arrays: the class of example 9 is too large$"):
        check_of(data, targets)(data.read(rows), rows)


def test_a_bad_row_of_several_files_is_named_by_file(tmp_path):
    for i, x in enumerate((X[:10], np.where(X[10:] == X[12], np.nan, X[10:]))):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["inputs"], file["targets"] = x, Y[: len(x)]
    data, rows = FileSource([f"{tmp_path}/*.h5"]).open(), np.array([4, 29, 12])
    with pytest.raises(UserError, match=r"^.*/1\.h5: inputs must be finite, but those of example 2 contain nan"):
        check_of(data)(data.read(rows), rows)


def write(path, **attributes):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = X, Y
        file["inputs"].attrs.update(attributes)
    return FileSource([str(path)])


def test_data_is_known_by_sizes_attributes_and_rows_and_told_by_time(tmp_path):
    source = write(tmp_path / "a.h5")
    first = identity_of(source.open())
    assert first == identity_of(source.open())
    os.utime(tmp_path / "a.h5", ns=(1, 1))
    copied = identity_of(source.open())
    assert first != copied
    assert written_since(first, copied)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["inputs"][29, 0] += 1
    changed = identity_of(source.open())
    scaled = identity_of(write(tmp_path / "a.h5", scale=2.0).open())
    for other in (changed, scaled, "digest", None):
        assert not written_since(first, other)
    assert not written_since(first, first)


class Large(ArrayDataset):
    """A data set that says it has more rows than it has."""

    count = 1

    def __len__(self):
        return self.count


def test_only_small_data_is_checked_at_the_start():
    data = Large(X, Y)
    data.count = CHECKED_AT_START_BYTES // 24
    assert stored_bytes(data) == 24 * data.count
    assert is_checked_at_start(data)
    data.count += 1
    assert not is_checked_at_start(data)
    assert isinstance(data.read(slice(0, 1)), Examples)
