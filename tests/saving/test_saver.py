"""How a run is kept: which checkpoints stay, what may change, the lock, the status, stopping, disks that fail."""

import dataclasses
import errno
import fcntl
import json
import os
import signal

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import checkpoints_of, digest_arrays, read, step_of
from dbp.config.settings import Data, EarlyStopping, Saving, Settings, Watching
from dbp.errors import Stopped, StorageError, UserError
from dbp.optim import SGD, Adam
from dbp.parallel import OneProcess
from dbp.progress import better, epochs_since_best
from dbp.resuming import Start
from dbp.settings import Data, EarlyStopping, Saving, Settings, Watching
from dbp.stopping import Stopped, Stopping, parse_time, signals
from dbp.train import train
from tests.jobs import newest_checkpoint
from tests.problems import X, Y

BASE = Settings(
    model=[nn.Dense(8, "tanh"), nn.Dense(3)],
    loss="cross_entropy",
    data=Data((X, Y), validation=0.2),
    optimizer=Adam(1e-2),
    epochs=4,
    batch_size=12,
    checkpoint=Saving(every_steps=1, keep=100),
)


def run(out=None, start=None, **changes):
    settings = dataclasses.replace(BASE, out=None if out is None else str(out), **changes)
    return train(settings, OneProcess(), dataclasses.replace(start or Start(), quiet=start is None))


def steps(folder):
    return [step_of(path) for path in checkpoints_of(folder).files()]


# --- what is kept -----------------------------------------------------------------------------------


def test_the_last_ones_every_kth_and_the_best_are_kept(tmp_path):
    """A rate that is too large in the end makes an early epoch the best."""
    rising = nn.MeanSquaredError()
    data = Data((X, X[:, :1]), validation=0.2)
    saving = Saving(every_epochs=0, every_steps=2, keep=2, keep_every=6, best="validation_cost")
    run(tmp_path, loss=rising, model=[nn.Dense(1)], data=data, optimizer=SGD(2.2), checkpoint=saving, epochs=5)
    checkpoint = newest_checkpoint(tmp_path)
    costs = checkpoint.history["validation_cost"]
    best = int(checkpoint.progress["best_step"])
    assert best == 4 * (int(np.argmin(costs)) + 1) < 20
    assert set(steps(tmp_path)) == {best, 6, 12, 18, 20}
    assert (tmp_path / "checkpoints" / "best.h5").readlink().name == f"step-{best:09d}.h5"
    assert read(tmp_path / "checkpoints" / "best.h5").progress["step"] == best


