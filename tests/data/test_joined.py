"""Several files as one data set: rows, units, differences, and few open files."""

import pickle
import resource
import sys
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from dbp.data import ColumnNames, FileSource, check_blocks, layout_of
from dbp.data.joined import JoinedColumn, JoinedDataset
from dbp.errors import DataError, UserError
from tests.processes import output_of

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 3)).astype(np.float32), RNG.integers(0, 3, 40)
STORAGE = {
    "contiguous": {},
    "chunked": {"chunks": (4, 3), "compression": "gzip"},
    "through HDF5": {"compression": "lzf"},
}


def write(path, rows, storage, **attributes):
    with h5py.File(path, "w") as file:
        file.create_dataset("inputs", data=X[rows], **storage).attrs.update(attributes)
        file["targets"] = Y[rows]
    return str(path)


def three_files(folder, storages):
    parts = (slice(0, 10), slice(10, 27), slice(27, 40))
    return [write(folder / f"{i}.h5", *part) for i, part in enumerate(zip(parts, storages, strict=True))]


ROWS = [slice(0, 40), slice(8, 30), slice(12, 12), np.array([39, 0, 10, 9, 10]), np.array([], int), np.arange(11, 26)]
KINDS = [*([kind] * 3 for kind in STORAGE), list(STORAGE)]


@pytest.mark.parametrize("kinds", KINDS)
def test_rows_of_several_files_are_those_of_one(tmp_path, kinds):
    source = FileSource(three_files(tmp_path, [STORAGE[kind] for kind in kinds]))
    opened = source.open()
    elsewhere = source.open_as(pickle.loads(pickle.dumps(layout_of(opened))))
    for data in (opened, elsewhere):
        assert isinstance(data, JoinedDataset)
        assert len(data) == 40
        assert data.input_shape == (3,)
        for rows in ROWS:
            found = data.read(rows)
            np.testing.assert_array_equal(found.inputs, X[rows])
            np.testing.assert_array_equal(found.targets, Y[rows])
            np.testing.assert_array_equal(data.columns["inputs"].read(rows), X[rows])


@pytest.mark.parametrize("kinds", KINDS)
def test_each_file_begins_a_unit(tmp_path, kinds):
    column = FileSource(three_files(tmp_path, [STORAGE[kind] for kind in kinds])).open().columns["inputs"]
    assert isinstance(column, JoinedColumn)
    if kinds[1] == "contiguous":
        assert column.borders is None
        return
    borders = column.borders.tolist()
    assert {0, 10, 27, 40} <= set(borders)
    assert ("chunked" not in kinds) or {14, 18, 22, 26} <= set(borders)
    for first, stop in [*pairwise(borders), (8, 33)]:
        into = np.empty((stop - first, 3), np.float32)
        column.read_into(range(first, stop), into)
        np.testing.assert_array_equal(into, X[first:stop])


def test_files_and_groups_have_names_of_their_own(tmp_path):
    for i, rows in enumerate((slice(0, 15), slice(15, 40))):
        with h5py.File(tmp_path / f"all-{i}.h5", "w") as file:
            file["train/pixels"], file["train/labels/kind"] = X[rows], Y[rows]
            file["train/weights"] = np.ones(len(Y[rows]))
    source = FileSource([f"{tmp_path}/all-*.h5:/train"], ColumnNames("pixels", "/train/labels/kind"))
    found = source.open().read(np.array([3, 20]))
    np.testing.assert_array_equal(found.inputs, X[[3, 20]])
    np.testing.assert_array_equal(found.targets, Y[[3, 20]])
    np.testing.assert_array_equal(found.weights, [1, 1])
    assert [path.name for path in source.paths()] == ["all-0.h5", "all-1.h5"]
    assert "targets" not in source.open(with_targets=False).columns
    missing = r"has no data set '/train/x'; it has train/labels/kind, train/pixels, train/weights: name"
    with pytest.raises(UserError, match=missing):
        FileSource([f"{tmp_path}/all-0.h5:/train"], ColumnNames("x")).open()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"data": X[:5].astype("f8")},
            r"b.h5: the type of inputs is float64, but float32 in .*a.h5; .*convert hdf5 ",
        ),
        (
            {"data": X[:5, :2]},
            r"b.h5: the shape of an example of inputs is \(2,\), but \(3,\) in .*: write them alike",
        ),
        ({"data": X[:5], "scale": 2.0}, r"b.h5: the meaning of inputs is floats; scale 2.0, but floats in .*a.h5"),
        ({"data": X[:5], "weights": 1}, r"b.h5: the type of weights is int64, but none in .*a.h5"),
    ],
)
def test_files_that_are_not_alike_are_named(tmp_path, other, message):
    write(tmp_path / "a.h5", slice(0, 40), {})
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["inputs"], file["targets"] = other["data"], Y[:5]
        if "scale" in other:
            file["inputs"].attrs["scale"] = other["scale"]
        if "weights" in other:
            file["weights"] = np.ones(5, int)
    with pytest.raises(UserError, match=message):
        FileSource([f"{tmp_path}/a.h5", f"{tmp_path}/b.h5"]).open()


