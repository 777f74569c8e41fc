"""Metrics that do not fit, and the names of columns."""

import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.metrics.fitting import safe_names
from tests.metrics.values import LABELS, NUMBERS, SCORES, values


def test_names_of_classes_become_different_identifiers():
    names = ["cat", "a b", "a_b", "micro", "", "<script>", "naïve", "a_b_2", "x" * 99, "x" * 98]
    found = safe_names(names)
    assert found[:5] == ["cat", "a_b", "a_b_2", "micro_3", "_"]
    assert len(set(found)) == len(found)
    assert all(f"f1_{name}".isidentifier() and len(name) <= 45 for name in found)


class OwnLoss(nn.MeanSquaredError):
    """A loss that does not say what its targets are."""

    kind = "own"
    targets_are = ""


@pytest.mark.parametrize(
    ("metric", "loss", "outputs", "targets", "message"),
    [
        (
            "rmse",
            nn.CrossEntropy(),
            SCORES,
            LABELS,
            "'rmse' is one of numbers, but .* are classes; take",
        ),
        ("f1", nn.MeanSquaredError(), NUMBERS, NUMBERS, "'f1' is one of classes or answers yes or no, but .* numbers"),
        ("accuracy", nn.Huber(), NUMBERS, NUMBERS, "'accuracy' is one of classes or answers"),
        ("mean_absolute_error", nn.CrossEntropy(), SCORES, LABELS, "such as accuracy, f1 or top_k"),
        ("top_k", nn.BinaryCrossEntropy(), SCORES, SCORES, "'top_k' is one of classes"),
        ("mae", OwnLoss(), NUMBERS, NUMBERS, "'own' does not say what .* targets_are = 'numbers', or take a metric of"),
    ],
)
def test_a_metric_that_does_not_fit_the_loss_is_refused(metric, loss, outputs, targets, message):
    with pytest.raises(UserError, match=message):
        values(metric, loss, outputs, targets)
