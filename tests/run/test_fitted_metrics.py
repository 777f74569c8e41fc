"""Metrics of runs: in the units of the data, in early stopping, and after a resume with others."""

import numpy as np
import pytest
from sklearn import metrics as peer

from dbp import nn
from dbp.config.data import Data
from dbp.config.settings import EarlyStopping
from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.metrics import Metric
from dbp.optim import Plateau
from tests.jobs import newest_checkpoint
from tests.saving.short_runs import run
from tests.small_data import X, Y

NUMBERS = np.stack([300 + 2 * X[:, 0], 0.01 * X[:, 1]], axis=1)
DATA = ArrayDataset(X, NUMBERS, np.linspace(0, 1, 60), target_names=["energy", "length"])


def test_errors_are_in_the_units_of_the_data():
    """Also where the run standardizes targets; the metric of one's own sees them so too."""
    own = Metric("target", lambda o, t, w: [(w * t[:, 0]).sum(), w.sum()], lambda sums: sums[0] / sums[1], False)
    result = run(
        model=[nn.Dense(2)],
        loss="mean_squared_error",
        metrics=["rmse", "r2", "mae", own],
        data=Data(DATA, test=DATA, standardize="both"),
        dtype="float64",
        epochs=2,
    )
    bias, weight = sorted(result.weights.values(), key=np.ndim)
    meaning = result.meaning
    inputs, targets = meaning["inputs"], meaning["targets"]
    outputs = (X - inputs.mean) / inputs.deviation @ weight + bias
    outputs = outputs * targets.deviation + targets.mean
    given = {"sample_weight": np.linspace(0, 1, 60), "multioutput": "raw_values"}
    for kind, function in (
        ("rmse", peer.root_mean_squared_error),
        ("mae", peer.mean_absolute_error),
        ("r2", peer.r2_score),
    ):
        each = function(NUMBERS, outputs, **given)
        names = (f"{kind}_energy", f"{kind}_length")
        assert [result.test[name] for name in names] == pytest.approx(list(each), rel=1e-11)
        assert result.test[kind] == pytest.approx(np.mean(each), rel=1e-11)
    assert result.test["target"] == pytest.approx(np.average(NUMBERS[:, 0], weights=given["sample_weight"]))
    assert set(result.test) <= set(result.history)


def test_early_stopping_and_the_best_epoch_go_by_the_direction_of_the_metric():
    stopping = EarlyStopping(patience=2, metric="validation_log_loss")
    by_loss = run(metrics=["log_loss"], epochs=60, early_stopping=stopping)
    column = by_loss.history["validation_log_loss"]
    assert len(column) < 60 or min(column) == column[-1]
    by_f1 = run(metrics=["f1"], epochs=60, early_stopping=EarlyStopping(patience=4, metric="validation_f1"))
    column = by_f1.history["validation_f1"]
    assert len(column) < 60
    assert int(np.argmax(column)) == len(column) - 5


def test_plateau_goes_by_a_metric():
    rates = run(metrics=["f1"], epochs=30, schedule=Plateau(patience=1, metric="validation_f1")).history
    best, stale, changes = -np.inf, 0, 0
    for value in rates["validation_f1"][:-1]:
        stale = 0 if value > best * (1 + 1e-4 * np.sign(best)) else stale + 1
        best = max(best, value)
        if stale > 1:
            changes, stale = changes + 1, 0
    assert changes > 0
    assert rates["learning_rate"][-1] == pytest.approx(1e-2 * 0.1**changes)
    with pytest.raises(UserError, match="unknown metric 'validation_f2'; did you mean 'validation_f1"):
        run(metrics=["f1"], schedule=Plateau(metric="validation_f2"))


@pytest.mark.parametrize("steps", [4, 6], ids=["between epochs", "within an epoch"])
def test_a_run_goes_on_with_other_metrics(tmp_path, steps):
    """Weights are those of an unbroken run; values of epochs in which a metric was not taken are no numbers."""
    whole = run(tmp_path / "whole", epochs=4, metrics=["f1", "confusion_matrix"])
    part = tmp_path / "part"
    run(part, epochs=4, metrics=["accuracy", "auc"])
    for path in (part / "checkpoints").glob("*.h5"):
        if path.stem != f"step-{steps:09}":
            path.unlink()
    result = run(part, epochs=4, metrics=["f1", "confusion_matrix"])
    assert all(np.array_equal(array, whole.weights[name]) for name, array in result.weights.items())
    lengths = {len(column) for column in result.history.values()}
    assert lengths == {4}
    missing = 2 if steps == 6 else 1
    assert np.isnan(result.history["f1"]).tolist() == [True] * missing + [False] * (4 - missing)
    assert result.history["f1"][missing:] == whole.history["f1"][missing:]
    assert np.isnan(result.history["validation_auc"]).tolist() == [False] + [True] * 3
    tables = newest_checkpoint(part).tables
    np.testing.assert_array_equal(
        tables["validation/confusion_matrix"],
        newest_checkpoint(tmp_path / "whole").tables["validation/confusion_matrix"],
    )
    assert tables["validation/confusion_matrix"].sum() == 12


def test_a_broken_run_comes_to_the_same_history(tmp_path):
    """The sums of the epoch under way are kept too."""
    kinds = ["f1", "accuracy", "auc"]
    whole = run(tmp_path / "whole", epochs=3, metrics=kinds)
    for path in (tmp_path / "whole" / "checkpoints").glob("*.h5"):
        if path.stem != "step-000000006":
            path.unlink()
    again = run(tmp_path / "whole", epochs=3, metrics=kinds)
    for name, column in whole.history.items():
        assert name == "seconds" or again.history[name] == column, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metrics": ["auc"], "data": Data((X, Y), validation=(X[:9], np.zeros(9, int)))},
            "but those of the validation data are all of one",
        ),
        ({"metrics": [{"kind": "top_k", "k": 5}]}, "k must be below the number of classes, 3"),
        ({"metrics": ["rmse"]}, "'rmse' is one of numbers"),
        ({"metrics": ["f2"]}, "unknown metric 'f2'"),
        (
            {"early_stopping": EarlyStopping(metric="auc"), "metrics": ["auc"]},
            "unknown metric 'auc'; valid: cost, validation_auc",
        ),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        run(**changes)
