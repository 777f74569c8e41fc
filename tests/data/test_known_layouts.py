"""Data files that are opened again: as they are, whatever was known of them."""

import os
import time

import h5py
import numpy as np
import pytest

from dbp.data import known_layouts
from dbp.data.known_layouts import TICKS, look_into
from dbp.data.source import FileSource
from dbp.errors import UserError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(autouse=True)
def nothing_known():
    known_layouts._known.clear()


def written(path, inputs=ROWS, **attributes):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = inputs, np.zeros(len(inputs))
        file["inputs"].attrs.update(attributes)
    return FileSource([str(path)])


def wait_for_another_date():
    time.sleep(2 * TICKS / 1e9)


def is_opened(source, with_targets=True):
    return look_into(source, with_targets).data is not None


def test_a_file_that_has_not_changed_is_looked_into_once(tmp_path):
    source = written(tmp_path / "a.h5", scale=0.5)
    assert is_opened(source)
    assert is_opened(source)  # as it has changed just now
    wait_for_another_date()
    assert is_opened(source)
    again = look_into(FileSource([str(tmp_path / "a.h5")]), True)
    assert again.data is None
    data = source.open_as(again.layout)
    np.testing.assert_array_equal(data.read(slice(1, 3)).inputs, ROWS[1:3])
    assert data.scale == 0.5
    assert is_opened(source, with_targets=False)
    assert "targets" not in look_into(source, False).layout.columns
    assert is_opened(source._replace(scale=0.25))


@pytest.mark.parametrize("change", ["attribute", "content", "replaced", "moved"])
def test_a_changed_file_is_looked_into_anew(tmp_path, change):
    path = tmp_path / "a.h5"
    source = written(path)
    wait_for_another_date()
    assert is_opened(source)
    assert not is_opened(source)
    if change in ("attribute", "content"):
        with h5py.File(path, "a") as file:
            if change == "attribute":
                file["inputs"].attrs["scale"] = 0.25
            else:
                file["inputs"][:] = ROWS + 1
    else:
        written(tmp_path / "b.h5", ROWS + 1)
        (tmp_path / "b.h5").replace(path)
    if change == "moved":  # by a program that keeps the date
        os.utime(path, (1, 1))
    found = look_into(source, True)
    assert found.data is not None
    assert found.data.scale == (0.25 if change == "attribute" else None)
    np.testing.assert_array_equal(source.open_as(found.layout).read(slice(0, 4)).inputs, ROWS + (change != "attribute"))


def test_a_file_that_is_gone_is_missed(tmp_path):
    source = written(tmp_path / "a.h5")
    wait_for_another_date()
    assert is_opened(source)
    (tmp_path / "a.h5").unlink()
    with pytest.raises(UserError, match="does not exist"):
        look_into(source, True)


def test_layouts_that_need_other_files_or_much_memory_are_not_kept(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("inputs", data=ROWS, chunks=(2, 3), compression="gzip")
        file["targets"] = np.zeros(4)
    written(tmp_path / "b.h5")
    wait_for_another_date()
    for files in (["a.h5"], ["b.h5", "a.h5"]):
        source = FileSource([str(tmp_path / name) for name in files])
        assert is_opened(source)
        assert is_opened(source)
