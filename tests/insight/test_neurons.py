"""Contributions of neurons to the error, by closed form."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.errors import UserError
from dbp.insight import neurons
from tests.insight.costs import cost_of, weights_of

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((11, 6)), RNG.integers(0, 3, 11)
WEIGHTS = RNG.random(11)
MODEL = (nn.Dense(7, "relu"), nn.Dense(5, "tanh"), nn.Dense(3))


def test_logistic_regression_by_the_formula():
    """The delta of an example is (A - Y) / m."""
    labels = (Y > 0).astype(float)
    weights = weights_of(nn.Sequential(nn.Dense(1)), X)
    found = neurons([nn.Dense(1)], "binary_cross_entropy", weights, (X, labels), shards=3)
    a = 1 / (1 + np.exp(-(X @ weights["dense_1/weight"] + weights["dense_1/bias"]))).ravel()
    layer = found["dense_1"]
    np.testing.assert_allclose(layer.signed_sum, [np.sum((a - labels) / len(X))])
    np.testing.assert_allclose(layer.mean_magnitude, [np.mean(np.abs(a - labels))])
    np.testing.assert_allclose(layer.mean_activation, [np.mean(np.log(a / (1 - a)))])
    assert found.cost == pytest.approx(-np.mean(np.log(np.where(labels == 1, a, 1 - a))))
    assert not layer.dead.any()


IMAGES = RNG.standard_normal((9, 7, 7, 2))
CONVOLUTIONS = (nn.Conv2d(3, 3, "relu"), nn.MaxPool2d(2), nn.Conv2d(4, 2, "tanh"), nn.Flatten(), nn.Dense(3))


@pytest.mark.parametrize("shards", [1, 3, 16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("layers", "x"), [(MODEL, X[:9]), (CONVOLUTIONS, IMAGES)], ids=["dense", "convolutions"])
def test_sums_of_deltas_are_differences_of_the_cost(layers, x, weighted, shards):
    """Adding a number to all z of a unit equals adding it to the unit's bias."""
    model, y, w = nn.Sequential(*layers), Y[:9], WEIGHTS[:9] if weighted else None
    parameters = weights_of(model, x)
    found = neurons(model, "cross_entropy", parameters, (x, y, w) if weighted else (x, y), shards)
    assert list(found.layers) == [name.removesuffix("/bias") for name in parameters if name.endswith("bias")]
    for path, layer in found.layers.items():
        for unit, total in enumerate(layer.signed_sum):
            costs = []
            for step in (1e-5, -1e-5):
                bias = parameters[f"{path}/bias"] + step * (np.arange(len(layer.signed_sum)) == unit)
                costs.append(cost_of(model, nn.CrossEntropy(), parameters | {f"{path}/bias": bias}, x, y, w))
            assert total == pytest.approx((costs[0] - costs[1]) / 2e-5, rel=1e-5, abs=1e-9)


def shifted(scope, x):
    """Use one layer twice on sequences (examples, 4, 6), with weighted inputs to be shifted position by position."""
    w, shift = scope.parameter("weight", (6, 5)), scope.parameter("shift", (2, 4, 5), "zeros")
    first = scope.neurons(x @ w + shift[0], ad.tanh)
    second = scope.neurons((x * x) @ w + shift[1], ad.relu)
    return (first + second) @ scope.parameter("out", (5, 3))


