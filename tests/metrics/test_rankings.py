"""The area under the ROC curve and the average precision, beside those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as peer

from dbp import nn
from dbp.errors import UserError
from tests.metrics.values import RNG, SCORES, WEIGHTS, YES, probabilities, values

BOTH = ["auc", "average_precision"]
LABELS = RNG.integers(0, 4, 60)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_classes_are_ranked_one_against_the_rest(weights):
    found, _ = values(BOTH, nn.CrossEntropy(), SCORES, LABELS, weights)
    p = probabilities(SCORES)
    assert found["auc"] == pytest.approx(
        peer.roc_auc_score(LABELS, p, multi_class="ovr", average="macro", sample_weight=weights), abs=1e-12
    )
    hits = LABELS[:, None] == np.arange(4)
    assert found["average_precision"] == pytest.approx(
        peer.average_precision_score(hits, p, sample_weight=weights), abs=1e-12
    )
    each = peer.roc_auc_score(hits, p, average=None, sample_weight=weights)
    assert [found[f"auc_{number}"] for number in range(4)] == pytest.approx(list(each), abs=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_answers_and_two_classes(weights):
    outputs = SCORES[:, :3]
    p = nn.BinaryCrossEntropy().predict(outputs)["probabilities"]
    found, _ = values(BOTH, nn.BinaryCrossEntropy(), outputs, YES, weights)
    assert found["auc"] == pytest.approx(peer.roc_auc_score(YES, p, sample_weight=weights), abs=1e-12)
    expected = peer.average_precision_score(YES, p, average=None, sample_weight=weights)
    assert [found[f"average_precision_{number}"] for number in range(3)] == pytest.approx(list(expected), abs=1e-12)
    two, _ = values(BOTH, nn.CrossEntropy(), outputs[:, :2], YES[:, 0].astype(int), weights)
    second = nn.CrossEntropy().predict(outputs[:, :2])["probabilities"][:, 1]
    assert two == pytest.approx(
        {
            "auc": peer.roc_auc_score(YES[:, 0], second, sample_weight=weights),
            "average_precision": peer.average_precision_score(YES[:, 0], second, sample_weight=weights),
        },
        abs=1e-12,
    )


def test_weights_of_positions_and_of_outputs():
    outputs, targets = RNG.standard_normal((9, 5, 2)), (RNG.random((9, 5, 2)) < 0.5).astype(float)
    p = nn.BinaryCrossEntropy().predict(outputs)["probabilities"]
    for own in (RNG.random((9, 5, 2)), (RNG.random((9, 5)) < 0.7).astype(float)):
        found, _ = values("auc", nn.BinaryCrossEntropy(), outputs, targets, own)
        for number in range(2):
            flat = np.broadcast_to(own.reshape(own.shape + (1,) * (3 - own.ndim)), (9, 5, 2))[..., number].reshape(-1)
            pair = targets[..., number].reshape(-1), p[..., number].reshape(-1)
            assert found[f"auc_{number}"] == pytest.approx(peer.roc_auc_score(*pair, sample_weight=flat), abs=1e-12)
    classes, labels, mask = RNG.standard_normal((9, 5, 3)), RNG.integers(0, 3, (9, 5)), RNG.random((9, 5))
    found, _ = values("auc", nn.CrossEntropy(), classes, labels, mask)
    alone, _ = values("auc", nn.CrossEntropy(), classes.reshape(45, 3), labels.reshape(45), mask.reshape(45))
    assert found == pytest.approx(alone, abs=1e-12)


def test_a_class_without_examples_is_left_out():
    labels = np.where(LABELS == 3, 2, LABELS)
    found, _ = values("auc", nn.CrossEntropy(), SCORES, labels)
    assert np.isnan(found["auc_3"])
    assert found["auc"] == pytest.approx(np.mean([found[f"auc_{number}"] for number in range(3)]))


def test_the_area_of_one_class_is_refused():
    message = "metric 'auc' needs examples of two classes, but those of the data are all of one; leave"
    for outputs, loss, targets in (
        (SCORES, nn.CrossEntropy(), np.zeros(60, int)),
        (SCORES[:, :1], nn.BinaryCrossEntropy(), np.ones((60, 1))),
    ):
        with pytest.raises(UserError, match=message):
            values("auc", loss, outputs, targets)


def test_outputs_that_are_not_finite_have_no_value():
    outputs = SCORES.copy()
    outputs[3, 1] = np.nan
    with np.errstate(invalid="ignore"):
        found, _ = values("auc", nn.CrossEntropy(), outputs, LABELS)
    assert np.isnan(list(found.values())).all()
