"""Files of MATLAB 7.3, which are HDF5 with reversed axes."""

import h5py
import numpy as np
import pytest

from dbp.data import ColumnNames, FileSource
from dbp.errors import UserError
from tests.data.opening import opened

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
Y = np.arange(6) % 3


def write_matlab(path, storage=None, **arrays):
    """Write arrays as MATLAB's save -v7.3 does: with the axes reversed, behind a block of text."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            values = np.atleast_2d(values)
            file.create_dataset(name, data=values.T, **(storage or {})).attrs["MATLAB_class"] = np.bytes_(
                "char" if values.dtype == np.uint16 else "double"
            )
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return f"{path}"


@pytest.mark.parametrize("storage", [{}, {"chunks": True, "compression": "gzip"}])
@pytest.mark.parametrize("column", [True, False])
def test_rows_of_matlab_come_first(tmp_path, storage, column):
    y = Y[:, None] if column else Y
    path = write_matlab(tmp_path / "a.mat", storage, X=X, y=y)
    for data in opened(FileSource([path], ColumnNames("X", "y"))):
        assert data.input_shape == (4,)
        for rows in (slice(0, 6), slice(2, 5), np.array([5, 0, 0, 3])):
            np.testing.assert_array_equal(data.read(rows).inputs, X[rows])
            np.testing.assert_array_equal(data.read(rows).targets, Y[rows][:, None])
        into = np.empty((2, 4), "f4")
        data.columns["inputs"].read_into(range(1, 3), into)
        np.testing.assert_array_equal(into, X[1:3])
    assert "axis 1 of 2 is that of the examples" in FileSource([path], ColumnNames("X", "y")).open().warnings[0]


def test_images_of_matlab_have_the_examples_last(tmp_path):
    images = RNG.random((5, 4, 3, 6))  # height, width, channels, examples
    path = write_matlab(tmp_path / "a.mat", images=images, y=Y)
    source = FileSource([path], ColumnNames("images", "y"))
    for data in (source.open(), source.open(with_targets=False)):
        assert data.input_shape == (5, 4, 3)
        np.testing.assert_array_equal(data.read(np.array([4, 1])).inputs, images.transpose(3, 0, 1, 2)[[4, 1]])
    assert "axis 4 of 4 is that of the examples" in source.open().warnings[0]


def test_units_of_chunks_are_those_along_the_examples(tmp_path):
    path = write_matlab(tmp_path / "a.mat", {"chunks": (4, 2)}, X=X)
    column = FileSource([path], ColumnNames("X", None)).open(with_targets=False).columns["inputs"]
    assert column.borders.tolist() == [0, 2, 4, 6]


def test_text_of_matlab_is_refused(tmp_path):
    path = write_matlab(tmp_path / "a.mat", X=np.zeros((6, 4), np.uint16))
    with pytest.raises(UserError, match=r"a\.mat: 'X' is text, not numbers; name another array"):
        FileSource([path], ColumnNames("X", None)).open(with_targets=False)


@pytest.mark.parametrize("content", [b"MATLAB 5.0 MAT-file, Platform", b"version 4 has no mark"])
def test_files_of_earlier_versions_are_named(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"a.mat is of MATLAB, but not of version 7.3; .* with save -v7.3"):
        FileSource([f"{tmp_path}/a.mat"]).open()
