"""Ways to stop a run: signals, a file, a time limit."""

import json
import os
import pkgutil
import signal
import sys
import time

import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.config.data import Data
from dbp.config.settings import Checkpoint
from dbp.cost.objective import Objective
from dbp.errors import Interrupted, Stopped, UserError
from dbp.process.note import ProcessNote
from dbp.saving.start import Start
from dbp.saving.stopping import INTERRUPTED_TWICE, Stopping, signals
from dbp.text import parse_time
from tests import processes
from tests.saving.short_runs import run, steps
from tests.small_data import X, Y


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(5)  # in which Python calls the handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_the_rest_follows(tmp_path, capsys, number):
    whole = run()
    before = signal.getsignal(number)
    with signals:
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted if number == signal.SIGINT else Stopped) as stopped:
            run(tmp_path, Start(), checkpoint=Checkpoint())
    assert getattr(stopped.value, "exit_code", stopped.value.args[0]) == 75
    assert signal.getsignal(number) == before
    name = "SIGINT (Ctrl-C)" if number == signal.SIGINT else signal.Signals(number).name
    assert f"stop requested by {name}: saved step 1; the same command resumes" in capsys.readouterr().out
    assert steps(tmp_path) == [1]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
    assert digest_arrays(run(tmp_path).weights) == digest_arrays(whole.weights)


def test_an_interrupt_leaves_the_result_so_far_and_the_next_run_trains():
    def interrupt(scope, x):
        if scope.training and not sent:
            sent.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return nn.Dense(3)(scope.inside("dense"), x)

    sent = []
    with pytest.raises(KeyboardInterrupt) as interrupted:
        run(model=interrupt)
    result = interrupted.value.result
    assert (interrupted.value.exit_code, result.steps, result.test) == (130, 1, {})
    assert list(result.weights) == ["dense/weight", "dense/bias"]
    assert not any(result.history.values())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run(model=interrupt).steps == 16
    with pytest.raises(KeyboardInterrupt) as usual:
        send(signal.SIGINT)
    assert type(usual.value) is KeyboardInterrupt


def test_a_second_interrupt_does_not_wait_for_the_step():
    with signals:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as second:
            send(signal.SIGINT)
    assert type(second.value) is KeyboardInterrupt


def test_a_second_interrupt_calls_a_handler_of_the_user_which_may_return():
    came = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        with signals:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            assert signals.received == [signal.SIGINT]
            assert came == [signal.SIGINT, signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_signal_that_dbp_run_got_is_named(monkeypatch):
    note = ProcessNote("dbp signal")
    monkeypatch.setenv("DBP_SIGNAL", note.path)
    with signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.name == "SIGUSR1"  # sent to the ranks themselves
        note.write(str(int(signal.SIGHUP)))
        assert signals.name == "SIGHUP"
        note.write(str(int(signal.SIGINT)))
        assert signals.name == "SIGINT (Ctrl-C)"


@pytest.mark.parametrize(("which", "saved"), [(1, 4), (5, 16)])
def test_a_long_evaluation_is_left_and_the_next_start_begins_with_it(tmp_path, monkeypatch, which, saved):
    def evaluate(*arguments):
        evaluations.append(1)
        if len(evaluations) == which:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(*arguments)

    evaluations, original = [], Objective.evaluate
    data = Data((X, Y), validation=0.2, test=(X, Y))
    whole = run(data=data)
    with monkeypatch.context() as patch:
        patch.setattr(Objective, "evaluate", evaluate)
        patch.setattr("dbp.run.sources.PATIENCE_SECONDS", -1.0)
        with pytest.raises(Stopped) as stopped:
            run(tmp_path, data=data, checkpoint=Checkpoint())
    assert (stopped.value.code, steps(tmp_path)[-1]) == (75, saved)
    rest = run(tmp_path, data=data, checkpoint=Checkpoint())
    assert digest_arrays(rest.weights) == digest_arrays(whole.weights)
    assert rest.history["validation_cost"] == whole.history["validation_cost"]
    assert rest.test == whole.test


@pytest.mark.parametrize("during", ["dbp.parallel:Arena.fill", "dbp.checkpoint:Opened.verify"])
def test_a_start_is_left_while_weights_are_drawn_or_verified(tmp_path, monkeypatch, capsys, during):
    def begin(*words):
        os.kill(os.getpid(), signal.SIGUSR1)
        return original(*words)

    original, whole = pkgutil.resolve_name(during), run()
    if "verify" in during:
        run(tmp_path, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(during.replace(":", "."), begin)
        patch.setattr("dbp.run.sources.PATIENCE_SECONDS", -1.0)
        with pytest.raises(Stopped) as stopped:
            run(tmp_path, Start())
    assert stopped.value.code == 75
    assert "SIGUSR1 before the first step of this start; the same command starts again" in capsys.readouterr().out
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


def test_a_second_interrupt_of_a_command_says_what_is_saved():
    program = (
        "import os, signal, time; from dbp.saving.stopping import signals; signals.enter(ends=True); "
        "[os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]; time.sleep(600)"
    )
    outcome = processes.run(sys.executable, "-c", program)
    assert outcome.code == -signal.SIGINT
    assert outcome.err == f"\n{INTERRUPTED_TWICE}\n"
