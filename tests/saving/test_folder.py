"""The folder of a run: its lock, its status, and starts that never reach a checkpoint."""

import errno
import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.batch.status import RunStatus
from dbp.checkpoint import checkpoints_of
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, Watch
from dbp.errors import StorageError, UserError
from dbp.saving.checkpoint_info import peek
from dbp.saving.folder import WRITTEN_BY_DBP, RunFolder
from dbp.saving.start import Start
from tests.saving.short_runs import run


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path):
    run(tmp_path, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with (tmp_path / ".lock").open("w") as file:
        file.write("host n1, process 5")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"belongs to a run that is still running \(host n1, process 5\); .*--out"):
            run(tmp_path)
    assert {p: p.read_bytes() for p in before} == before
    assert run(tmp_path).steps == 16  # the lock of one that has ended means nothing
    assert not (tmp_path / ".lock").exists()


def test_the_status_tells_where_the_run_stands(tmp_path):
    run(tmp_path)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["epoch"], status["step"], status["steps"]) == ("finished", 4, 16, 16)
    assert status["checkpoint"] == "step-000000016.h5"
    with pytest.raises(UserError):
        run(tmp_path, seed=7)  # refused: what is there stays
    assert json.loads((tmp_path / "status.json").read_text()) == status


def test_a_run_that_comes_to_nothing_again_and_again_is_not_started(tmp_path, monkeypatch):
    """Each start dies before its next checkpoint."""
    monkeypatch.setattr("dbp.training.fit.train_epochs", lambda *_: (_ for _ in ()).throw(ZeroDivisionError()))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run(tmp_path)
    with pytest.raises(UserError, match=r"was started 3 times from step 0 and never came .*--retry"):
        run(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, watch=Watch(most_starts=0))
    monkeypatch.undo()
    assert run(tmp_path, Start(retry=True)).steps == 16


def test_what_a_killed_run_left_is_removed_and_what_others_write_is_not(tmp_path):
    (tmp_path / ".history.csv.7-0.partial").write_text("half")
    (tmp_path / ".predictions.h5.8-0.partial").write_text("being written")
    run(tmp_path, epochs=1)
    assert [path.name for path in tmp_path.glob(".*")] == [".predictions.h5.8-0.partial"]


# --- one run, one folder --------------------------------------------------------------------------------------


def test_the_lock_comes_before_the_first_look_at_the_folder(tmp_path, monkeypatch):
    """Leave no time for another run to begin and end between that look and the lock."""
    locked = []

    def look(settings):
        locked.append(RunFolder(tmp_path, Checkpoint()).is_locked())
        return peek(settings)

    monkeypatch.setattr("dbp.training.fit.peek", look)
    run(tmp_path, epochs=1)
    assert locked == [True]


