"""The folder of checkpoints: the newest intact one found, nothing lost when a write fails."""

import errno
import os

import pytest

from dbp.checkpoint import CheckpointFolder, Keep
from dbp.errors import UserError
from tests.checkpoint.small import FULL


@pytest.fixture
def folder(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", Keep(2))
    folder.prepare()
    return folder


def test_the_last_ones_are_kept(folder):
    for step in (5, 10, 1000000000, 15):
        folder.tidy(folder.save(FULL, step))
    assert [p.name for p in folder.files()] == ["step-000000015.h5", "step-1000000000.h5"]


def test_the_newest_whole_one_is_found(folder):
    for step in (5, 10):
        folder.save(FULL, step)
    newest = folder.files()[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with folder.newest() as usable:
        assert usable.found.path.name == "step-000000005.h5"
        assert usable.found.progress == FULL.progress
        assert list(usable.passed_over) == [newest]
        assert "step-000000010.h5 is damaged" in usable.passed_over[newest]
    folder.prepare(tuple(usable.passed_over))
    assert [p.name for p in sorted(folder.path.iterdir())] == ["step-000000005.h5", "step-000000010.h5.damaged"]


def test_an_empty_folder_has_none(tmp_path):
    with CheckpointFolder(tmp_path / "none", Keep(1)).newest() as usable:
        assert (usable.found, usable.passed_over) == (None, {})


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_one(folder, monkeypatch, call):
    """The error names file and reason, whichever call of a commit fails, and nothing half-written stays."""
    folder.save(FULL, 5)
    before = folder.files()[0].read_bytes()

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif call == "replace":
        monkeypatch.setattr("pathlib.Path.replace", fail)
    else:
        monkeypatch.setattr("dbp.sparse_file.write_at", fail)
    with pytest.raises(UserError, match=r"step-000000010.h5 cannot be written: No space left on device .errno 28"):
        folder.save(FULL, 10)
    assert [p.name for p in folder.path.iterdir()] == ["step-000000005.h5"]
    assert folder.files()[0].read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/checkpoints cannot be written: Not a directory.*--out"):
        CheckpointFolder(tmp_path / "file" / "checkpoints", Keep(1)).prepare()


def test_leftovers_of_a_killed_save_are_removed(folder):
    (folder.path / ".step-000000007.h5.partial").write_text("half")
    folder.save(FULL, 5)
    folder.prepare()
    assert [p.name for p in folder.path.iterdir()] == ["step-000000005.h5"]


def test_an_old_run_is_set_aside_or_deleted(folder):
    assert folder.set_aside() is None
    folder.save(FULL, 5)
    assert folder.set_aside().name == "checkpoints-old-1"
    folder.prepare()
    folder.save(FULL, 6)
    assert folder.set_aside().name == "checkpoints-old-2"
    folder.prepare()
    folder.save(FULL, 7)
    assert folder.delete() == 1
    assert folder.files() == []