def test_a_file_that_has_changed_is_named(tmp_path):
    files = three_files(tmp_path, [STORAGE["contiguous"]] * 3)
    source = FileSource(files)
    data = source.open_as(layout_of(source.open()))
    Path(files[1]).unlink()
    write(files[1], slice(0, 5), {})
    np.testing.assert_array_equal(data.read(slice(0, 10)).inputs, X[:10])
    with pytest.raises(DataError, match=r"^data file .*1\.h5: has changed since the start; restore the file"):
        data.read(slice(8, 12))


MANY = """
import resource, sys
import numpy as np
from dbp.data import FileSource, layout_of
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
source = FileSource([sys.argv[1] + "/*.h5"])
opened = source.open()
sets = [opened, source.open_as(layout_of(opened)), source.open_as(layout_of(opened))]
rows = np.random.default_rng(0).permutation(len(opened))
for data in sets:
    assert (data.read(rows).inputs == rows[:, None]).all()
print(len(opened))
"""


@pytest.mark.slow
@pytest.mark.parametrize("storage", [{}, {"chunks": (2, 2)}])
def test_a_thousand_files_need_few_descriptors(tmp_path, storage):
    for i in range(1000):
        with h5py.File(tmp_path / f"{i:03}.h5", "w") as file:
            file.create_dataset("inputs", data=np.array([[2 * i, 2 * i], [2 * i + 1, 2 * i + 1]], "f4"), **storage)
            file["targets"] = np.zeros(2, int)
    assert output_of(sys.executable, "-c", MANY, tmp_path).strip() == "2000"


def test_the_limit_of_open_files_is_raised_where_it_may_be(tmp_path):
    files = three_files(tmp_path, [STORAGE["contiguous"]] * 3)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert len(FileSource(files).open()) == 40
    after = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert after[0] >= before[0]
    assert after[1] == before[1]


def test_a_bad_number_is_told_with_its_file_and_its_row_there(tmp_path):
    files = three_files(tmp_path, [STORAGE["contiguous"]] * 3)
    with h5py.File(files[1], "r+") as file:
        file["inputs"][4, 1] = np.nan
    data = FileSource(files).open()
    with pytest.raises(UserError, match=r"^.*1\.h5: inputs must be finite, but those of example 4 contain nan"):
        check_blocks(data, range(1), np.dtype("float32"), lambda examples, first: None)


def test_names_of_examples_go_with_their_files(tmp_path):
    files = three_files(tmp_path, [STORAGE["contiguous"]] * 3)
    names = [f"{'long' * (i > 30)}{i}" for i in range(40)]
    for name, rows in zip(files, (slice(0, 10), slice(10, 27), slice(27, 40)), strict=True):
        with h5py.File(name, "r+") as file:
            file["files"] = names[rows]
    source = FileSource(files)
    data = source.open_as(pickle.loads(pickle.dumps(layout_of(source.open()))))
    for rows in (slice(0, 40), slice(8, 12), slice(27, 30), slice(5, 5)):
        np.testing.assert_array_equal(data.row_names.read(rows), np.array(names[rows], "S6"))
