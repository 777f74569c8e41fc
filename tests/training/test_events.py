"""The events of a run in one process: what listeners get, and what their answers do."""

import dataclasses
import json

import pytest

import dbp
from dbp.checkpoint import digest_arrays
from dbp.config.settings import Checkpoint
from dbp.errors import ListenerError, NotFiniteError, Stopped
from dbp.listeners import CheckpointWritten, End, Epoch, Start, Step
from dbp.nn import Dense, MeanSquaredError
from dbp.optim import SGD
from dbp.saving.stopping import Stopping
from tests.small_data import X
from tests.training.fit_runs import run


def heard(**changes):
    """Return the events of a run, and its result."""
    events = []
    result = run(listeners=[events.append], **changes)
    return events, result


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def without_times(history):
    return {name: column for name, column in history.items() if name != "seconds"}


def stop_at(kind, number):
    """Return a listener that stops the run at an event with this number of steps, or of epochs."""

    def stopper(event):
        if isinstance(event, kind) and getattr(event, "epoch" if kind is Epoch else "step") == number:
            return dbp.STOP
        return None

    return stopper


def test_events_come_in_order_with_the_numbers_of_the_history(tmp_path):
    events, result = heard(out=str(tmp_path))
    first, *_, last = events
    assert (first.ranks, first.epochs, first.steps, first.epoch, first.step) == (1, 4, 4, 0, 0)
    assert first.parameters == sum(array.size for array in result.weights.values())
    assert first.folder == tmp_path
    assert first.settings["optimizer.learning_rate"] == 0.01
    assert [event.step for event in of(Step, events)] == list(range(1, 17))
    assert [event.epoch for event in of(Step, events)] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert [event.examples for event in of(Step, events)][:4] == [14, 14, 14, 6]
    rows = [dict(zip(result.history, row, strict=True)) for row in zip(*result.history.values(), strict=True)]
    assert [dict(event.values) for event in of(Epoch, events)] == rows
    assert events.index(of(Epoch, events)[0]) > events.index(of(Step, events)[3])
    assert last == End("finished", 4, 16, result.test)
    written = of(CheckpointWritten, events)
    assert [event.step for event in written] == [3, 4, 6, 8, 9, 12, 15, 16]
    assert all(event.path.is_file() for event in written)


def test_the_costs_of_steps_are_those_of_the_epoch():
    events, result = heard()
    steps = [event for event in of(Step, events) if event.epoch == 2]
    examples = sum(event.examples for event in steps)
    for name in ("cost", "accuracy"):
        mean = sum(event.examples * event.values[name] for event in steps) / examples
        assert mean == pytest.approx(result.history[name][1], rel=1e-12)
    assert steps[-1].values["learning_rate"] == result.history["learning_rate"][1]


def test_events_cannot_be_changed_and_listeners_change_no_bit():
    def change(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.step = 7
        values = event.settings if isinstance(event, Start) else event.values
        with pytest.raises(TypeError):
            values["cost"] = 0.0

    assert digest_arrays(run(listeners=[change]).weights) == digest_arrays(run().weights)


@pytest.mark.parametrize(
    ("kind", "at", "steps", "epochs"),
    [(Step, 5, 6, 1), (Step, 3, 4, 1), (Step, 4, 4, 1), (Epoch, 2, 8, 2), (CheckpointWritten, 3, None, None)],
)
def test_stop_ends_the_run_with_its_result_and_the_same_command_goes_on(tmp_path, kind, at, steps, epochs):
    stopped = run(listeners=[stop_at(kind, at)], out=str(tmp_path))
    assert steps is None or (stopped.steps, len(stopped.history["cost"])) == (steps, epochs)
    assert set(stopped.test) == {"cost", "accuracy"}
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["code"], status["step"]) == ("finished", 0, stopped.steps)
    assert status["message"].startswith("stopped by listener stopper: ")
    whole, result = run(), run(out=str(tmp_path))
    assert digest_arrays(result.weights) == digest_arrays(whole.weights)
    assert without_times(result.history) == without_times(whole.history)


