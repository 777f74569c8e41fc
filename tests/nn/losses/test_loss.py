"""Losses of positions within examples: masks, and weights of positions and outputs."""

import numpy as np
import pytest

from dbp import nn
from tests.nn.models import cost_of, inputs

RNG = np.random.default_rng(0)
SEQUENCE_LOSSES = [
    (nn.CrossEntropy(), RNG.integers(0, 3, (6, 5)), 3),
    (nn.CrossEntropy(0.1), RNG.dirichlet(np.ones(3), (6, 5)), 3),
    (nn.KullbackLeibler(), RNG.dirichlet(np.ones(3), (6, 5)), 3),
    (nn.Hinge(0.7), RNG.integers(0, 3, (6, 5)), 3),
    (nn.BinaryCrossEntropy(), RNG.integers(0, 2, (6, 5, 2)).astype(float), 2),
    (nn.MeanSquaredError(), RNG.standard_normal((6, 5, 2)), 2),
    (nn.MeanAbsoluteError(), RNG.standard_normal((6, 5, 2)), 2),
    (nn.Huber(0.5), RNG.standard_normal((6, 5, 2)), 2),
]
MASK = RNG.random((6, 5)) < 0.6
MASK[2] = False  # an example of which nothing counts


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
@pytest.mark.parametrize(("loss", "targets", "units"), SEQUENCE_LOSSES, ids=lambda v: getattr(v, "kind", ""))
def test_masked_positions_do_not_count(loss, targets, units, shards):
    """Cost, metrics and gradient equal those of the kept positions as examples of their own."""
    model, x = nn.Dense(units), inputs(6, 5, 4)
    masked, w, _ = cost_of(model, loss, x, targets, MASK.astype(float), shards)
    kept, _, _ = cost_of(model, loss, x[MASK], targets[MASK])
    check_same(masked, kept, w)


@pytest.mark.parametrize("shards", [1, 3])
def test_positions_may_have_any_weights(shards):
    loss, targets, units = SEQUENCE_LOSSES[0]
    model, x, weights = nn.Dense(units), inputs(6, 5, 4), np.random.default_rng(1).random((6, 5))
    weighted, w, _ = cost_of(model, loss, x, targets, weights, shards)
    alone, _, _ = cost_of(model, loss, x.reshape(30, 4), targets.reshape(30), weights.reshape(30))
    check_same(weighted, alone, w)
    of_examples, _, _ = cost_of(model, loss, x, targets, weights[:, 0], shards)
    repeated, _, _ = cost_of(model, loss, x, targets, np.repeat(weights[:, :1], 5, axis=1), shards)
    check_same(of_examples, repeated, w)


def test_outputs_may_have_weights_of_their_own():
    model, x, y, weights = nn.Dense(3), inputs(6, 4), inputs(6, 3, seed=1), np.random.default_rng(1).random((6, 3))
    cost, w, _ = cost_of(model, nn.MeanSquaredError(), x, y, weights, shards=2)
    parameters = cost.objective.layout.views(w)
    error = x @ parameters["weight"] + parameters["bias"] - y
    result = cost.value_and_gradient(w)
    assert result.cost == pytest.approx(np.sum(weights * error**2) / weights.sum())
    np.testing.assert_allclose(result.gradient[:12], (x.T @ (2 * weights * error / weights.sum())).ravel())


def check_same(one, other, w):
    a, b = one.value_and_gradient(w), other.value_and_gradient(w)
    metrics = one.objective.metrics
    assert a.totals.values(metrics) == pytest.approx(b.totals.values(metrics), rel=1e-12)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-10, atol=1e-14)
    totals = one.objective.evaluate(w, lambda number: [s for s in one.batch if s.number == number and len(s.inputs)])
    assert totals.values(metrics) == pytest.approx(b.totals.values(metrics), rel=1e-12)
