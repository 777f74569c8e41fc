"""Restoring a run: from a folder with a damaged checkpoint, and after its end."""

import numpy as np
import pytest

from dbp.checkpoint import checkpoints_of, digest_arrays, read
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, EarlyStopping
from dbp.nn import MeanSquaredError
from dbp.optim import LevenbergMarquardt
from dbp.saving.start import Start
from tests.saving.short_runs import run
from tests.small_data import X


def test_a_damaged_file_is_kept_under_another_name(tmp_path, capsys):
    whole = run(tmp_path)
    newest = checkpoints_of(tmp_path).files()[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    again = run(tmp_path, Start())
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    assert f"warning: checkpoint {newest} is damaged" in capsys.readouterr().out
    assert newest.with_name(newest.name + ".damaged").exists()
    assert read(newest).progress["finished"]


@pytest.mark.parametrize("change", [{"early_stopping": EarlyStopping(patience=100)}, {"epochs": 9}])
def test_a_run_that_stopped_early_goes_on_when_patience_or_epochs_are_raised(tmp_path, capsys, change):
    """Compare with the bits of a run that was never stopped."""
    settings = {"epochs": 8, "early_stopping": EarlyStopping(patience=1, least_change=10.0), "checkpoint": Checkpoint()}
    stopped = run(tmp_path, **settings)
    assert len(stopped.history["cost"]) == 2
    same = run(tmp_path, Start(), **settings)
    assert same.steps == stopped.steps
    assert (
        "stopped early (validation cost was not better for 1 epoch); raise early_stopping.pat"
        in capsys.readouterr().out
    )
    again = run(tmp_path, Start(), **settings | change)
    assert "note: the run had ended (stopped early (" in capsys.readouterr().out
    whole = run(epochs=len(again.history["cost"]))
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    # With more epochs the patience is as short as before, so that the next epoch is the last again.
    assert len(again.history["cost"]) == (3 if "epochs" in change else 8)


def test_less_patience_leaves_a_run_stopped(tmp_path):
    settings = {"epochs": 8, "early_stopping": EarlyStopping(patience=2, least_change=10.0), "checkpoint": Checkpoint()}
    stopped = run(tmp_path, **settings)
    again = run(tmp_path, **settings | {"early_stopping": EarlyStopping(patience=1, least_change=10.0)})
    assert again.steps == stopped.steps


def test_a_converged_run_goes_on_with_more_epochs_or_another_tolerance(tmp_path):
    method = LevenbergMarquardt(cost_tolerance=0.5)
    data = Data((X, np.sin(X[:, :3])))
    settings = {"optimizer": method, "batch_size": 60, "data": data, "loss": MeanSquaredError(), "dtype": "float64"}
    settings["checkpoint"] = Checkpoint()
    first = run(tmp_path, epochs=30, **settings)
    assert len(first.history["cost"]) < 30
    assert run(tmp_path, epochs=30, **settings).steps == first.steps
    assert run(tmp_path, epochs=31, **settings).steps > first.steps
    settings["optimizer"] = LevenbergMarquardt(cost_tolerance=0.1)
    again = run(tmp_path, Start(accept=("optimizer.cost_tolerance",)), epochs=31, **settings)
    assert again.steps > first.steps + 1