def test_an_unknown_metric_is_refused():
    with pytest.raises(UserError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        run(checkpoint=Saving(best="acuracy"))


def test_a_run_ends_early_if_it_does_not_become_better(tmp_path):
    stopping = EarlyStopping(patience=2, metric="validation_accuracy", least_change=0.02)
    whole = run(tmp_path / "whole", epochs=100, early_stopping=stopping)
    column = whole.history["validation_accuracy"]
    assert len(column) < 100
    assert epochs_since_best("validation_accuracy", column, 0.02) == 3
    assert epochs_since_best("validation_accuracy", column[:-1], 0.02) == 2
    outcome = newest_checkpoint(tmp_path / "whole").progress["outcome"]
    assert outcome == "stopped early (validation accuracy was not better for 3 epochs)"
    middle = checkpoints_of(tmp_path / "whole").path_of(4 * len(column) - 5)
    (tmp_path / "part" / "checkpoints").mkdir(parents=True)
    (tmp_path / "part" / "checkpoints" / middle.name).write_bytes(middle.read_bytes())
    again = run(tmp_path / "part", epochs=100, early_stopping=stopping)  # its patience counts on
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    assert again.history["validation_accuracy"] == column


@pytest.mark.parametrize(
    ("column", "value", "best", "expected"),
    [
        ("cost", 1.0, 2.0, True),
        ("cost", 2.0, 2.0, False),
        ("validation_accuracy", 2.0, 1.0, True),
        ("cost", float("nan"), 2.0, False),
        ("cost", 2.0, float("nan"), True),
    ],
)
def test_better(column, value, best, expected):
    assert better(column, value, best) is expected


# --- going on ---------------------------------------------------------------------------------------


def test_what_differs_is_told_and_refused_unless_accepted(tmp_path, capsys):
    run(tmp_path, epochs=1)
    with pytest.raises(UserError, match=r"learning_rate: 0.01 in the checkpoint, 0.02 now.*--accept optimizer.learn"):
        run(tmp_path, optimizer=Adam(2e-2))
    result = run(tmp_path, Start(accept=("optimizer",)), optimizer=Adam(2e-2), epochs=2)
    assert result.steps == 8
    out = capsys.readouterr().out
    assert "note: what differs from the run so far: " in out
    assert "epochs: 1 in the checkpoint, 2 now; optimizer.learning_rate: 0.01 in the checkpoint, 0.02 now" in out


def test_other_data_may_be_accepted_but_not_another_model(tmp_path):
    run(tmp_path, epochs=1)
    other = Data((X + 1, Y), validation=0.2)
    with pytest.raises(UserError, match=r"go on nevertheless with --accept data.train"):
        run(tmp_path, data=other)
    run(tmp_path, Start(accept=("data.train",)), data=other, epochs=2)
    with pytest.raises(UserError, match=r"is of another run \(model/dense_1/weight is <f4 \(5, 8\) in the checkpoint"):
        run(tmp_path, Start(accept=("model", "data")), model=[nn.Dense(9, "tanh"), nn.Dense(3)])


def test_a_damaged_file_is_kept_under_another_name(tmp_path, capsys):
    whole = run(tmp_path)
    newest = checkpoints_of(tmp_path).files()[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    again = run(tmp_path, Start())
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    assert f"warning: checkpoint {newest} is damaged" in capsys.readouterr().out
    assert newest.with_name(newest.name + ".damaged").exists()
    assert read(newest).progress["finished"]


def test_a_run_that_comes_to_nothing_again_and_again_is_not_started(tmp_path, monkeypatch):
    """Each start dies before its next checkpoint."""
    monkeypatch.setattr("dbp.training.loop._epochs", lambda *_: (_ for _ in ()).throw(ZeroDivisionError()))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run(tmp_path)
    with pytest.raises(UserError, match=r"was started 3 times from step 0 and never came .*--retry"):
        run(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, watch=Watching(most_starts=0))
    monkeypatch.undo()
    assert run(tmp_path, Start(retry=True)).steps == 16


# --- lock and status --------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path):
    run(tmp_path, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with (tmp_path / ".lock").open("w") as file:
        file.write("host n1, process 5")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"belongs to a run that is going on \(host n1, process 5\); .*--out"):
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


# --- stopping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_stops_after_the_step_and_the_rest_follows(tmp_path, capsys, number):
    whole = run()
    before = signal.getsignal(number)
    with signals:
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as stopped:
            run(tmp_path, Start(), checkpoint=Saving())
    assert stopped.value.code == 75
    assert signal.getsignal(number) == before
    name = signal.Signals(number).name
    assert f"stop requested by {name}: saved step 1; the same command goes on" in capsys.readouterr().out
    assert steps(tmp_path) == [1]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
    assert digest_arrays(run(tmp_path).weights) == digest_arrays(whole.weights)


def test_a_stop_in_the_last_step_lets_the_run_finish(tmp_path):
    run(tmp_path, epochs=3)
    with signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert run(tmp_path, epochs=3).steps == 12


def test_a_stop_file_stops_and_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("dbp.saving.stopping.LOOK", 0.0)
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
    stopping.after_step()
    stopping.after_save(3.0)
    now[0] = 141.9  # 60 - 2 (5 + 3) - 2 = 42 s
    assert not stopping.asks()
    now[0] = 142.1
    assert stopping.asks()
    assert stopping.reason == "the time limit of 60 s"
    assert not Stopping(leads=False, limit=0.0).asks()


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


# --- disks that fail --------------------------------------------------------------------------------


def failing_disk(monkeypatch, steps_that_fail):
    """Writing of some checkpoints fails."""
    from dbp.checkpoint import folder

    def write(path, checkpoint):
        if int(path.stem[5:]) in steps_that_fail:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(path, checkpoint)

    whole = folder.write
    monkeypatch.setattr(folder, "write", write)


def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path, monkeypatch, capsys):
    whole = run()
    failing_disk(monkeypatch, range(5, 9))
    result = run(tmp_path, Start())
    out = capsys.readouterr().out
    assert out.count("step-000000005.h5 cannot be written: No space left on device (errno 28); training goes on") == 1
    assert out.count("warning: ") == 1
    assert out.count("checkpoints are written again") == 1
    assert steps(tmp_path) == [1, 2, 3, 4, *range(9, 17)]
    assert digest_arrays(result.weights) == digest_arrays(whole.weights)


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("dbp.saving.saver.PAUSE", 0.0)
    failing_disk(monkeypatch, range(15, 99))
    with pytest.raises(StorageError, match=r"No space left on device.*the state after step 16 is lost") as error:
        run(tmp_path)
    assert (error.value.exit_code, steps(tmp_path)[-1]) == (74, 14)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    monkeypatch.undo()
    assert digest_arrays(run(tmp_path).weights) == digest_arrays(run().weights)
