"""Layers of layers, recomputed layers, and parameters that layers share."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from tests.nn.models import cost_of, inputs, outputs_of, run

X = np.random.default_rng(0).standard_normal((5, 3))


def test_residual_with_and_without_shortcut():
    x = inputs(4, 3)
    p, y = run(nn.Residual((nn.Dense(5, "tanh"), nn.Dense(3)), activation="sigmoid"), x)
    inner = np.tanh(x @ p["dense_1/weight"] + p["dense_1/bias"]) @ p["dense_2/weight"] + p["dense_2/bias"]
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-(x + inner))))
    p, y = run(nn.Residual([nn.Dense(5)], [nn.Dense(5, bias=False), nn.Activation("tanh")]), x)
    straight = np.tanh(x @ p["shortcut/dense_1/weight"])
    np.testing.assert_allclose(y, x @ p["dense_1/weight"] + p["dense_1/bias"] + straight)
    assert nn.Residual([nn.Dense(5)]) == nn.Residual((nn.Dense(5),))


@pytest.mark.parametrize("shards", [1, 3])
def test_recomputed_layers_give_the_same_bits(shards):
    """The layers hold random numbers and running moments, and are compared with the same layers not recomputed."""
    inside = nn.Dense(5, "tanh"), nn.Dropout(0.3), nn.BatchNorm(), nn.Recompute((nn.Dense(4), nn.Dropout(0.2)))
    kept = nn.Dense(5, "tanh"), nn.Dropout(0.3), nn.BatchNorm()

    def plain(scope, x):
        inner = scope.inside("recompute_1")
        x = nn.Sequential(*kept)(inner, x)
        x = nn.Sequential(nn.Dense(4), nn.Dropout(0.2))(inner.inside("recompute_1"), x)
        return nn.Dense(3)(scope.inside("dense_1"), x)

    x, y = inputs(9, 4), np.arange(9) % 3
    found = []
    for model in (nn.Sequential(nn.Recompute(inside), nn.Dense(3)), plain):
        cost, w, running = cost_of(model, nn.CrossEntropy(), x, y, shards=shards)
        result = cost.value_and_gradient(w)
        nn.update_running_moments(running, result.moments)
        found.append([result.cost, result.gradient.copy(), *nn.running_arrays(running).values()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_used_twice_shares_its_parameters():
    def model(scope, x):
        layer, inner = nn.Dense(3, "tanh"), scope.inside("shared")
        return layer(inner, layer(inner, x))

    x, y = inputs(5, 3), inputs(5, 3, seed=1)
    cost, w, _ = cost_of(model, nn.MeanSquaredError(), x, y, shards=2)
    assert list(cost.objective.layout.shapes) == ["shared/weight", "shared/bias"]
    apart = nn.Sequential(nn.Dense(3, "tanh"), nn.Dense(3, "tanh"))
    other, _, _ = cost_of(apart, nn.MeanSquaredError(), x, y, shards=2)
    one, both = cost.value_and_gradient(w), other.value_and_gradient(np.concatenate([w, w]))
    assert one.cost == pytest.approx(both.cost, rel=1e-14)
    np.testing.assert_allclose(one.gradient, both.gradient[:12] + both.gradient[12:], rtol=1e-11)


def test_an_autoencoder_with_tied_weights():
    def tied(scope, x):
        w = scope.parameter("weight", (6, 2))
        return ad.tanh(x @ w) @ ad.transpose(scope.parameter("weight", (6, 2)))

    x = inputs(7, 6)
    cost, flat, _ = cost_of(tied, nn.MeanSquaredError(), x, x, shards=3)
    w = flat.reshape(6, 2)
    h = np.tanh(x @ w)
    error = 2 * (h @ w.T - x) / x.size
    expected = error.T @ h + x.T @ ((error @ w) * (1 - h * h))
    np.testing.assert_allclose(cost.value_and_gradient(flat).gradient, expected.ravel(), rtol=1e-10)


def test_sequential_names_layers_by_kind_and_number():
    model = nn.Sequential(nn.Flatten(), nn.Dense(4, "relu"), nn.Activation("tanh"), nn.Dense(2))
    parameters, shape, y = outputs_of(model, X.reshape(5, 3, 1))
    assert list(parameters) == ["dense_1/weight", "dense_1/bias", "dense_2/weight", "dense_2/bias"]
    assert shape == (2,)
    hidden = np.tanh(np.maximum(X @ parameters["dense_1/weight"], 0))
    np.testing.assert_allclose(y, hidden @ parameters["dense_2/weight"])


def test_recomputed_layers_give_the_same_bits_and_keep_one_node():
    inner = (nn.Dense(7, "tanh"), nn.Dropout(0.3), nn.BatchNorm(), nn.Dense(5), nn.Dropout(0.3))
    plain, again = nn.Sequential(*inner), nn.Recompute(inner)
    found = []
    for layers in (plain, again):

        def model(scope, x, layers=layers):
            return nn.Dense(2)(
                scope.inside("last"), layers(scope.inside("inner"), nn.Dense(4)(scope.inside("first"), x))
            )

        initial = nn.initial_parameters(model, X, 0, "float64")
        leaves = {name: ad.Tensor(p) for name, p in initial.parameters.items()}
        call = nn.call_with(leaves, initial.running, nn.RandomKey(0, 3, 1))
        outputs = model(nn.Scope(call), X)
        gradients = ad.pullback(ad.sum_(outputs * outputs), np.ones(()), list(leaves.values()))
        found.append((initial.parameters, outputs.value, gradients, call.observed, outputs))
    (names, y, g, seen, _), (names_again, y_again, g_again, seen_again, output) = found
    assert list(names) == list(names_again)
    np.testing.assert_array_equal(y, y_again)
    for one, other in zip(g, g_again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(seen) == list(seen_again) == ["inner/batch_norm_1/"]
    np.testing.assert_array_equal(seen["inner/batch_norm_1/"].variance, seen_again["inner/batch_norm_1/"].variance)
    assert output.inputs[0].primitive.name.startswith("recompute")


def test_a_residual_block_takes_none_for_the_identity():
    assert nn.Residual([nn.Dense(2)], shortcut=None) == nn.Residual([nn.Dense(2)])
