"""Sets of metrics: shared sums, directions, mixed examples, and what training takes of them."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.metrics import F1, Metric, Predictions
from dbp.run.fitted_metrics import default_metrics
from tests.metrics.values import CLASSES, LABELS, NUMBERS, SCORES, WEIGHTS, fitted

ALL = ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "log_loss", "auc", "confusion_matrix"]


def test_metrics_share_their_sums():
    found = fitted(ALL, nn.CrossEntropy(), SCORES, LABELS)
    assert found.width == 2 + 3 * CLASSES + CLASSES**2
    assert found.training.width == 2 + 3 * CLASSES
    assert {"auc", "confusion_matrix"}.isdisjoint(found.training.columns)
    assert [name for name, _ in found.training.named_sums(np.zeros(14))] == ["accuracy", "class_counts", "log_loss"]


def test_each_column_says_which_direction_is_better():
    found = fitted(ALL, nn.CrossEntropy(), SCORES, LABELS)
    larger = {name for name in found.columns if found.larger_is_better(name)}
    assert set(found.columns) - larger == {"log_loss"}
    assert found.larger_is_better("validation_auc")
    assert not found.larger_is_better("validation_cost")
    errors = fitted(["mae", "rmse", "mse", "r2"], nn.MeanSquaredError(), NUMBERS, NUMBERS)
    assert {name for name in errors.columns if errors.larger_is_better(name)} == {"r2", "r2_0", "r2_1", "r2_2"}


def test_default_metrics_are_those_of_the_loss():
    assert {loss.kind: list(default_metrics(loss).columns) for loss in map(nn.loss_named, nn.LOSSES)} == {
        "cross_entropy": ["accuracy"],
        "binary_cross_entropy": ["accuracy"],
        "kullback_leibler": ["accuracy"],
        "hinge": ["accuracy"],
        "mean_squared_error": ["mean_absolute_error"],
        "mean_absolute_error": ["mean_absolute_error"],
        "huber": ["mean_absolute_error"],
    }


def test_two_metrics_of_one_column_are_refused():
    own = Metric("f1", lambda outputs, targets, weights: [1.0], lambda sums: sums[0], larger_is_better=True)
    with pytest.raises(UserError, match="metrics 'f1' and 'own' both have the column 'f1'; leave one out"):
        fitted([F1(), own], nn.CrossEntropy(), SCORES, LABELS)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_a_mixed_example_counts_for_itself_and_its_partner(weights):
    partners, share = np.random.default_rng(0).permutation(60), 0.7
    found = fitted(["accuracy", "f1"], nn.CrossEntropy(), SCORES, LABELS)
    sums = np.empty(found.width)
    found.write_sums(sums, Predictions(SCORES, LABELS, weights), nn.Mixture(partners, share))
    own, other = np.empty(found.width), np.empty(found.width)
    found.write_sums(own, Predictions(SCORES, LABELS, weights))
    of_partners = None if weights is None else np.where(weights != 0, weights[partners], 0)
    found.write_sums(other, Predictions(SCORES, LABELS[partners], of_partners))
    np.testing.assert_allclose(sums, share * own + (1 - share) * other, rtol=1e-12)