def test_stop_at_the_end_of_the_last_epoch_changes_nothing():
    events = []
    result = run(listeners=[stop_at(Epoch, 4), stop_at(Step, 16), events.append])
    assert (events[-1].outcome, result.steps) == ("finished", 16)


def test_stop_at_the_start_trains_nothing():
    events = []
    result = run(listeners=[stop_at(Start, 0), events.append])
    assert [type(event) for event in events] == [Start, End]
    assert (result.steps, events[-1].outcome) == (0, "stopped by listener stopper")


def fail_at(number):
    def broken(event):
        if isinstance(event, Step) and event.step == number:
            raise ZeroDivisionError("by zero")

    return broken


def test_a_listener_that_raises_ends_the_run_which_is_saved(tmp_path, capsys):
    events = []
    with pytest.raises(
        ListenerError,
        match=r"^listener broken failed after step 6: ZeroDivisionError: by zero \(test_events.py, line \d+\); saved "
        r"step 7; the same command resumes from it$",
    ):
        run(listeners=[fail_at(6), events.append], out=str(tmp_path))
    assert capsys.readouterr().err.count("Traceback") == 1
    assert "ZeroDivisionError" in (tmp_path / "logs" / "rank-0.log").read_text()
    assert (events[-1].outcome, events[-1].step) == ("failed", 7)
    assert "listener broken" in events[-1].error
    assert json.loads((tmp_path / "status.json").read_text())["code"] == 1
    assert digest_arrays(run(out=str(tmp_path)).weights) == digest_arrays(run().weights)


def test_without_a_folder_it_says_that_nothing_is_saved():
    with pytest.raises(ListenerError, match="stopped after step 7; nothing was saved, as the run has no folder"):
        run(listeners=[fail_at(6)])


def test_a_listener_that_fails_before_the_first_step_leaves_no_checkpoint(tmp_path):
    def broken(event):
        raise dbp.UserError(f"no {type(event).__name__}")

    with pytest.raises(ListenerError, match=r"^listener broken failed at the start: no Start \(test_events"):
        run(listeners=[broken], out=str(tmp_path))
    assert list((tmp_path / "checkpoints").glob("*.h5")) == []


def test_a_harmless_failure_is_told_once(tmp_path):
    calls = []

    @dbp.listener(harmless=True)
    def broken(event):
        calls.append(event)
        raise OSError("full")

    run(listeners=[broken], out=str(tmp_path))
    log = (tmp_path / "logs" / "rank-0.log").read_text()
    assert log.count("warning: listener broken failed at the start: OSError: full (test_events.py, line") == 1
    assert log.count("failed") == 1
    assert len(calls) > 20


def test_a_run_that_fails_or_is_stopped_tells_its_listeners(tmp_path, monkeypatch):
    events = []
    with pytest.raises(NotFiniteError):
        run(
            model=[Dense(1)],
            loss=MeanSquaredError(),
            data=(X, X[:, :1]),
            optimizer=SGD(1e38),
            listeners=[events.append],
        )
    assert events[-1].outcome == "failed"
    assert "not finite" in events[-1].error
    monkeypatch.setattr(Stopping, "_find_reason", lambda self: "a test")
    with pytest.raises(Stopped):
        run(out=str(tmp_path), checkpoint=Checkpoint(), listeners=[events.append])
    assert (events[-1].outcome, events[-1].error, events[-1].step) == ("stopped", "", 1)
    assert events[-2] == CheckpointWritten(1, tmp_path / "checkpoints" / "step-000000001.h5")


def test_a_resumed_run_starts_where_its_checkpoint_ends(tmp_path):
    run(epochs=2, out=str(tmp_path))
    events, _ = heard(out=str(tmp_path), accept=("epochs",))
    assert (events[0].epoch, events[0].step, events[0].epoch_end) == (2, 8, 8)
    assert of(Step, events)[0].step == 9
