"""Ways to stop a run: signals, a file, a time limit."""

import json
import os
import signal

import pytest

from dbp.checkpoint import digest_arrays
from dbp.config.settings import Checkpoint
from dbp.errors import Stopped, UserError
from dbp.saving.start import Start
from dbp.saving.stopping import Stopping, signals
from dbp.text import parse_time
from tests.saving.short_runs import run, steps


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_stops_after_the_step_and_the_rest_follows(tmp_path, capsys, number):
    whole = run()
    before = signal.getsignal(number)
    with signals:
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as stopped:
            run(tmp_path, Start(), checkpoint=Checkpoint())
    assert stopped.value.code == 75
    assert signal.getsignal(number) == before
    name = signal.Signals(number).name
    assert f"stop requested by {name}: saved step 1; the same command resumes" in capsys.readouterr().out
    assert steps(tmp_path) == [1]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
    assert digest_arrays(run(tmp_path).weights) == digest_arrays(whole.weights)


def test_a_stop_in_the_last_step_lets_the_run_finish(tmp_path):
    run(tmp_path, epochs=3)
    with signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert run(tmp_path, epochs=3).steps == 12


def test_a_stop_file_stops_and_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("dbp.saving.stopping.STOP_FILE_SECONDS", 0.0)
    tmp_path.joinpath("stop").touch()
    with pytest.raises(Stopped):
        run(tmp_path)
    assert not tmp_path.joinpath("stop").exists()
    assert run(tmp_path).steps == 16


def test_a_time_limit_leaves_time_for_a_step_and_a_save(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("dbp.saving.stopping.time.monotonic", lambda: now[0])
    monkeypatch.setattr(signals, "since", 100.0)
    stopping = Stopping(leads=True, limit=60.0)
    now[0] = 105.0
    stopping.note_step_time()
    stopping.note_save_time(3.0)
    now[0] = 141.9  # 60 - 2 (5 + 3) - 2 = 42 s
    assert not stopping.is_requested()
    now[0] = 142.1
    assert stopping.is_requested()
    assert stopping.reason == "the time limit of 60 s"
    assert not Stopping(leads=False, limit=0.0).is_requested()


def test_without_a_folder_nothing_is_saved_and_the_code_says_so(capsys):
    with signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stopped) as stopped:
            run(start=Start())
    assert stopped.value.code == 1
    assert "nothing was saved, as the run has no folder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("2:30", 150), ("4:00:00", 14400), ("1-00:00:10", 86410)]
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-3", "4h"])
def test_what_is_no_time(text):
    with pytest.raises(UserError, match="--time-limit takes seconds, hours:minutes:seconds"):
        parse_time(text)
