"""The best epoch's weights: the same with and without a folder, after any interruption, on any number of ranks."""

import dataclasses
import shutil

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import checkpoints_of, digest_arrays, find, read
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, EarlyStopping
from dbp.errors import UserError
from dbp.optim import Adam
from dbp.saving.start import Start
from tests.jobs import SMALL, dbp, mpirun, newest_checkpoint
from tests.saving.short_runs import run
from tests.small_data import X, Y

STEPS = 3  # of an epoch
# Few examples, and a network that learns them by heart: the validation cost rises soon.
OVERFITTING = {
    "data": Data((X, Y), validation=0.4),
    "model": [nn.Dense(32, "tanh"), nn.BatchNorm(), nn.Dense(3)],
    "optimizer": Adam(3e-2),
    "epochs": 60,
    "early_stopping": EarlyStopping(patience=4),
    "checkpoint": Checkpoint(every_epochs=1, keep=2),
}


def best_of(result):
    """Return the number of the epoch with the lowest validation cost."""
    return 1 + int(np.argmin(result.history["validation_cost"]))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return a run that stopped early, and its folder."""
    folder = tmp_path_factory.mktemp("stopped")
    return run(folder, **OVERFITTING), folder


def test_patience_ends_the_run_after_so_many_epochs_without_a_better_one(stopped):
    result, folder = stopped
    assert len(result.history["cost"]) == best_of(result) + 4 < 60
    assert result.epoch == best_of(result)
    outcome = newest_checkpoint(folder).progress["outcome"]
    assert outcome == "stopped early (validation cost was not better for 4 epochs)"


def test_the_result_is_the_best_epoch_and_the_last_one_is_there_too(stopped, tmp_path):
    result, folder = stopped
    until_then = run(tmp_path, **OVERFITTING | {"epochs": result.epoch})
    assert digest_arrays(until_then.weights) == digest_arrays(result.weights)
    with find(folder) as best, find(folder, last=True) as last:
        assert digest_arrays(best.inference_weights()) == digest_arrays(result.weights)
        assert (best.progress["epoch"], best.progress["step"]) == (result.epoch, STEPS * result.epoch)
        assert best.progress["last_epoch"] == last.progress["epoch"] == len(result.history["cost"])
        assert digest_arrays(last.inference_weights()) != digest_arrays(result.weights)
    alone = read(folder / "checkpoints" / "best.h5")
    assert digest_arrays(alone.model) == digest_arrays(result.weights)
    assert not alone.optimizer
    assert len(checkpoints_of(folder).files()) == 2


def test_without_a_folder_it_is_the_same(stopped):
    assert digest_arrays(run(**OVERFITTING).weights) == digest_arrays(stopped[0].weights)


@pytest.mark.parametrize("broken_after", [1, 3])
def test_a_run_that_was_broken_off_comes_to_the_same_best_epoch(stopped, tmp_path, broken_after):
    """Resume from a checkpoint after the best epoch, or before it, beside best weights that are later or absent."""
    result, folder = stopped
    kept = dataclasses.replace(OVERFITTING["checkpoint"], keep=100)
    run(tmp_path / "whole", **OVERFITTING | {"checkpoint": kept})
    step = STEPS * (result.epoch + (broken_after if broken_after > 1 else -1))
    (tmp_path / "part" / "checkpoints").mkdir(parents=True)
    for path in (checkpoints_of(tmp_path / "whole").path_of(step), folder / "checkpoints" / "best.h5"):
        if broken_after == 1 or path.name != "best.h5":
            shutil.copy(path, tmp_path / "part" / "checkpoints")
    again = run(tmp_path / "part", **OVERFITTING)
    assert digest_arrays(again.weights) == digest_arrays(result.weights)
    assert read(tmp_path / "part" / "checkpoints" / "best.h5").progress["epoch"] == result.epoch


def test_more_patience_goes_on_from_the_last_step_to_the_bits_of_an_unbroken_run(stopped, tmp_path):
    _, folder = stopped
    patient = OVERFITTING | {"early_stopping": EarlyStopping(patience=9)}
    whole = run(tmp_path / "whole", **patient)
    shutil.copytree(folder, tmp_path / "more")
    more = run(tmp_path / "more", **patient)
    assert len(more.history["cost"]) == best_of(more) + 9
    assert more.history["validation_cost"] == whole.history["validation_cost"]
    assert digest_arrays(more.weights) == digest_arrays(whole.weights)
    last = [newest_checkpoint(tmp_path / name) for name in ("whole", "more")]
    assert digest_arrays(last[0].model) == digest_arrays(last[1].model)


def test_averaged_weights_and_their_moments_are_those_of_the_best_epoch(tmp_path):
    averaged = OVERFITTING | {"optimizer": Adam(3e-2, average=0.9)}
    result = run(tmp_path, **averaged)
    assert result.epoch < len(result.history["cost"])
    assert digest_arrays(run(**averaged | {"epochs": result.epoch}).weights) == digest_arrays(result.weights)
    with find(tmp_path) as best:
        assert digest_arrays(best.inference_weights()) == digest_arrays(result.weights)


def test_a_run_whose_best_epoch_was_not_kept_says_so_and_begins_to_keep_it(tmp_path, capsys):
    settings = OVERFITTING | {"early_stopping": EarlyStopping(), "epochs": 8}
    first = run(tmp_path, **settings)
    assert first.epoch == 8 > best_of(first)
    keeping = {"epochs": 9, "early_stopping": EarlyStopping(restore_best=True)}
    more = run(tmp_path, Start(), **settings | keeping)
    assert more.epoch == 9
    assert f"note: the weights of epoch {best_of(first)}, the best so far, were not kept" in capsys.readouterr().out


def test_another_metric_decides_from_then_on(tmp_path, capsys):
    settings = OVERFITTING | {"epochs": 8, "early_stopping": EarlyStopping(restore_best=True)}
    first = run(tmp_path, **settings)
    other = EarlyStopping(metric="validation_accuracy", restore_best=True)
    more = run(tmp_path, Start(), **settings | {"epochs": 9, "early_stopping": other})
    assert (first.epoch, more.epoch) == (best_of(first), 9)
    note = f"note: epoch {first.epoch} was the best by validation cost; by validation accuracy the best one counts from"
    assert note in capsys.readouterr().out


def test_a_disk_that_fails_for_the_best_weights_alone_is_said(stopped, tmp_path, monkeypatch, capsys):
    from dbp.checkpoint import CheckpointFolder
    from dbp.errors import StorageError

    whole, failing = CheckpointFolder.save_best, [True] * 8

    def save_best(self, best, pause):
        if failing and failing.pop():
            raise StorageError("best.h5 cannot be written: no")
        whole(self, best, pause)

    monkeypatch.setattr(CheckpointFolder, "save_best", save_best)
    result = run(tmp_path, Start(), **OVERFITTING)
    out = capsys.readouterr().out
    assert out.count("warning: best.h5 cannot be written: no; the checkpoint itself is written") == 1
    assert f"the result is epoch {result.epoch}, the best by validation cost (" in out
    assert digest_arrays(read(tmp_path / "checkpoints" / "best.h5").model) == digest_arrays(stopped[0].weights)


def test_the_setting_is_checked():
    with pytest.raises(UserError, match=r"early_stopping.restore_best must be true or false, but is 'yes'"):
        EarlyStopping(restore_best="yes")
    assert not EarlyStopping(patience=3, restore_best=False).keeps_best


# A rate that is too high for the validation cost to fall steadily, and weights enough for ranks to share them.
JUMPING = SMALL.replace("units = 16", "units = 128").replace("learning_rate = 1e-2", "learning_rate = 8e-2")
KEEPING = ("--set", "epochs=5", "--set", "early_stopping={restore_best = true}", "--set", "schedule.kind=constant")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return the folder of a run on one rank, whose best epoch is not the last."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "config.toml").write_text(JUMPING)
    outcome = dbp("train", folder / "config.toml", "--out", folder / "run", *KEEPING)
    assert outcome.code == 0, outcome.text
    return folder


@pytest.mark.slow
def test_the_same_bits_on_three_ranks(alone, tmp_path):
    outcome = mpirun(3, "-m", "dbp", "train", alone / "config.toml", "--out", tmp_path / "run", *KEEPING)
    assert outcome.code == 0, outcome.text
    found = [read(folder / "run" / "checkpoints" / "best.h5") for folder in (alone, tmp_path)]
    assert found[0].progress["epoch"] == found[1].progress["epoch"] < 5
    assert digest_arrays(found[0].model) == digest_arrays(found[1].model)
    tests = [line for line in outcome.out.splitlines() if line.startswith("test: ")]
    assert tests[0].endswith(f"(359 examples, best epoch {found[0].progress['epoch']} of 5)")


@pytest.mark.slow
def test_commands_take_the_best_epoch_and_say_so(alone, tmp_path, run_command):
    folder = alone / "run"

    def printed(*words):
        code, out, errors = run_command(*words)
        assert code == 0, errors
        return out.rstrip()

    with find(folder) as best:
        words = f"best epoch {best.progress['epoch']} of 5"
    test = printed("eval", folder, "dbp:digits-test")
    assert test.endswith(f"(359 examples, {words})")
    assert printed("eval", folder, "dbp:digits-test", "--last").endswith("(359 examples)")
    from_file = printed("eval", folder / "checkpoints" / "best.h5", "dbp:digits-test")
    assert from_file.partition("(")[0] == test.partition("(")[0]
    assert f"359 predictions by {words} written to" in printed("predict", folder, "dbp:digits-test", tmp_path / "p.h5")
    assert printed("export", folder, tmp_path / "w.npz").endswith(words)
    assert printed("neurons", folder, "dbp:digits-test").endswith(f"weights: {words}")
    assert "best.h5: intact" in printed("verify", folder)
