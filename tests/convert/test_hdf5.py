"""HDF5 files and groups that become one file, in one piece or in chunks."""

import shutil

import h5py
import numpy as np
import pytest

from dbp.convert import content
from dbp.convert.hdf5 import from_hdf5
from dbp.data import ColumnNames
from dbp.errors import UserError
from tests.convert.files import converted, write

RNG = np.random.default_rng(0)
NAMES, DEFAULT = ColumnNames("x", "y"), ColumnNames("inputs", None)


def parts(path, **shapes):
    """Write a file with groups of the given numbers of rows; return what is in it."""
    found = {}
    with h5py.File(path, "w") as file:
        for part, rows in shapes.items():
            x, y = RNG.random((rows, 5), dtype=np.float32), RNG.integers(0, 2, (rows, 1)).astype(np.uint8)
            file.create_dataset(f"{part}/x", data=x, chunks=(3, 2), compression="gzip")
            file[f"{part}/y"] = y
            file[f"{part}/x"].attrs["names"] = list("abcde")
            file[f"{part}/y"].attrs["classes"] = ["ant", "bee"]
            found[part] = (x, y)
    return found


def test_groups_of_files_become_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "BLOCK_BYTES", 100)
    found = parts(tmp_path / "all.h5", train=17, test=4)
    with h5py.File(tmp_path / "all.h5", "a") as file:  # other orders of columns and classes
        order = [2, 0, 1, 4, 3]
        file["test/x"][:] = found["test"][0][:, order]
        file["test/x"].attrs["names"] = ["abcde"[i] for i in order]
        file["test/y"][:] = 1 - found["test"][1]
        file["test/y"].attrs["classes"] = ["bee", "ant"]
        file["train/x"].attrs["units"] = ["cm"] * 5
        file["train/x"].attrs["scale"] = 0.5
        file["test/x"].attrs["scale"] = 0.5
        file["train/x"].attrs["shift"], file["test/x"].attrs["shift"] = [1.0, 2, 3, 4, 5], [3.0, 1, 2, 5, 4]
    sources = [f"{tmp_path}/al*.h5:/train", f"{tmp_path}/all.h5:/test"]
    rows, meaning = converted(tmp_path, from_hdf5(sources, NAMES))
    np.testing.assert_array_equal(rows.inputs, np.concatenate([found["train"][0], found["test"][0]]))
    np.testing.assert_array_equal(rows.targets, np.concatenate([found["train"][1], found["test"][1]]))
    assert (meaning["inputs"].names, meaning["inputs"].scale) == (tuple("abcde"), 0.5)
    assert meaning["inputs"].shift == (1, 2, 3, 4, 5)
    assert meaning["targets"].classes == ("ant", "bee")
    with h5py.File(tmp_path / "converted.h5") as file:
        assert file["inputs"].attrs["units"].tolist() == ["cm"] * 5
        assert file["inputs"].chunks is None


def test_files_without_targets_and_with_weights(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inputs"], file["weights"], file.attrs["table"] = np.ones((3, 2)), np.arange(3), "{}"
        file["files"] = ["1.png", "20.png", "3.png"]
    shutil.copy(tmp_path / "a.h5", tmp_path / "a2.h5")
    shapes = write(tmp_path / "b.h5", from_hdf5([str(tmp_path / "a.h5"), str(tmp_path / "a2.h5")], DEFAULT))
    assert list(shapes) == ["inputs", "weights", "files"]
    with h5py.File(tmp_path / "b.h5") as file:
        assert file.attrs["table"] == "{}"
        assert file["files"].asstr()[:].tolist() == ["1.png", "20.png", "3.png"] * 2


def test_a_file_is_named_once(tmp_path, monkeypatch):
    parts(tmp_path / "all.h5", train=5, test=4)
    monkeypatch.chdir(tmp_path)
    for names in (["all.h5:/train"] * 2, ["all.h5:/train", f"{tmp_path}/all.h5:/train"]):
        with pytest.raises(UserError, match="is named twice"):
            from_hdf5(names, NAMES)
    assert from_hdf5(["all.h5:/train", "all.h5:/test"], NAMES).count == 9


def test_what_does_not_fit_is_refused(tmp_path):
    parts(tmp_path / "all.h5", train=5)
    here = f"{tmp_path}/all.h5:/train"
    with pytest.raises(
        UserError, match="has no data set 'train/inputs'; it has train/x, train/y: name the right inputs"
    ):
        from_hdf5([here], DEFAULT)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones((2, 6), np.float32)
    with pytest.raises(UserError, match=r"other\.h5: an example of inputs has shape \(6,\), but in .* it has \(5,\)"):
        from_hdf5([here, str(tmp_path / "other.h5")], ColumnNames("x", None))
    with pytest.raises(UserError, match=r"all\.h5, an input of this command"):
        write(tmp_path / "all.h5", from_hdf5([here], NAMES), overwrite=True)


def test_masks_are_kept_and_rows_of_unequal_length_are_refused(tmp_path):
    mask = np.array([[1, 1, 0], [1, 0, 0]], np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inputs"], file["targets"], file["mask"] = np.ones((2, 3, 4)), np.arange(2), mask
        file["here"] = mask
    for columns in (DEFAULT, DEFAULT._replace(mask="here")):
        shapes = write(tmp_path / "b.h5", from_hdf5([str(tmp_path / "a.h5")], columns), overwrite=True)
        assert list(shapes) == ["inputs", "targets", "mask"]
        with h5py.File(tmp_path / "b.h5") as file:
            np.testing.assert_array_equal(file["mask"], mask)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        rows = file.create_dataset("inputs", 2, h5py.vlen_dtype(np.float32))
        rows[0], rows[1] = np.ones(3), np.ones(30)
    with pytest.raises(UserError, match=r"c\.h5: rows of inputs have unequal lengths, which cannot be converted"):
        from_hdf5([str(tmp_path / "c.h5")], DEFAULT)


def test_columns_that_no_model_sees_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "BLOCK_BYTES", 50)
    for i, sites in enumerate((["a", "bb", "a"], ["cccc", "é"])):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["inputs"], file["site"], file["often"] = np.ones((len(sites), 2)), sites, np.arange(len(sites)) + i
    names = [f"{tmp_path}/{i}.h5" for i in range(2)]
    write(tmp_path / "all.h5", from_hdf5(names, DEFAULT, ["site", "often"]))
    with h5py.File(tmp_path / "all.h5") as file:
        assert file["site"].asstr()[:].tolist() == ["a", "bb", "a", "cccc", "é"]
        assert file["often"][:].tolist() == [0, 1, 2, 1, 2]
    with pytest.raises(UserError, match=r"0\.h5: has no data set 'subject'; it has inputs, often, site: name another"):
        from_hdf5(names, DEFAULT, ["subject"])
    with h5py.File(tmp_path / "0.h5", "a") as file:
        file["short"] = [1]
    with pytest.raises(UserError, match=r"0\.h5: 'short' must have one row per example, 3, but has 1"):
        from_hdf5(names[:1], DEFAULT, ["short"])
    with pytest.raises(UserError, match="no data set can be called 'inputs' beside the inputs"):
        from_hdf5(names[:1], DEFAULT, ["inputs"])
