"""Means over examples that no loss reports by default, beside those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as peer

from dbp import nn
from dbp.errors import UserError
from tests.metrics.values import CLASSES, LABELS, SCORES, WEIGHTS, YES, probabilities, values


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_largest_outputs_with_ties(k, weights):
    found, _ = values({"kind": "top_k", "k": k}, nn.CrossEntropy(), SCORES, LABELS, weights)
    expected = peer.top_k_accuracy_score(LABELS, SCORES, k=k, labels=range(CLASSES), sample_weight=weights)
    assert found == {f"top_{k}": pytest.approx(expected, abs=1e-12)}


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_log_loss(weights):
    found, _ = values("log_loss", nn.Hinge(), SCORES, LABELS, weights)
    expected = peer.log_loss(LABELS, probabilities(SCORES), labels=range(CLASSES), sample_weight=weights)
    assert found["log_loss"] == pytest.approx(expected, abs=1e-12)
    soft = np.eye(CLASSES)[LABELS]
    assert values("log_loss", nn.KullbackLeibler(), SCORES, soft, weights)[0] == pytest.approx(found)
    yes, _ = values("log_loss", nn.BinaryCrossEntropy(), SCORES[:, :1], YES[:, :1], weights)
    p = nn.BinaryCrossEntropy().predict(SCORES[:, :1])["probabilities"]
    assert yes["log_loss"] == pytest.approx(peer.log_loss(YES[:, 0], p, sample_weight=weights), abs=1e-12)


def test_a_k_of_all_classes_is_refused():
    with pytest.raises(UserError, match=r"k must be below the number of classes, 4, .* but is 5"):
        values("top_k", nn.CrossEntropy(), SCORES, LABELS)
    with pytest.raises(UserError, match="k must be at least 1"):
        values({"kind": "top_k", "k": 0}, nn.CrossEntropy(), SCORES, LABELS)