@pytest.mark.parametrize("mask", [None, "examples", "positions"])
def test_sizes_are_those_of_each_example_alone_with_weights_masks_and_several_uses(mask):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((8, 4, 6)), rng.integers(0, 3, (8, 4))
    w = {None: None, "examples": rng.random(8), "positions": (rng.random((8, 4)) < 0.6) * 1.0}[mask]
    if w is not None:
        w[2] = 0
    parameters = weights_of(shifted, x)
    found = neurons(shifted, "cross_entropy", parameters, (x, y) if w is None else (x, y, w), shards=3)["model"]

    def loss_of(i, shift):
        losses = nn.CrossEntropy()(shifted(nn.use(parameters | {"shift": shift}), x[i : i + 1]), y[i : i + 1])
        given = 1.0 if w is None else w[i]
        return ad.sum_(losses * given) if mask == "positions" else ad.mean(losses) * given

    deltas = np.array([ad.gradient(lambda s, i=i: loss_of(i, s))(parameters["shift"]) for i in range(8)])
    total = 8 if w is None else w.sum()
    np.testing.assert_allclose(found.signed_sum, deltas.sum(axis=(0, 1, 2)) / total, atol=1e-15)
    np.testing.assert_allclose(found.mean_magnitude, np.abs(deltas).sum(axis=(0, 1, 2)) / (total * 8))
    a = np.concatenate([np.tanh(x @ parameters["weight"] + parameters["shift"][0]),
                        np.maximum(x**2 @ parameters["weight"] + parameters["shift"][1], 0)], axis=1)  # fmt: skip
    of_example = np.ones(8) if w is None else w.reshape(8, -1).sum(axis=1)
    np.testing.assert_allclose(found.mean_activation, of_example @ a.mean(axis=1) / total)


def test_dead_units_are_found_and_silent_ones_counted():
    model = nn.Sequential(*MODEL)
    parameters = weights_of(model, X)
    parameters["dense_1/bias"][[1, 4]] = -100
    found = neurons(model, "cross_entropy", parameters, (X, Y, np.arange(11) % 4 > 0))
    z = (X @ parameters["dense_1/weight"] + parameters["dense_1/bias"])[np.arange(11) % 4 > 0]
    np.testing.assert_allclose(found["dense_1"].silent, np.mean(z <= 0, axis=0))
    assert found["dense_1"].dead.tolist() == (z <= 0).all(axis=0).tolist()
    assert {1, 4} <= set(np.flatnonzero(found["dense_1"].dead))
    assert (found["dense_1"].mean_activation[[1, 4]] == 0).all()
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert f"dense_1: 7 units, {found['dense_1'].dead.sum()} dead (1, 4" in text
    assert "dense_2: 5 units, none dead" in text


def test_evaluation_takes_running_moments_and_drops_nothing():
    layers = (nn.Dense(4), nn.BatchNorm(), nn.Dropout(0.9), nn.Dense(3))
    model = nn.Sequential(*layers)
    weights = weights_of(model, X)
    weights["batch_norm_1/running_variance"] *= 4
    found = neurons(model, "cross_entropy", weights, (X, Y))
    plain = nn.Sequential(nn.Dense(4), nn.Dense(3))
    scale = weights["batch_norm_1/scale"] / np.sqrt(4 + 1e-5)
    same = {
        "dense_1/weight": weights["dense_1/weight"] * scale,
        "dense_1/bias": weights["dense_1/bias"] * scale + weights["batch_norm_1/shift"],
        **{n: a for n, a in weights.items() if n.startswith("dense_2")},
    }
    expected = neurons(plain, "cross_entropy", same, (X, Y))
    np.testing.assert_allclose(found["dense_1"].signed_sum, expected["dense_1"].signed_sum * scale)
    lacking = {name: array for name, array in weights.items() if "running" not in name}
    with pytest.raises(UserError, match="the weights lack batch_norm_1/running_mean, which the model needs"):
        neurons(model, "cross_entropy", lacking, (X, Y))


def test_models_that_make_nothing_or_something_wrong_known():
    def silent(scope, x):
        return x @ scope.parameter("weight", (6, 3))

    def wrong(scope, x):
        return scope.neurons(x) @ scope.parameter("weight", (6, 3))

    for model, message in ((silent, "the model registers no neurons"), (wrong, "depend on parameters")):
        with pytest.raises(UserError, match=message):
            neurons(model, "cross_entropy", weights_of(model, X), (X, Y))
