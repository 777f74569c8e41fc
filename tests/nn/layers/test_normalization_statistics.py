"""Batch normalization over the whole mini-batch: the same cost and derivatives for any number of shards."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.errors import UserError
from dbp.nn import as_weighted
from dbp.parallel import Stage
from tests.nn.models import DRAW, cost_of, in_shards, inputs

X, Y, WEIGHTS = 3 * inputs(13, 6) + 50, np.arange(13) % 3, np.random.default_rng(4).random(13)
WEIGHTS[4:8] = 0  # all of a shard, where there are more than two
SHARDS = [2, 3, 8, 20]  # with unequal ones, and some without examples
TOGETHER = nn.BatchNorm(statistics="batch")


def function(scope, x):
    """Use the layer in a model that is a function."""
    h = nn.Dense(4, "tanh")(scope.inside("first"), x)
    return nn.Dense(3)(scope.inside("last"), TOGETHER(scope.inside("norm"), ad.sin(h) * scope.parameter("by", (4,))))


MODELS = {
    "layers": nn.Sequential(nn.Dense(4), TOGETHER, nn.Activation("tanh"), nn.Dense(3)),
    "function": function,
    "residual and recompute": nn.Sequential(
        nn.Recompute((nn.Dense(4), TOGETHER)), nn.Residual((nn.Dense(4, "tanh"), TOGETHER)), nn.Dense(3)
    ),
}


def problem(model, shards, weights=None):
    """Return the cost of the mini-batch, and weights away from the initial ones."""
    cost, w, running = cost_of(MODELS[model], nn.CrossEntropy(), X, Y, weights, shards=shards)
    return cost, w + np.random.default_rng(1).normal(0, 0.1, w.shape), running


def losses_alone(cost, running, weights):
    """Return a function from the flat weights to the weighted losses, in one pass over all examples."""

    def losses(flat):
        ends = np.cumsum([0, *(np.prod(shape, dtype=int) for shape in cost.objective.layout.shapes.values())])
        named = zip(cost.objective.layout.shapes.items(), ends, ends[1:], strict=False)
        parameters = {name: ad.reshape(flat[a:b], shape=shape) for (name, shape), a, b in named}
        call = nn.call_with(parameters, running, DRAW, example_weights=weights)
        return as_weighted(cost.objective.loss(cost.objective.model(nn.Scope(call), X), Y), weights)

    return losses


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@pytest.mark.parametrize("model", MODELS)
def test_cost_and_derivatives_are_those_of_one_pass_over_all_examples(model, weights):
    cost, w, running = problem(model, 1, weights)
    losses = losses_alone(cost, running, weights)
    total = len(X) if weights is None else weights.sum()
    of_each = np.ones(len(X)) if weights is None else weights
    mean = lambda flat: ad.sum_(losses(flat) * of_each) / total  # noqa: E731
    value, gradient = ad.value_and_gradient(mean)(w)
    v = np.random.default_rng(2).standard_normal(w.shape)
    (product,) = ad.hessian_product(mean, (w,), (v,))
    for shards in SHARDS:
        cost, _, _ = problem(model, shards, weights)
        evaluation = cost.value_and_gradient(w)
        close(evaluation.cost, value)
        close(evaluation.gradient, gradient)
        assert cost.value(w) == evaluation.cost
        curvature = cost.curvature(w)
        close(curvature.gradient(), gradient)
        close(curvature.hessian_product(v), product)
        close(curvature.gauss_newton_product(v), curvature.gauss_newton_matrix() @ v)
        assert cost.objective.arena.comm.clock.current == Stage.UPDATE
        cost.objective.free()


def test_squared_gradients_are_those_of_single_losses():
    """Compare their estimate from random signs with the Jacobian of the losses."""
    cost, w, running = problem("layers", 1, WEIGHTS)
    jacobian = ad.jacobian(losses_alone(cost, running, WEIGHTS))(w)
    exact = (WEIGHTS[:, None] * jacobian**2).sum(axis=0) / WEIGHTS.sum()
    cost, _, _ = problem("layers", 3, WEIGHTS)
    estimate = cost.curvature(w).squared_gradients(300)
    assert np.abs(estimate - exact).max() < 0.2 * exact.max()
    cost.objective.free()


# Of PyTorch 2.13's BatchNorm1d in float64, on all examples in one process, by torch.optim.SGD(0.5) and cross_entropy.
TORCH_COSTS = [1.9093404199395543, 1.4246344055107276, 1.185152286680179, 1.0856684276595028, 1.0439516741924137]
TORCH_COSTS += [1.023363258224075, 1.0109724645630052, 1.0022300504264345]
TORCH_MEAN = [8.990136404323927, 14.203517289999747, 8.486338259463047, -7.32586456497043, -13.008553771354027]
TORCH_VARIANCE = [24.426374221666833, 42.34148543784962, 11.094834704595796, 16.958674145194422, 36.280894890366525]


@pytest.mark.parametrize("shards", [1, 8])
def test_training_takes_the_steps_of_pytorch_on_the_full_batch(shards):
    x = np.sin(np.arange(23 * 4)).reshape(23, 4) * [1, 3, 0.2, 10] + [0, 5, 1, -20]
    model = nn.Sequential(nn.Dense(5), TOGETHER, nn.Activation("tanh"), nn.Dense(3))
    cost, w, running = cost_of(model, nn.CrossEntropy(), x, np.arange(23) % 3, shards=shards)
    parameters = cost.objective.layout.views(w, writable=True)
    parameters["dense_1/weight"][:] = np.cos(np.arange(20.0)).reshape(4, 5)
    parameters["dense_2/weight"][:] = np.cos(2 * np.arange(15.0)).reshape(5, 3)
    costs = []
    for _ in TORCH_COSTS:
        evaluation = cost.value_and_gradient(w)
        costs.append(evaluation.cost)
        nn.update_running_moments(running, evaluation.moments)
        w = w - 0.5 * evaluation.gradient
    close(costs, np.array(TORCH_COSTS))
    close(running["batch_norm_1/"].mean, np.array(TORCH_MEAN))
    close(running["batch_norm_1/"].variance, np.array(TORCH_VARIANCE))
    cost.objective.free()


def test_masked_positions_do_not_count():
    """Normalize sequences of several lengths as if their positions were rows."""
    lengths, x = np.arange(13) % 5 + 1, 2 * inputs(13, 5, 3) + 1
    mask = np.arange(5) < lengths[:, None]
    rows = x[mask]
    expected = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-5)
    found = {}

    def model(scope, x):
        y = TOGETHER(scope.inside("norm"), x)
        if scope.training:
            found[scope._call.random_key.shard] = ad.array_of(y)[scope.mask]
        return nn.Dense(3)(scope.inside("last", mask=None), y[:, 0])

    cost, w, _ = cost_of(model, nn.CrossEntropy(), x, Y, shards=3)
    masks = [shard.inputs for shard in in_shards(mask, Y, None, 3)]
    batch = [shard._replace(mask=of_shard) for shard, of_shard in zip(cost.batch, masks, strict=True)]
    MiniBatchCost(cost.objective, batch, 0).value_and_gradient(w)
    close(np.concatenate([found[number] for number in range(3)]), expected)
    cost.objective.free()


def test_nothing_counts_where_all_weights_are_zero():
    cost, w, _ = problem("layers", 3, np.zeros(13))
    evaluation = cost.value_and_gradient(w)
    assert evaluation.finite
    assert evaluation.cost == 0
    np.testing.assert_array_equal(evaluation.gradient, np.zeros_like(w))
    cost.objective.free()


def test_running_moments_are_those_of_the_mini_batch_and_frozen_ones_are_applied():
    model, costs = nn.Sequential(TOGETHER, nn.Dense(3)), []
    for shards in (1, 4):
        cost, w, running = cost_of(model, nn.CrossEntropy(), X, Y, shards=shards)
        nn.update_running_moments(running, cost.value_and_gradient(w).moments)
        moments = running["batch_norm_1/"]
        close(moments.mean, 0.1 * X.mean(axis=0))
        close(moments.variance, 0.9 + 0.1 * X.var(axis=0, ddof=1))
        moments.frozen = True
        costs.append(cost.value_and_gradient(w).cost)
        cost.objective.free()
    parameters = cost.objective.layout.views(w)
    close(costs, nn.CrossEntropy()(model(nn.use(parameters, running), X), Y).mean())


def test_statistics_are_one_of_two():
    with pytest.raises(UserError, match="unknown statistics 'whole'; valid: batch, shard"):
        nn.BatchNorm(statistics="whole")