def test_a_refused_start_leaves_no_folder(tmp_path):
    with pytest.raises(UserError):
        run(tmp_path / "a" / "b", data=Data((np.zeros((3, 2)), np.zeros(4))))
    with pytest.raises(UserError, match=r"does not exist|cannot be read|there is no"):
        run(tmp_path / "a" / "b", data=Data(str(tmp_path / "none.h5")))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    (tmp_path / "config.toml").write_text("seed = 3  # mine\n")
    with pytest.raises(UserError, match=r"holds a config.toml that no run has written, .* choose another with --out"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
    (tmp_path / "config.toml").unlink()
    (tmp_path / "x.h5").touch()
    with pytest.raises(UserError, match=r"a run needs a folder of its own, but .* holds its data .*x.h5"):
        run(tmp_path, data=Data(str(tmp_path / "x.h5")))
    run(tmp_path, epochs=1)
    run(tmp_path, epochs=2)  # which may replace the config.toml of the first


def test_a_config_that_cannot_be_read_is_not_taken_for_one_of_another_program(tmp_path, monkeypatch):
    def stale(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    (tmp_path / "config.toml").write_text(WRITTEN_BY_DBP)
    assert RunFolder(tmp_path, Checkpoint()).has_config
    monkeypatch.setattr("dbp.saving.folder.read_plain", stale)
    with pytest.raises(StorageError, match=r"config.toml cannot be read: Stale file handle"):
        RunFolder(tmp_path, Checkpoint()).check_contents([])


def look_into(path):
    with RunFolder(path, Checkpoint()) as folder:
        folder.lock()
        folder.check_contents([])
        checkpoints_of(path)


@pytest.mark.parametrize("call", ["exists", "is_symlink", "is_file", "is_dir"])
def test_a_disk_that_fails_while_a_folder_is_looked_at_is_a_failure_of_the_storage(tmp_path, monkeypatch, call):
    def fail(path):
        if str(path).startswith(str(tmp_path)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(path)

    (tmp_path / "history.csv").touch()
    original = getattr(Path, call)
    monkeypatch.setattr(Path, call, fail)
    with pytest.raises(StorageError, match=r"Input/output error"):
        look_into(tmp_path)


# --- files that somebody else has put there ---------------------------------------------------------------------


def test_no_link_is_followed(tmp_path, capsys):
    """Put links into the folder of a run before it: the files that they lead to are not written."""
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    (folder / "logs").mkdir(parents=True)
    for name in (".config.toml.partial", ".status.json.partial", "status.json", "logs/rank-0.log"):
        (folder / name).symlink_to(victim)
    run(folder, epochs=1)
    assert "rank-0.log cannot be written: it is a link" in capsys.readouterr().err
    (folder / ".lock").symlink_to(victim)
    with pytest.raises(UserError, match=r"\.lock cannot be written: it is a link, .*; remove it"):
        run(folder, epochs=1)
    assert victim.read_text() == "precious"


def test_a_hard_link_is_not_written_to(tmp_path, capsys):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    (folder / "logs").mkdir(parents=True)
    for name in (".lock", "logs/rank-0.log", "status.json"):
        (folder / name).hardlink_to(victim)
    run(folder, epochs=1)
    assert "rank-0.log cannot be written: it is a hard link, so that a file with another" in capsys.readouterr().err
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["checkpoints", "logs"])
def test_a_link_to_another_folder_is_refused(tmp_path, name):
    (tmp_path / "other").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "other")
    with pytest.raises(
        UserError, match=f"needs a folder of its own, but .*{name} is a link; put a folder in its place"
    ):
        run(tmp_path / "run", epochs=1)
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.time_limit(20)
def test_a_pipe_is_not_waited_for(tmp_path):
    for name in (".lock", "status.json"):
        os.mkfifo(tmp_path / name)
    folder = RunFolder(tmp_path, Checkpoint())
    assert (folder.status(), folder.is_locked()) == ({}, None)
    with pytest.raises(UserError, match="holds no run"):
        RunStatus.of(tmp_path)


KNOWN = st.sampled_from(
    ["state", "step", "steps", "starts", "seconds", "cost", "message", "updated", "code", "from_step"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["running", "failed"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(status=st.dictionaries(KNOWN, ANYTHING) | ANYTHING)
def test_any_status_is_read_or_passed_over(tmp_path_factory, status):
    path = tmp_path_factory.getbasetemp() / "any"
    path.mkdir(exist_ok=True)
    (path / "status.json").write_text(json.dumps(status))
    folder = RunFolder(path, Checkpoint())
    folder.check_starts(0, 0)
    if folder.status():
        text = RunStatus.of(path).text
        assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "x", "", '{"state": 5}', "{" * 50, "\x00"], ids=len)
def test_a_status_of_a_stranger_counts_as_none(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert RunFolder(tmp_path, Checkpoint()).status() == {}


def test_another_rank_writes_why_the_run_has_failed(tmp_path):
    folder = RunFolder(tmp_path, Checkpoint())
    folder.write_failure("rank 1 of 2 on a: x", 65)  # which does not see the status of the run
    assert not list(tmp_path.iterdir())
    folder.write_status("running", step=3, steps=9)
    of_rank_1 = RunFolder(tmp_path, Checkpoint())
    of_rank_1.write_failure("rank 1 of 2 on a: bad.h5: inputs must be finite", 65)
    status = RunStatus.of(tmp_path)
    assert (status.state, status.code, status.values["step"]) == ("failed", 65, 3)
    assert "rank 1 of 2 on a: bad.h5: inputs must be finite" in status.text
    of_rank_1.write_failure("rank 2", 1)  # the first reason stays
    assert RunStatus.of(tmp_path).code == 65
