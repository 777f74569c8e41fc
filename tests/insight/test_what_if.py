"""Products with second derivatives, and predicted changes of the cost."""

import re

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.objective import Objective
from dbp.cost.objective_curvature import evaluation_curvature
from dbp.errors import UserError
from dbp.insight import what_if
from dbp.insight.what_if import parse_changes
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.shard import Shard
from tests.insight.costs import cost_of, weights_of

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((11, 6)), RNG.integers(0, 3, 11)
WEIGHTS = RNG.random(11)


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_products_with_second_derivatives_are_those_of_the_full_cost(shards):
    model, loss = nn.Sequential(nn.Dense(2, "tanh"), nn.Dense(3)), nn.CrossEntropy()
    parameters = weights_of(model, X)
    layout, parts = Layout.of(parameters), Shards(shards)
    objective = Objective(model, loss, layout, OneProcess(), parts, np.dtype("float64"))

    def chunks(number):
        run = parts.of_batch(11, number)
        for i in range(run.start, run.stop, 2):
            rows = slice(i, min(i + 2, run.stop))
            yield Shard(number, X[rows], Y[rows], WEIGHTS[rows])

    def tensors(flat):
        starts = np.cumsum([0, *(np.prod(s, dtype=int) for s in layout.shapes.values())])
        return {
            n: ad.reshape(flat[a:b], shape=s)
            for (n, s), a, b in zip(layout.shapes.items(), starts, starts[1:], strict=False)
        }

    def cost(flat):
        return cost_of(model, loss, tensors(flat), X, Y, WEIGHTS)

    w, v = layout.flatten(parameters, float), np.random.default_rng(1).standard_normal(layout.size)
    curvature = evaluation_curvature(objective, w, chunks)
    np.testing.assert_allclose(curvature.gradient(), ad.gradient(cost)(w), atol=1e-12)
    np.testing.assert_allclose(curvature.hessian_product(v), ad.hessian(cost)(w) @ v, atol=1e-12)
    jacobian = ad.jacobian(lambda flat: model(nn.use(tensors(flat)), X))(w)
    p = np.exp(ad.log_softmax(model(nn.use(parameters), X)))
    inner = WEIGHTS[:, None, None] / WEIGHTS.sum() * (p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None])
    expected = np.einsum("nap,nab,nbq,q->p", jacobian, inner, jacobian, v)
    np.testing.assert_allclose(curvature.gauss_newton_product(v), expected, atol=1e-12)


def test_first_and_second_order_are_all_there_is_of_a_quadratic_cost():
    model = nn.Sequential(nn.Dense(2))
    weights = {name: array.astype(np.float32) for name, array in weights_of(model, X).items()}
    rng = np.random.default_rng(1)
    changed = {"dense_1/weight": weights["dense_1/weight"] + rng.standard_normal((6, 2))}
    targets = rng.standard_normal((11, 2))
    found = what_if(model, "mean_squared_error", weights, changed, (X, targets, WEIGHTS), shards=3)
    z = X @ weights["dense_1/weight"].astype(float) + weights["dense_1/bias"] - targets
    moved = X @ (changed["dense_1/weight"] - weights["dense_1/weight"].astype(float))
    first, second = (WEIGHTS @ part.mean(axis=1) / WEIGHTS.sum() for part in (2 * z * moved, moved**2))
    assert (found.first, found.second) == pytest.approx((first, second), rel=1e-12)
    assert found.first + found.second == pytest.approx(found.real, rel=1e-12)
    assert len(found.changes) == 12


def test_changes_in_words_are_changes_or_new_values_in_their_order():
    now = {"a/w": np.zeros((2, 3), np.float32), "b": np.ones(2)}
    changed = parse_changes(["a/w[1,2]=+0.5", "a/w[1,2]=-0.25", " a/w[0, 1] = 4e-1", "b[0]=0.5", "b[0]=+1"], now)
    np.testing.assert_array_equal(changed["a/w"], [[0, 0.4, 0], [0, 0, 0.25]])
    np.testing.assert_array_equal(changed["b"], [1.5, 1])
    assert not now["a/w"].any()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a/w[0]=1", "a/w has shape (2, 3), so an index is like [0,0], but is [0]"),
        ("a/w=1", "so an index is like [0,0], but is []"),
        ("a/w[0,3]=1", "so indices go up to [1,2], but one is [0,3]"),
        ("a/w[-1,0]=1", "so an index is like [0,0], but is [-1,0]"),
        ("a/w[0,0]=half", "'half' is not a number; write +0.01 for a change or 0.5 for a new value"),
        ("a/w[0,0]=nan", "'nan' is not a number"),
        ("a/w[0,0]=", "'' is not a number"),
        ("a/w[0,0]", "--what-if takes LAYER/PARAMETER[INDEX]=NUMBER"),
        ("a/v[0,0]=1", "unknown parameter 'a/v'; did you mean 'a/w'?"),
    ],
)
def test_wrong_words_for_a_change(word, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_changes([word], {"a/w": np.zeros((2, 3))})


def test_what_if_of_no_change_and_of_far_too_large_a_one():
    model, data = nn.Sequential(nn.Dense(3)), (X, Y)
    weights = weights_of(model, X)
    same = what_if(model, "cross_entropy", weights, {"dense_1/bias": weights["dense_1/bias"] + 0}, data)
    assert str(same) == "nothing changes: the weights have these values already"
    bias = weights["dense_1/bias"] + 1e300 * np.eye(3)[0]
    squares = what_if(model, "mean_squared_error", weights, {"dense_1/bias": bias}, (X, np.zeros((len(X), 3))))
    assert max(map(len, str(squares).splitlines())) <= 80
    assert "inf" in str(squares)


def test_what_if_refuses_what_is_no_parameter():
    model, data = nn.Sequential(nn.Dense(3)), (X, Y)
    weights = weights_of(model, X)
    with pytest.raises(UserError, match="unknown parameter 'dense_1/bais'; did you mean 'dense_1/bias'"):
        what_if(model, "cross_entropy", weights, {"dense_1/bais": np.zeros(3)}, data)
    with pytest.raises(UserError, match=r"dense_1/bias has shape \(3,\), but its new values have \(2,\)"):
        what_if(model, "cross_entropy", weights, {"dense_1/bias": np.zeros(2)}, data)
    with pytest.raises(UserError, match=r"inputs of shape \(5,\) do not fit the model: dense_1/weight would have"):
        what_if(model, "cross_entropy", weights, {}, (X[:, :5], Y))
