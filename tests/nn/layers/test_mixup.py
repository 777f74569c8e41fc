"""Mixup: mixed examples with mixed losses, whose derivatives and sums are exact."""

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.errors import UserError
from dbp.nn.losses import as_loss
from dbp.optim import LBFGS
from dbp.random import generator
from tests.nn.models import DRAW, cost_of, inputs

X, Y = inputs(12, 4), np.arange(12) % 3
WEIGHTS = np.array([0, 1, 2, 0.5, 1, 0, 3, 1, 1, 0.25, 2, 1])
MODEL = nn.Sequential(nn.Mixup(1.0), nn.Dense(5, "tanh"), nn.Dense(3))


def drawn(weights=None, key=DRAW):
    """Return share and partners that the first layer of a model draws for a shard."""
    random = generator(key.seed, "noise of mixup_1/", 1, *key[1:])
    share, partners = random.beta(1.0, 1.0), np.arange(12)
    counted = partners if weights is None else np.flatnonzero(weights)
    partners[counted] = random.permutation(counted)
    return share, partners


def plain_cost(weights, parameters, key):
    """Return the cost of the paper: each example once with its own target and once with that of its partner."""
    share, partners = drawn(weights, key)
    mixed = share * X + (1 - share) * X[partners]
    hidden = np.tanh(mixed @ parameters["dense_1/weight"] + parameters["dense_1/bias"])
    z = hidden @ parameters["dense_2/weight"] + parameters["dense_2/bias"]
    log_softmax = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    weights = np.ones(12) if weights is None else weights
    own = -log_softmax[np.arange(12), Y] * weights
    of_partner = -log_softmax[np.arange(12), Y[partners]] * weights[partners]
    return (share * own + (1 - share) * of_partner).sum() / weights.sum()


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_the_cost_is_that_of_the_paper(weights):
    cost, w, _ = cost_of(MODEL, nn.CrossEntropy(), X, Y, weights, seed=8)
    expected = plain_cost(weights, cost.objective.layout.views(w), nn.RandomKey(8, 0, 0))
    assert cost.value(w) == pytest.approx(expected, rel=1e-12)
    assert cost.value_and_gradient(w).cost == cost.value(w)
    assert not cost.is_deterministic


@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error"])
def test_derivatives_of_both_orders(loss):
    y = Y if loss == "cross_entropy" else inputs(12, 3, seed=4)
    cost, w, _ = cost_of(MODEL, as_loss(loss), X, y, WEIGHTS, shards=2, seed=8)
    v, step = np.random.default_rng(3).standard_normal(len(w)), 1e-5
    gradient = cost.value_and_gradient(w).gradient.copy()
    assert gradient @ v == pytest.approx((cost.value(w + step * v) - cost.value(w - step * v)) / (2 * step), rel=1e-6)
    ahead, behind = (cost.value_and_gradient(w + side * v).gradient.copy() for side in (step, -step))
    curvature = cost.curvature(w)
    np.testing.assert_allclose(curvature.hessian_product(v), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(curvature.gradient(), gradient, rtol=1e-10, atol=1e-14)


def test_examples_of_weight_zero_are_partners_of_nobody_else():
    x = X.copy()
    cost, w, _ = cost_of(MODEL, nn.CrossEntropy(), x, Y, WEIGHTS, seed=8)
    before = cost.value_and_gradient(w).gradient.copy()
    x[[0, 5]] = 1e6
    cost, w, _ = cost_of(MODEL, nn.CrossEntropy(), x, Y, WEIGHTS, seed=8)
    np.testing.assert_array_equal(cost.value_and_gradient(w).gradient, before)


def test_metrics_count_with_the_shares():
    cost, w, _ = cost_of(MODEL, nn.CrossEntropy(), X, Y, seed=8)
    totals = cost.value_and_gradient(w).totals
    share, partners = drawn(key=nn.RandomKey(8, 0, 0))
    mixed = share * X + (1 - share) * X[partners]
    z = nn.Sequential(*MODEL.layers[1:])(nn.use(cost.objective.layout.views(w)), mixed).argmax(axis=1)
    assert totals.metrics[0] == pytest.approx(share * (z == Y).sum() + (1 - share) * (z == Y[partners]).sum())


def test_inside_of_recompute_the_losses_are_mixed_too():
    inside = nn.Sequential(nn.Recompute((nn.Mixup(1.0), nn.Dense(3))))
    cost, w, _ = cost_of(inside, nn.CrossEntropy(), X, Y, seed=8)
    call = nn.call_with(cost.objective.layout.views(w), {}, DRAW)
    inside(nn.Scope(call), X)
    assert call.mixture is not None
    v, step = np.random.default_rng(3).standard_normal(len(w)), 1e-5
    slope = (cost.value(w + step * v) - cost.value(w - step * v)) / (2 * step)
    assert cost.value_and_gradient(w).gradient @ v == pytest.approx(slope, rel=1e-6)


def test_mixing_twice_and_positions_with_weights_are_refused():
    with pytest.raises(UserError, match="the examples are mixed already; a model can have one mixup layer"):
        nn.Sequential(nn.Mixup(), nn.Mixup())(nn.use({}, {}, DRAW), X)
    call = nn.call_with({}, {}, DRAW, example_weights=np.ones((12, 5)))
    with pytest.raises(UserError, match=r"cannot mix examples whose positions have weights .* here \(5,\) each; leave"):
        nn.Mixup()(nn.Scope(call), X)


def test_full_batch_methods_do_not_take_a_mixed_cost_for_converged():
    result = dbp.fit(
        model=MODEL, loss="cross_entropy", data=(X, Y), optimizer=LBFGS(), batch_size="all", epochs=3, quiet=True
    )
    assert len(result.history["cost"]) == 3
