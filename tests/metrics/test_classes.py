"""Precision, recall, F1, accuracies and confusion matrices, beside those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as peer

from dbp import nn
from dbp.errors import UserError
from dbp.metrics import F1
from tests.metrics.values import CLASSES, LABELS, RNG, SCORES, WEIGHTS, YES, values

KINDS = {"precision": peer.precision_score, "recall": peer.recall_score, "f1": peer.f1_score}
PREDICTED = SCORES.argmax(axis=1)
NAMES = ["cat", "dog", "a bird", "macro"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_those_of_scikit_learn(kind, weights):
    chosen = [{"kind": kind, "average": average} for average in ("macro", "micro", "weighted")]
    found, _ = values(chosen, nn.CrossEntropy(), SCORES, LABELS, weights, NAMES)
    given = {"sample_weight": weights, "zero_division": 0.0}
    for average in ("macro", "micro", "weighted"):
        expected = KINDS[kind](LABELS, PREDICTED, average=average, **given)
        assert found[kind if average == "macro" else f"{kind}_{average}"] == pytest.approx(expected, abs=1e-12)
    each = KINDS[kind](LABELS, PREDICTED, average=None, labels=range(CLASSES), **given)
    columns = [f"{kind}_{name}" for name in ("cat", "dog", "a_bird", "macro_3")]
    assert [found[name] for name in columns] == pytest.approx(list(each), abs=1e-12)
    assert list(found) == [kind, *columns, f"{kind}_micro", f"{kind}_weighted"]


def test_a_class_that_is_neither_target_nor_predicted_is_left_out():
    found, _ = values(["f1", "recall"], nn.CrossEntropy(), np.eye(3)[[0, 1, 1]], np.array([0, 1, 0]))
    assert found["f1"] == pytest.approx(peer.f1_score([0, 1, 0], [0, 1, 1], average="macro"))
    assert np.isnan(found["f1_2"])
    assert np.isnan(found["recall_2"])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_accuracies_and_the_confusion_matrix_equal_those_of_scikit_learn(weights):
    kinds = ["accuracy", "balanced_accuracy", "confusion_matrix"]
    found, tables = values(kinds, nn.CrossEntropy(), SCORES, LABELS, weights)
    assert found == pytest.approx(
        {
            "accuracy": peer.accuracy_score(LABELS, PREDICTED, sample_weight=weights),
            "balanced_accuracy": balanced(LABELS, PREDICTED, weights),
        },
        abs=1e-12,
    )
    expected = peer.confusion_matrix(LABELS, PREDICTED, labels=range(CLASSES), sample_weight=weights)
    np.testing.assert_allclose(tables["confusion_matrix"], expected, rtol=1e-12)


def balanced(targets, predicted, weights):
    """Return the balanced accuracy without the warning of classes that are predicted alone."""
    recalls = peer.recall_score(targets, predicted, average=None, labels=np.unique(targets), sample_weight=weights)
    return np.mean(recalls)


@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS[:, None] * RNG.random((60, 3))], ids=["", "rows", "each"])
def test_scores_of_answers_equal_those_of_scikit_learn(weights):
    outputs = SCORES[:, :3]
    kinds = ["accuracy", "balanced_accuracy", "precision", "recall", "f1"]
    found, _ = values(kinds, nn.BinaryCrossEntropy(), outputs, YES, weights, ["x", "y", "z"])
    for number, name in enumerate("xyz"):
        pair = YES[:, number], outputs[:, number] > 0
        own = weights if weights is None or weights.ndim == 1 else weights[:, number]
        assert found[f"accuracy_{name}"] == pytest.approx(peer.accuracy_score(*pair, sample_weight=own), abs=1e-12)
        expected = peer.balanced_accuracy_score(*pair, sample_weight=own)
        assert found[f"balanced_accuracy_{name}"] == pytest.approx(expected, abs=1e-12)
        for kind, function in KINDS.items():
            assert found[f"{kind}_{name}"] == pytest.approx(function(*pair, sample_weight=own), abs=1e-12)
    for kind in ("balanced_accuracy", *KINDS):
        assert found[kind] == pytest.approx(np.mean([found[f"{kind}_{name}"] for name in "xyz"]), abs=1e-12)
    if weights is None or weights.ndim == 1:
        for average in ("micro", "weighted"):
            found, _ = values([F1(average)], nn.BinaryCrossEntropy(), outputs, YES, weights)
            expected = peer.f1_score(YES, outputs > 0, average=average, sample_weight=weights)
            assert found[f"f1_{average}"] == pytest.approx(expected, abs=1e-12)


def test_one_answer_has_one_column():
    pair = YES[:, 0], SCORES[:, 0] > 0
    kinds = ["f1", "balanced_accuracy", "confusion_matrix"]
    found, tables = values(kinds, nn.BinaryCrossEntropy(), SCORES[:, :1], YES[:, :1])
    assert found == pytest.approx(
        {"f1": peer.f1_score(*pair), "balanced_accuracy": peer.balanced_accuracy_score(*pair)}
    )
    np.testing.assert_array_equal(tables["confusion_matrix"], peer.confusion_matrix(*pair))
    _, tables = values("confusion_matrix", nn.BinaryCrossEntropy(), SCORES[:, :3], YES)
    np.testing.assert_array_equal(tables["confusion_matrix"], peer.multilabel_confusion_matrix(YES, SCORES[:, :3] > 0))


@pytest.mark.parametrize("masked", [True, False])
def test_positions_count_as_examples_of_their_own(masked):
    """Sequences of five positions, of which a mask leaves some out."""
    outputs, targets = RNG.standard_normal((12, 5, CLASSES)), RNG.integers(0, CLASSES, (12, 5))
    mask = (RNG.random((12, 5)) < 0.6).astype(float) if masked else RNG.random(12)
    kinds = ["f1", "balanced_accuracy", "accuracy", "confusion_matrix"]
    found, tables = values(kinds, nn.CrossEntropy(), outputs, targets, mask)
    flat = np.broadcast_to(mask.reshape(12, -1), (12, 5)).reshape(-1)
    alone, own = values(kinds, nn.CrossEntropy(), outputs.reshape(60, -1), targets.reshape(60), flat)
    assert found == pytest.approx(alone, rel=1e-12)
    np.testing.assert_allclose(tables["confusion_matrix"], own["confusion_matrix"], rtol=1e-12)


def test_outputs_that_are_not_finite_are_never_right():
    outputs = np.array([[np.nan, 1.0], [0.0, np.inf], [0.0, 1.0]])
    found, tables = values(["accuracy", "recall", "confusion_matrix"], nn.CrossEntropy(), outputs, np.array([1, 1, 1]))
    assert (found["accuracy"], found["recall_1"]) == pytest.approx((1 / 3, 1 / 3))
    assert tables["confusion_matrix"].tolist() == [[0, 0], [0, 1]]
    wrong = np.array([[np.nan], [np.inf], [-1.0]])
    found, tables = values(["recall", "confusion_matrix"], nn.BinaryCrossEntropy(), wrong, np.array([[1.0], [0], [0]]))
    assert found["recall"] == 0
    assert tables["confusion_matrix"].tolist() == [[1, 1], [1, 0]]


def test_probabilities_as_targets_count_for_the_most_probable_class():
    targets = np.eye(CLASSES)[LABELS] * 0.9 + 0.025
    assert values("f1", nn.KullbackLeibler(), SCORES, targets) == values("f1", nn.CrossEntropy(), SCORES, LABELS)


def test_a_confusion_matrix_of_too_many_classes_is_refused():
    with pytest.raises(UserError, match="takes at most 256 classes, but the model has 300; leave it out"):
        values("confusion_matrix", nn.CrossEntropy(), np.zeros((2, 300)), np.zeros(2, int))
    found, _ = values("f1", nn.CrossEntropy(), np.zeros((2, 300)), np.zeros(2, int))
    assert list(found) == ["f1"]


def test_an_average_that_is_not_known_is_refused():
    with pytest.raises(UserError, match="unknown average 'marco'; did you mean 'macro'"):
        F1("marco")
