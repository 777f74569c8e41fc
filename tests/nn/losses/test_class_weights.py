"""Class weights: factors on the losses of examples by class, which multiply example weights."""

import numpy as np
import pytest

from dbp import nn
from dbp.autodiff import check_derivatives
from dbp.errors import UserError
from dbp.nn.losses.class_weights import balanced
from tests.nn.models import cost_of, inputs

RNG = np.random.default_rng(2)
FACTORS = np.array([0.5, 2.0, 3.0])
TABLE = {"0": 0.5, "1": 2.0, "2": 3.0}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_class_weight_is_a_factor_on_the_loss(smoothing):
    outputs, targets = RNG.standard_normal((7, 5, 3)), RNG.integers(3, size=(7, 5))
    plain = nn.CrossEntropy(smoothing)(outputs, targets)
    weighted = nn.CrossEntropy(smoothing, class_weights=TABLE)
    np.testing.assert_allclose(weighted(outputs, targets), plain * FACTORS[targets])
    probabilities = RNG.dirichlet(np.ones(3), (7, 5))
    np.testing.assert_allclose(
        weighted(outputs, probabilities), nn.CrossEntropy(smoothing)(outputs, probabilities) * (probabilities @ FACTORS)
    )
    check_derivatives(lambda z: weighted(z, targets), outputs)


def test_it_is_what_scikit_learn_computes_as_sample_weights():
    metrics = pytest.importorskip("sklearn.metrics")
    utils = pytest.importorskip("sklearn.utils.class_weight")
    outputs, targets = RNG.standard_normal((50, 3)), RNG.integers(3, size=50) // RNG.integers(1, 3, size=50)
    counts = np.bincount(targets, minlength=3).astype(float)
    np.testing.assert_allclose(
        balanced(counts), utils.compute_class_weight("balanced", classes=np.arange(3), y=targets), rtol=1e-14
    )
    loss = nn.CrossEntropy(class_weights="balanced").with_factors(balanced(counts))
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    weights = utils.compute_sample_weight("balanced", targets)
    expected = metrics.log_loss(targets, probabilities, sample_weight=weights, labels=[0, 1, 2])
    np.testing.assert_allclose(loss(outputs, targets).sum() / weights.sum(), expected, rtol=1e-12)
    np.testing.assert_allclose(weights.sum(), 50)  # so that the cost is a mean


def test_binary_class_weights_are_of_no_and_yes():
    outputs, targets = RNG.standard_normal((9, 2)), RNG.integers(2, size=(9, 2)).astype(float)
    plain = nn.BinaryCrossEntropy()(outputs, targets)
    weighted = nn.BinaryCrossEntropy(class_weights={0: 0.25, 1: 4.0})
    np.testing.assert_allclose(weighted(outputs, targets), plain * np.where(targets == 1, 4.0, 0.25))
    each = weighted.with_factors([[1.0, 2.0], [3.0, 4.0]])
    factors = np.where(targets == 1, [2.0, 4.0], [1.0, 3.0])
    np.testing.assert_allclose(each(outputs, targets), plain * factors)
    check_derivatives(lambda z: each(z, targets), outputs)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("weights", [RNG.random(6), (RNG.random((6, 5)) < 0.6).astype(float)])
def test_example_weights_and_masks_multiply_with_them(weights, shards):
    targets, x = RNG.integers(3, size=(6, 5)), inputs(6, 5, 4)
    cost, w, _ = cost_of(nn.Dense(3), nn.CrossEntropy(class_weights=TABLE), x, targets, weights, shards)
    plain, _, _ = cost_of(nn.Dense(3), nn.CrossEntropy(), x, targets, weights, shards)
    parameters = cost.objective.layout.views(w)
    losses = nn.CrossEntropy()(x @ parameters["weight"] + parameters["bias"], targets)
    each = np.broadcast_to(weights.reshape(6, -1), (6, 5))
    expected = np.sum(each * FACTORS[targets] * losses) / each.sum()
    assert cost.value_and_gradient(w).cost == pytest.approx(expected, rel=1e-12)
    assert plain.value_and_gradient(w).cost != pytest.approx(expected)


def test_totals_by_class():
    loss, binary = nn.CrossEntropy(), nn.BinaryCrossEntropy()
    targets, weights = np.array([[0, 2], [2, 1]]), np.array([0.5, 2.0])
    assert loss.class_totals(targets, None, (2, 3)).tolist() == [1, 1, 2]
    assert loss.class_totals(targets, weights, (2, 3)).tolist() == [0.5, 2.0, 2.5]
    assert loss.class_totals(targets, np.array([[1, 0], [0, 1]]), (2, 3)).tolist() == [1, 1, 0]
    assert loss.class_totals(np.array([[0.25, 0.75]]), np.array([2.0]), (2,)).tolist() == [0.5, 1.5]
    answers = np.array([[0.0, 1.0], [1.0, 1.0]])
    assert binary.class_totals(answers, None, (2,)).tolist() == [[1, 1], [0, 2]]
    assert binary.class_totals(answers, np.array([3.0, 1.0]), (2,)).tolist() == [[3, 1], [0, 4]]


def test_balanced_factors_are_one_on_average():
    assert balanced(np.array([1.0, 3.0])).tolist() == [2.0, 2 / 3]
    assert balanced(np.array([2.0, 0.0, 6.0])).tolist() == [2.0, 1.0, 2 / 3]
    assert balanced(np.array([[1.0, 3.0], [4.0, 0.0]])).tolist() == [[2.0, 2 / 3], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("equal", "class_weights must be \"balanced\" or a table of factors by class, such as .*, but is 'equal'"),
        ({"cat": -1.0}, "class_weights of 'cat' must be 0 or a positive number, but is -1.0"),
        ({"cat": "much"}, "class_weights of 'cat' must be 0 or a positive number, but is 'much'"),
    ],
)
def test_settings_that_are_refused(given, message):
    for loss in (nn.CrossEntropy, nn.BinaryCrossEntropy):
        with pytest.raises(UserError, match=message):
            loss(class_weights=given)


def test_a_class_that_there_is_not_is_refused():
    loss = nn.CrossEntropy(class_weights={"cot": 2.0})
    assert nn.CrossEntropy(class_weights={"dog": 2}).factors_in_table(2, ["cat", "dog"]).tolist() == [1, 2]
    with pytest.raises(UserError, match="unknown class of class_weights 'cot'; did you mean 'cat'"):
        loss.factors_in_table(2, ["cat", "dog"])
    with pytest.raises(UserError, match="unknown class of class_weights 'cot'"):
        loss(np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(UserError, match='class_weights = "balanced" is counted over the training data of a run'):
        nn.CrossEntropy(class_weights="balanced")(np.zeros((2, 3)), np.array([0, 1]))
