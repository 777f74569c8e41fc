"""The folder of a run: its lock, its status, and starts that never reach a checkpoint."""

import fcntl
import json

import pytest

from dbp.config.settings import Watch
from dbp.errors import UserError
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
