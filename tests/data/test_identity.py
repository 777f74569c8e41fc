"""Whether ranks see the same files."""

import shutil

import h5py
import numpy as np

from dbp.data import ArrayDataset, FileSource, same_files


def write(path):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = np.ones((3, 2)), np.zeros(3)


def test_ranks_that_see_the_same_files_have_them_in_common(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.h5")
    seen = same_files(FileSource([str(tmp_path / "a.h5")]).open())
    assert seen == same_files(FileSource([str(tmp_path / "a.h5")]).open())
    assert seen != same_files(FileSource([str(tmp_path / "*.h5")]).open())
    shutil.copy2(tmp_path / "a.h5", tmp_path / "copy.h5")  # of the same time and size
    assert seen != same_files(FileSource([str(tmp_path / "copy.h5")]).open())
    assert same_files(ArrayDataset(np.ones((3, 2)), np.zeros(3))) == ""


def test_of_many_files_some_are_looked_at(tmp_path):
    data = ArrayDataset(np.ones((3, 2)), np.zeros(3))
    write(tmp_path / "a.h5")
    for count, looked_at in ((1, 1), (64, 64), (65, 33), (1000, 63)):
        data.paths = lambda count=count: [tmp_path / "a.h5"] * count
        assert same_files(data).count("(") == looked_at
