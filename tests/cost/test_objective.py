"""The cost and its gradient: exact for any shards, weights and batch sizes."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.shard import Shard

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((11, 6)), RNG.integers(0, 3, 11)
WEIGHTS = RNG.random(11)


def cost_of(model, loss, x, y, weights=None, shards=1, dtype="float64"):
    parameters = nn.initial_parameters(model, x, 0, dtype).parameters
    layout = Layout({name: p.shape for name, p in parameters.items()})
    objective = Objective(model, loss, layout, OneProcess(), Shards(shards), np.dtype(dtype))
    runs = [Shards(shards).of_batch(len(x), n) for n in range(shards)]
    rows = [slice(run.start, run.stop) for run in runs]
    batch = [Shard(n, x[r], y[r], None if weights is None else weights[r]) for n, r in enumerate(rows)]
    return MiniBatchCost(objective, batch, 0), layout.flatten(parameters, dtype)


def test_logistic_regression_by_the_formula():
    """The gradient is dw = 1/m X (A - Y)^T and db = 1/m sum(A - Y), with examples in columns."""
    labels = (Y > 0).astype(float).reshape(-1, 1)
    cost, w = cost_of(nn.Dense(1), nn.BinaryCrossEntropy(), X, labels, shards=4)
    w[:] = RNG.standard_normal(w.shape)
    result = cost.value_and_gradient(w)
    a = 1 / (1 + np.exp(-(w[:6] @ X.T + w[6])))
    error = a - labels.T
    np.testing.assert_allclose(result.gradient[:6], (X.T @ error.T / len(X)).ravel())
    np.testing.assert_allclose(result.gradient[6], error.sum() / len(X))
    assert result.cost == pytest.approx(-np.mean(np.log(np.where(labels.T == 1, a, 1 - a))))


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 11, 16])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_unequal_and_empty_shards_give_the_gradient_of_the_full_cost(shards, weights):
    model = nn.Sequential(nn.Dense(5, "tanh"), nn.Dense(3))
    cost, w = cost_of(model, nn.CrossEntropy(), X, Y, weights, shards)

    def by_formula(vector):
        losses = nn.CrossEntropy()(model(nn.use(slices(vector)), X), Y)
        weighted = losses if weights is None else losses * weights
        return ad.sum_(weighted) / (len(X) if weights is None else weights.sum())

    def slices(vector):
        if isinstance(vector, np.ndarray):
            return cost.objective.layout.views(vector)
        return vector

    result = cost.value_and_gradient(w)
    assert result.cost == pytest.approx(float(by_formula(w)), rel=1e-12)
    direction = RNG.standard_normal(w.shape)
    h = 1e-5
    difference = (by_formula(w + h * direction) - by_formula(w - h * direction)) / (2 * h)
    assert result.gradient @ direction == pytest.approx(difference, rel=1e-6)


def test_zero_weight_leaves_an_example_out():
    keep = np.arange(11) % 3 > 0
    loss, model = nn.CrossEntropy(), nn.Dense(3)
    masked, w = cost_of(model, loss, X, Y, keep.astype(float), shards=4)
    kept, _ = cost_of(model, loss, X[keep], Y[keep], shards=4)
    a, b = masked.value_and_gradient(w), kept.value_and_gradient(w)
    assert a.cost == pytest.approx(b.cost, rel=1e-12)
    np.testing.assert_allclose(a.gradient, b.gradient)
    metrics = masked.objective.metrics
    assert a.totals.values(metrics) == pytest.approx(b.totals.values(metrics))


def test_no_weight_at_all_gives_zero():
    cost, w = cost_of(nn.Dense(3), nn.CrossEntropy(), X, Y, np.zeros(11))
    result = cost.value_and_gradient(w)
    assert result.cost == 0
    assert not result.gradient.any()
    assert result.finite


def test_evaluation_sums_the_same_losses():
    cost, w = cost_of(nn.Dense(3), nn.CrossEntropy(), X, Y, WEIGHTS, shards=3)
    by_number = {shard.number: shard for shard in cost.batch}
    totals = cost.objective.evaluate(w, lambda number: [by_number[number]])
    metrics = cost.objective.metrics
    assert totals.values(metrics) == cost.value_and_gradient(w).totals.values(metrics)


def test_float32_gradients_keep_their_type_and_a_float64_cost():
    x32 = X.astype(np.float32)
    cost, w = cost_of(nn.Dense(3), nn.CrossEntropy(), x32, Y, shards=3, dtype="float32")
    exact, w64 = cost_of(nn.Dense(3), nn.CrossEntropy(), X, Y, shards=1)
    result = cost.value_and_gradient(w)
    assert result.gradient.dtype == np.float32
    assert result.cost == pytest.approx(exact.value_and_gradient(w64).cost, rel=1e-6)


def test_a_number_that_is_none_is_seen():
    x = X.copy()
    x[3, 2] = np.nan
    cost, w = cost_of(nn.Dense(3), nn.CrossEntropy(), x, Y, shards=3)
    assert not cost.value_and_gradient(w).finite


def test_a_parameter_that_is_not_used_has_gradient_zero():
    def model(scope, x):
        scope.parameter("unused", (2,))
        return x @ scope.parameter("weight", (6, 3))

    cost, w = cost_of(model, nn.CrossEntropy(), X, Y)
    assert not cost.value_and_gradient(w).gradient[:2].any()


@pytest.mark.parametrize("frozen", [("dense_1/weight", "dense_1/bias"), ("dense_2/weight", "dense_3/bias")])
def test_with_frozen_parameters_derivatives_are_the_parts_of_those_by_all(frozen):
    model, loss = nn.Sequential(nn.Dense(5, "tanh"), nn.Dense(4, "sigmoid"), nn.Dense(3)), nn.CrossEntropy()
    cost, w = cost_of(model, loss, X, Y, WEIGHTS, shards=3)
    layout, parameters = cost.objective.layout, cost.objective.layout.views(w)
    constant = {name: parameters[name] for name in frozen}
    part = Layout({name: shape for name, shape in layout.shapes.items() if name not in frozen})
    objective = Objective(model, loss, part, OneProcess(), Shards(3), w.dtype, frozen=constant)
    alone, weights = MiniBatchCost(objective, cost.batch, 0), part.flatten(parameters, w.dtype)

    def of_part(vector):
        views = layout.views(vector)
        return part.flatten(views, w.dtype)

    assert alone.value(weights) == cost.value(w)
    np.testing.assert_array_equal(
        alone.value_and_gradient(weights).gradient, of_part(cost.value_and_gradient(w).gradient)
    )
    direction = RNG.standard_normal(part.size)
    whole = layout.flatten(dict.fromkeys(layout.shapes, 0.0) | part.views(direction), w.dtype)
    for product in ("hessian_product", "gauss_newton_product"):
        by_all = getattr(cost.curvature(w), product)(whole).copy()
        found = getattr(alone.curvature(weights), product)(direction)
        np.testing.assert_allclose(found, of_part(by_all), rtol=1e-10, atol=1e-12)


def test_evaluation_takes_the_parameters_by_path_and_makes_no_sum_of_gradients():
    model = nn.Sequential(nn.Dense(5, "tanh"), nn.Dense(3))
    parameters = nn.initial_parameters(model, X, 0, "float64").parameters
    layout = Layout.of(parameters)
    objective = Objective(model, nn.CrossEntropy(), layout, OneProcess(), Shards(2), np.dtype("float64"))
    shards = [Shard(0, X[:6], Y[:6], None), Shard(1, X[6:], Y[6:], None)]
    found = objective.evaluate(parameters, lambda number: [shards[number]])
    assert "gradients" not in vars(objective)
    flat = layout.flatten(parameters, np.dtype("float64"))
    assert found.cost == objective.evaluate(flat, lambda number: [shards[number]]).cost
    assert found.cost == pytest.approx(np.mean(nn.CrossEntropy()(model(nn.use(parameters), X), Y)))
    objective.free()
