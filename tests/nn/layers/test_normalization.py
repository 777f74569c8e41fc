"""Normalization by closed form, and running moments of whole mini-batches."""

import itertools

import numpy as np
import pytest

from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.errors import UserError
from tests.nn.models import DRAW, cost_of, in_shards, inputs, run, start


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_running_moments_are_those_of_whole_mini_batches(shards, decay):
    """The number of shards does not matter, nor shards of one example or none; evaluation uses these moments."""
    model = nn.Sequential(nn.BatchNorm(decay, epsilon=1e-3), nn.Flatten(), nn.Dense(2))
    rng = np.random.default_rng(0)
    steps = [3 + rng.standard_normal((11, 4, 3)) * [1, 5, 0.1] for _ in range(4)]
    y = rng.integers(0, 2, 11)
    cost, w, running = cost_of(model, nn.CrossEntropy(), steps[0], y, shards=shards)
    mean, variance = np.zeros(3), np.ones(3)
    for x in steps:
        moments = MiniBatchCost(cost.objective, in_shards(x, y, None, shards), 0).value_and_gradient(w).moments
        nn.update_running_moments(running, moments)
        mean = decay * mean + (1 - decay) * x.mean(axis=(0, 1))
        variance = decay * variance + (1 - decay) * x.var(axis=(0, 1), ddof=1)
    moments = running["batch_norm_1/"]
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-12)

    parameters = {name: view + 0.5 for name, view in cost.objective.layout.views(w).items()}
    x = steps[-1]
    evaluated = model.layers[0](nn.use(parameters, running).inside("batch_norm_1"), x)
    scale, shift = parameters["batch_norm_1/scale"], parameters["batch_norm_1/shift"]
    np.testing.assert_allclose(evaluated, (x - mean) / np.sqrt(variance + 1e-3) * scale + shift, rtol=1e-11)


def test_batch_norm_in_training_takes_the_moments_of_the_shard():
    x = 2 + 3 * inputs(5, 4, 3)
    parameters, y = run(nn.BatchNorm(), x, DRAW)
    expected = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    np.testing.assert_allclose(y, expected * parameters["scale"] + parameters["shift"])


def test_one_number_a_channel_leaves_the_running_moments_alone():
    model = nn.Sequential(nn.BatchNorm(), nn.Dense(2))
    cost, w, running = cost_of(model, nn.CrossEntropy(), inputs(1, 3), np.array([1]))
    nn.update_running_moments(running, cost.value_and_gradient(w).moments)
    np.testing.assert_array_equal(running["batch_norm_1/"].mean, np.zeros(3))
    np.testing.assert_array_equal(running["batch_norm_1/"].variance, np.ones(3))


def test_several_running_moments_do_not_mix():
    x = inputs(6, 4) + 2
    model = nn.Sequential(nn.BatchNorm(0.5), nn.Residual((nn.Dense(3), nn.BatchNorm(0.0)), (nn.Dense(3),)))
    cost, w, running = cost_of(model, nn.CrossEntropy(), x, np.arange(6) % 3, shards=1)
    nn.update_running_moments(running, cost.value_and_gradient(w).moments)
    assert list(running) == ["batch_norm_1/", "residual_1/batch_norm_1/"]
    weights = cost.objective.layout.views(w)
    first = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    z = first @ weights["residual_1/dense_1/weight"] + weights["residual_1/dense_1/bias"]
    np.testing.assert_allclose(running["batch_norm_1/"].mean, x.mean(0) / 2)
    np.testing.assert_allclose(running["residual_1/batch_norm_1/"].mean, z.mean(0), atol=1e-15)
    np.testing.assert_allclose(running["residual_1/batch_norm_1/"].variance, z.var(0, ddof=1))
    names = ["running_mean", "running_variance"]
    assert list(nn.running_arrays(running)) == [path + name for path in running for name in names]


def test_one_path_of_running_moments_used_twice_is_refused():
    def model(scope, x):
        layer, inner = nn.BatchNorm(), scope.inside("norm")
        return layer(inner, layer(inner, x))

    x = inputs(4, 3)
    parameters, running = start(model, x)
    with pytest.raises(UserError, match="running moments of 'norm/' are used twice in one pass"):
        model(nn.use(parameters, running, DRAW), x)


def test_layer_norm_by_closed_form():
    x = inputs(3, 5, 4)
    parameters, y = run(nn.LayerNorm(epsilon=0.1), x)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(y, expected * parameters["scale"] + parameters["shift"])


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("positions", [(), (5,), (3, 4)])
def test_group_norm_by_closed_form(groups, positions):
    x = inputs(3, *positions, 6)
    parameters, y = run(nn.GroupNorm(groups, epsilon=0.1), x)
    expected = np.empty_like(x)
    for example, group in itertools.product(range(3), range(groups)):
        part = (example, ..., slice(group * 6 // groups, (group + 1) * 6 // groups))
        expected[part] = (x[part] - x[part].mean()) / np.sqrt(x[part].var() + 0.1)
    np.testing.assert_allclose(y, expected * parameters["scale"] + parameters["shift"], atol=1e-14)


def test_rms_norm_divides_by_the_root_of_the_mean_square():
    x = inputs(3, 5, 4)
    parameters, y = run(nn.RMSNorm(epsilon=0.5), x)
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 0.5) * parameters["scale"]
    np.testing.assert_allclose(y, expected, rtol=1e-12)
