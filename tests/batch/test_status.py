"""The status of a run: while it trains, after its end, and after a kill."""

import csv
import fcntl
import json
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from dbp.batch.status import SILENT_SECONDS, RunStatus
from dbp.config.settings import Checkpoint
from dbp.errors import UserError
from dbp.saving.folder import RunFolder
from tests.batch.queues import slowly, status_of, when_under_way
from tests.jobs import dbp
from tests.processes import ProcessTree


def training(small, folder, epochs=2):
    """Start a run that takes some seconds."""
    command = (sys.executable, "-m", "dbp", "train", small, "--set", f"epochs={epochs}")
    return ProcessTree(*command, env={**os.environ, **slowly(folder)})


def code(run, *words):
    outcome = dbp("status", run, "--quiet", *words)
    assert outcome.text == "" or outcome.code == 2
    return outcome.code


@pytest.mark.slow
def test_a_run_that_goes_on_and_is_killed(small, tmp_path):
    """On this machine, the lock tells whether a run is alive."""
    run = tmp_path / "run"
    with training(small, tmp_path, epochs=12) as training_run:
        when_under_way(run, 20)
        outcome = dbp("status", run)
        assert outcome.code == 0
        first, second, third, fourth = outcome.out.splitlines()
        assert first.startswith(f"{run}: running, epoch ")
        assert first.endswith(" of 312")
        assert "of training, about" in second
        assert third.startswith("checkpoint step-0000000")
        assert f"1 rank, host {socket.gethostname()}, process {training_run.process.pid}, last update" in fourth
        assert code(run) == code(run, "--wait", "0.1") == 3
    assert code(run) == code(run, "--wait", "20") == 75
    told = json.loads(dbp("status", run, "--json").out)
    assert (told["state"], told["code"], told["epochs"], told["starts"]) == ("lost", 75, 12, 1)
    assert told["left"] == pytest.approx(told["seconds"] / told["step"] * (312 - told["step"]))


@pytest.mark.slow
def test_a_run_that_ends_while_it_is_waited_for(small, tmp_path):
    with training(small, tmp_path):
        when_under_way(tmp_path / "run", 10)
        assert code(tmp_path / "run", "--wait", "40") == 0
    told = status_of(tmp_path / "run")
    assert (told["state"], told["code"], told["step"]) == ("finished", 0, 52)
    with (tmp_path / "run" / "history.csv").open() as file:
        *_, last = csv.DictReader(file)
    assert told["cost"] == pytest.approx(float(last["cost"]))


@pytest.mark.slow
def test_a_run_that_failed_or_stopped_says_its_exit_code(small, tmp_path):
    run = tmp_path / "run"
    assert dbp("train", small, "--set", "optimizer.learning_rate=1e38").code == 70
    assert code(run) == 70
    text = dbp("status", run).out
    assert ": failed, epoch" in text
    assert "\nthe cost is not finite at step" in text
    (run / "stop").touch()
    assert dbp("train", small, "--fresh", env=slowly(tmp_path)).code == 75
    assert code(run) == status_of(run)["code"] == 75
    assert "stopped, epoch" in dbp("status", run).out


def test_a_run_on_another_machine_is_lost_when_it_is_silent(tmp_path):
    """A lock of another machine may not be visible here."""

    def told(silent):
        updated = (datetime.now(UTC) - timedelta(seconds=silent)).isoformat(timespec="seconds")
        status = {"state": "running", "host": "elsewhere", "updated": updated, "step": 0}
        (tmp_path / "status.json").write_text(json.dumps(status))
        return RunStatus.of(tmp_path).state

    assert (told(0), told(SILENT_SECONDS + 5)) == ("running", "lost")
    folder = RunFolder(tmp_path, Checkpoint())
    folder.lock()
    assert told(SILENT_SECONDS + 5) == "running"
    folder.unlock()


def test_a_folder_without_a_run(tmp_path):
    outcome = dbp("status", tmp_path, "--quiet")
    assert outcome.code == 2
    assert outcome.err == (
        f"dbp: error: folder {tmp_path} holds no run (there is no status.json); give the folder of a run (out)\n"
    )


def test_a_look_at_the_lock_keeps_no_run_from_starting(tmp_path):
    folder = RunFolder(tmp_path, Checkpoint())
    assert folder.is_locked() is False
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.2, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        began = time.monotonic()
        folder.lock()
        assert 0.1 < time.monotonic() - began < 2
    assert RunFolder(tmp_path, Checkpoint()).is_locked() is True
    with pytest.raises(UserError, match="belongs to a run that is still running"):
        RunFolder(tmp_path, Checkpoint()).lock()
    folder.unlock()
    assert folder.is_locked() is False


def test_a_folder_of_runs_has_a_line_for_each(tmp_path, run_command):
    for name, state, cost in (("b" * 40, "finished", 0.25), ("a", "running", None)):
        values = {"state": state, "host": "elsewhere", "epoch": 3, "epochs": 10, "step": 30, "steps": 100}
        values |= {"seconds": 60.0, "updated": datetime.now(UTC).isoformat(), **({"cost": cost} if cost else {})}
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(json.dumps(values))
    (tmp_path / "none").mkdir()
    code, out, _ = run_command("status", tmp_path)
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[:3] for line in lines[1:]] == [
        ["running", "3/10", "-"],
        ["a"],
        ["finished", "3/10", "0.25"],
        ["b" * 40],
    ]
    assert "2 min 20 s" in lines[1]
    assert max(map(len, lines)) <= 80
    assert [run["state"] for run in json.loads(run_command("status", tmp_path, "--json")[1])] == ["running", "finished"]
    code, _, errors = run_command("status", tmp_path, "--quiet")
    assert (code, errors) == (2, f"dbp: error: --quiet and --wait are for one run, but {tmp_path} is a folder of 2\n")
