"""Counts of epochs and steps, and the best epoch of the history."""

import math

import pytest

from dbp.nn import CrossEntropy
from dbp.run.fitted_metrics import default_metrics
from dbp.run.not_finite import NotFiniteRecord
from dbp.run.progress import Progress, epochs_since_best, invalid_attribute, is_better


def test_skipped_steps_are_counted_once():
    """The count of an epoch is what the run's count has grown since the epochs before."""
    progress = Progress()
    for expected in (2, 1):
        for _ in range(expected):
            progress.after_skipped_step()
        progress.after_step(progress.totals)
        assert progress.skipped_in_epoch == expected
        progress.after_epoch({}, {"learning_rate": 1.0})
    assert progress.history["skipped"] == [2, 1]
    assert (progress.step, progress.updates, progress.not_finite.skipped_steps) == (5, 2, 3)


def test_attributes_are_stored_and_restored():
    metrics = default_metrics(CrossEntropy())
    progress = Progress(metrics, step=7, outcome="converged", not_finite=NotFiniteRecord(rollbacks=2))
    other = Progress(metrics)
    other.restore(progress.to_attributes(), {"cost": [1.0]})
    assert other.to_attributes() | {"elapsed": 0} == progress.to_attributes() | {"elapsed": 0}
    assert other.history == {"cost": [1.0]}


@pytest.mark.parametrize(("column", "epoch"), [("cost", 3), ("accuracy", 0)])
def test_a_best_epoch_by_another_column_is_forgotten(column, epoch):
    attributes = Progress(best_epoch=3, best_step=9, best_value=0.5).to_attributes()
    other = Progress(best_by=column)
    other.restore(attributes, {})
    assert (other.best_epoch, other.best_step, other.best_value == 0.5) == (epoch, 3 * epoch, bool(epoch))


@pytest.mark.parametrize(("name", "value"), [("step", -1), ("rollbacks", 1.0), ("finished", None)])
def test_attributes_that_no_run_has_stored_are_found(name, value):
    attributes = Progress().to_attributes()
    assert invalid_attribute(attributes) is None
    assert invalid_attribute(attributes | {name: value}) == f"its {name} is {value!r}"


def test_what_is_not_finite_is_never_better():
    assert not is_better(math.inf, math.nan, larger=False)
    assert not is_better(math.inf, 0.5, larger=True)
    assert is_better(3.0, math.inf, larger=False)
    assert [is_better(value, 2.0, larger=False) for value in (math.nan, -math.inf, 1.0)] == [False, False, True]


def test_validation_costs_that_are_not_finite_count_for_nothing():
    values = [3.0, math.inf, math.nan, 2.0, math.inf, 2.5]
    assert epochs_since_best("validation_cost", values, 0.0) == 1
    assert epochs_since_best("validation_cost", [math.inf] * 9, 0.0) == 0
    assert epochs_since_best("cost", values, 0.0) == 2  # of steps that were all skipped
    progress = Progress()
    progress.history = {"validation_cost": values, "cost": [1.0] * 6}
    assert progress.to_minimize("validation_cost") == [3.0, 2.0, 2.5]
    progress.history["validation_cost"] = [math.inf]
    assert progress.to_minimize("validation_cost") == []


def test_sums_that_a_checkpoint_lacks_or_no_run_has_stored_are_no_numbers():
    progress = Progress(default_metrics(CrossEntropy()), step=7, step_in_epoch=3)
    attributes = progress.to_attributes() | {"step_in_epoch": 3}
    for given in ({"epoch_accuracy": "many"}, {"epoch_accuracy": None}):
        progress.restore(attributes | given, {})
        assert math.isnan(progress.totals.metrics[0])
    progress.restore(attributes | {"step_in_epoch": 0, "epoch_accuracy": "many"}, {})
    assert progress.totals.metrics[0] == 0
