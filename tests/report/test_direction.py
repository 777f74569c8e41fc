"""Whether larger is better: what metrics say, of classes too, and of code what the best epoch shows."""

import pytest

from dbp.report.direction import larger_is_better
from dbp.report.record import RunRecord
from tests.report.runs import write_run


@pytest.fixture
def record(tmp_path):
    return RunRecord.of(write_run(tmp_path / "run"))


def test_metrics_say_which_direction_is_better(record):
    record.config = {
        **record.config,
        "metrics": ["accuracy", {"kind": "f1", "per_class": True}, "log_loss", "confusion_matrix"],
    }
    names = ("cost", "validation_cost", "accuracy", "validation_f1", "f1_cat", "validation_f1_2", "log_loss", "unknown")
    found = [larger_is_better(record, name) for name in names]
    assert found == [False, False, True, True, True, True, False, False]


def test_the_best_epoch_shows_it_for_a_metric_that_is_code(record):
    record.config = {
        **record.config,
        "metrics": [{"custom": "mine"}],
        "early_stopping": {"metric": "validation_accuracy"},
    }
    record.progress = {**record.progress, "best_by": "validation_accuracy"}
    assert larger_is_better(record, "validation_accuracy")
    assert not larger_is_better(record, "accuracy")
    assert not larger_is_better(RunRecord(record.path), "accuracy")
