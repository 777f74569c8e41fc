"""Batch normalization of examples and positions with weights: each counts in the moments with its weight."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from tests.nn.models import DRAW, cost_of, inputs, run, start

MASK = np.random.default_rng(0).random((6, 5)) < 0.6
MASK[2] = False  # an example of which nothing counts
POSITIONS = nn.Sequential(nn.Dense(3), nn.BatchNorm(), nn.Activation("tanh"), nn.Dense(2))
LOSS = nn.MeanSquaredError()


def check_same(one, other, w, vector):
    """Compare cost, gradient, sums for the running moments, and products with second derivatives."""
    a, b = one.value_and_gradient(w), other.value_and_gradient(w)
    assert a.cost == pytest.approx(b.cost, rel=1e-12)
    assert one.value(w) == a.cost
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(a.moments, b.moments, rtol=1e-9, atol=1e-12)
    for product in ("hessian_product", "gauss_newton_product"):
        found, expected = (getattr(cost.curvature(w), product)(vector).copy() for cost in (one, other))
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("fill", [0.0, 1e4])
@pytest.mark.parametrize("wrapped", [False, True])
def test_positions_of_weight_zero_do_not_count(fill, wrapped):
    """Compare with the other positions as examples of their own, whatever those of weight 0 hold."""
    model = nn.Sequential(nn.Recompute(POSITIONS.layers)) if wrapped else POSITIONS
    x, y = inputs(6, 5, 4), inputs(6, 5, 2, seed=1)
    filled = np.where(MASK[..., None], x, fill)
    masked, w, _ = cost_of(model, LOSS, filled, y, MASK.astype(float))
    kept, _, _ = cost_of(model, LOSS, x[MASK], y[MASK])
    check_same(masked, kept, w, np.cos(np.arange(len(w))))


def test_examples_of_weight_zero_do_not_count_in_any_shard():
    """A shard has the moments of its own examples that count; one without any is as an empty one."""
    x, y, weights = inputs(9, 4), inputs(9, 2, seed=1), np.array([1, 0, 1, 0, 1, 1, 0, 0, 0.0])
    filled = np.where(weights[:, None] > 0, x, 1e30)  # also where nothing counts, numbers stay finite
    masked, w, running = cost_of(POSITIONS, LOSS, filled, y, weights, shards=3)
    kept = [cost_of(POSITIONS, LOSS, x[rows], y[rows])[0] for rows in ([0, 2], [4, 5])]
    found, parts = masked.value_and_gradient(w), [cost.value_and_gradient(w) for cost in kept]
    np.testing.assert_allclose(found.gradient, (parts[0].gradient + parts[1].gradient) / 2, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.moments, parts[0].moments + parts[1].moments, rtol=1e-10, atol=1e-12)
    nn.update_running_moments(running, found.moments)
    assert np.abs(running["batch_norm_1/"].mean).max() < 10


def test_a_whole_weight_is_as_many_copies():
    x, y, weights = inputs(6, 4), inputs(6, 2, seed=1), np.array([1, 3, 0, 2, 1, 1])
    copies = np.repeat(np.arange(6), weights)
    weighted, w, _ = cost_of(POSITIONS, LOSS, x, y, weights.astype(float))
    repeated, _, _ = cost_of(POSITIONS, LOSS, x[copies], y[copies])
    a, b = weighted.value_and_gradient(w), repeated.value_and_gradient(w)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(a.moments[2:], b.moments[2:], rtol=1e-12)


def test_weights_of_one_give_the_bits_of_no_weights():
    x, y = inputs(6, 5, 4), inputs(6, 5, 2, seed=1)
    found = [cost_of(POSITIONS, LOSS, x, y, weights, shards=2) for weights in (None, np.ones(6), np.ones((6, 5)))]
    plain, *weighted = [cost.value_and_gradient(w) for cost, w, _ in found]
    for other in weighted:
        np.testing.assert_array_equal(other.moments, plain.moments)
    # All sums of losses are the same; the mean over the positions of an example has another order of summation.
    np.testing.assert_array_equal(weighted[0].gradient, plain.gradient)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_running_moments_do_not_depend_on_the_scale_of_weights(scale):
    """The variance is unbiased by the number of weights of equal size that would be as good."""
    x, weights = 2 + inputs(7, 3), np.random.default_rng(1).random(7)
    running = {"": nn.RunningMoments.at_start(3, 0.0, "float64")}
    call = nn.call_with({"scale": np.ones(3), "shift": np.zeros(3)}, running, DRAW, example_weights=scale * weights)
    y = nn.BatchNorm(0.0, epsilon=1e-12)(nn.Scope(call), x)
    share = weights[:, None] / weights.sum()
    mean = (share * x).sum(axis=0)
    variance = (share * (x - mean) ** 2).sum(axis=0)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance), rtol=1e-9)
    nn.update_running_moments(running, np.concatenate(nn.moment_sums(running, call.observed)))
    np.testing.assert_allclose(running[""].mean, mean, rtol=1e-12)
    np.testing.assert_allclose(running[""].variance, variance / (1 - np.square(share).sum()), rtol=1e-12)


def test_examples_count_with_the_mean_of_their_weights_where_positions_differ():
    weights, x = MASK.astype(float), inputs(6, 2, 3)
    scope = nn.Scope(nn.call_with({}, example_weights=weights))
    np.testing.assert_array_equal(scope.weights_of(x), np.repeat(weights.mean(1)[:, None], 2, axis=1))
    np.testing.assert_array_equal(scope.weights_of(x[:, 0]), weights.mean(1))
    np.testing.assert_array_equal(scope.weights_of(inputs(6, 5, 4, 3))[..., 1], weights)
    assert scope.example_weights is weights
    assert nn.use({}).weights_of(x) is None


def test_positions_count_after_a_reshape_too():
    weights, rows = MASK.astype(float), MASK.size
    scope = nn.Scope(nn.call_with({}, example_weights=weights), "batch_norm_1/")
    np.testing.assert_array_equal(scope.weights_of(inputs(rows, 3)), weights.reshape(-1))
    np.testing.assert_array_equal(scope.weights_of(inputs(rows, 7, 3))[:, 6], weights.reshape(-1))
    np.testing.assert_array_equal(scope.weights_of(inputs(12, 3)), np.repeat(weights.mean(1), 2))
    with pytest.raises(UserError, match="its inputs have 13 rows, which are no positions of the 6 examp"):
        scope.weights_of(inputs(13, 3))
    ones = nn.Scope(nn.call_with({}, example_weights=np.ones((6, 4))))
    assert ones.weights_of(inputs(13, 3)) is None


def test_frozen_moments_are_applied_in_training_and_do_not_move():
    x = 5 + inputs(6, 3)
    parameters, running = start(nn.BatchNorm(), x)
    running[""].frozen = True
    call = nn.call_with(parameters, running, DRAW)
    trained, evaluated = (nn.BatchNorm()(nn.Scope(c), x) for c in (call, nn.call_with(parameters, running)))
    np.testing.assert_array_equal(trained, evaluated)
    assert not np.allclose(trained, run(nn.BatchNorm(), x, DRAW)[1])
    before = running[""].mean.copy()
    nn.update_running_moments(running, np.concatenate([[6, 6], np.ones(6)]))
    np.testing.assert_array_equal(running[""].mean, before)
