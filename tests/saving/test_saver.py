"""Checkpoints of a run: which ones are kept, early stopping, and disks that fail."""

import errno
import json
import os

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import checkpoints_of, digest_arrays, read
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, EarlyStopping
from dbp.errors import StorageError, UserError
from dbp.files import writing_to
from dbp.optim import SGD
from dbp.run.progress import epochs_since_best, is_better
from dbp.saving.start import Start
from tests.jobs import newest_checkpoint
from tests.saving.short_runs import run, steps
from tests.small_data import X

# --- what is kept -----------------------------------------------------------------------------------


def test_the_last_ones_every_kth_and_the_best_weights_are_kept(tmp_path):
    """A rate that becomes too large makes an early epoch the best."""
    rising = nn.MeanSquaredError()
    data = Data((X, X[:, :1]), validation=0.2)
    saving, best = Checkpoint(every_epochs=0, every_steps=2, keep=2, keep_every=6), EarlyStopping(restore_best=True)
    changes = {"loss": rising, "model": [nn.Dense(1)], "data": data, "optimizer": SGD(2.2), "epochs": 5}
    run(tmp_path, checkpoint=saving, early_stopping=best, **changes)
    checkpoint = newest_checkpoint(tmp_path)
    costs = checkpoint.history["validation_cost"]
    step = int(checkpoint.progress["best_step"])
    assert step == 4 * (int(np.argmin(costs)) + 1) < 20
    assert steps(tmp_path) == [6, 12, 18, 20]
    assert read(tmp_path / "checkpoints" / "best.h5").progress["step"] == step


def test_an_unknown_metric_is_refused():
    with pytest.raises(UserError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        run(early_stopping=EarlyStopping(metric="acuracy"))


def test_a_run_ends_early_if_it_does_not_become_better(tmp_path):
    stopping = EarlyStopping(patience=2, metric="validation_accuracy", least_change=0.02)
    whole = run(tmp_path / "whole", epochs=100, early_stopping=stopping)
    column = whole.history["validation_accuracy"]
    assert len(column) < 100
    assert epochs_since_best("validation_accuracy", column, 0.02, larger=True) == 2
    assert epochs_since_best("validation_accuracy", column[:-1], 0.02, larger=True) == 1
    outcome = newest_checkpoint(tmp_path / "whole").progress["outcome"]
    assert outcome == "stopped early (validation accuracy was not better for 2 epochs)"
    middle = checkpoints_of(tmp_path / "whole").path_of(4 * len(column) - 5)
    (tmp_path / "part" / "checkpoints").mkdir(parents=True)
    (tmp_path / "part" / "checkpoints" / middle.name).write_bytes(middle.read_bytes())
    again = run(tmp_path / "part", epochs=100, early_stopping=stopping)  # its patience counts on
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    assert again.history["validation_accuracy"] == column


@pytest.mark.parametrize(
    ("larger", "value", "best", "expected"),
    [
        (False, 1.0, 2.0, True),
        (False, 2.0, 2.0, False),
        (True, 2.0, 1.0, True),
        (False, float("nan"), 2.0, False),
        (False, 2.0, float("nan"), True),
    ],
)
def test_better(larger, value, best, expected):
    assert is_better(value, best, larger) is expected


# --- disks that fail --------------------------------------------------------------------------------


def failing_disk(monkeypatch, steps_that_fail):
    """Make some checkpoints fail to be written."""
    from dbp.checkpoint import folder

    def write(path, checkpoint, pause):
        if int(path.stem[5:]) in steps_that_fail:
            with writing_to(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(path, checkpoint, pause=pause)

    whole = folder.write
    monkeypatch.setattr(folder, "write", write)


def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path, monkeypatch, capsys):
    whole = run()
    failing_disk(monkeypatch, range(5, 9))
    result = run(tmp_path, Start())
    out = capsys.readouterr().out
    assert out.count("step-000000005.h5 cannot be written: No space left on device (errno 28); training continues") == 1
    assert out.count("warning: ") == 1
    assert out.count("checkpoints are written again") == 1
    assert steps(tmp_path) == [1, 2, 3, 4, *range(9, 17)]
    assert digest_arrays(result.weights) == digest_arrays(whole.weights)


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("dbp.saving.saver.RETRY_SECONDS", 0.0)
    failing_disk(monkeypatch, range(15, 99))
    with pytest.raises(StorageError, match=r"No space left on device.*the state after step 16 is lost") as error:
        run(tmp_path)
    assert (error.value.exit_code, steps(tmp_path)[-1]) == (74, 14)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    monkeypatch.undo()
    assert digest_arrays(run(tmp_path).weights) == digest_arrays(run().weights)
