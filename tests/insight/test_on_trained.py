"""Insight into a trained model in the hand: the same as from its parts, with several named inputs and targets too."""

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.errors import UserError
from dbp.insight import neurons, what_if

RNG = np.random.default_rng(0)
IMAGE, META = RNG.standard_normal((20, 4, 4, 1)), RNG.standard_normal((20, 3))
CLASS, ENERGY = RNG.integers(0, 3, 20), RNG.standard_normal(20)
HOW = {"optimizer": dbp.optim.SGD(0.1), "epochs": 1, "batch_size": 10, "shards": 2, "dtype": "float64", "quiet": True}


def test_a_trained_model_in_place_of_its_parts():
    layers, data = [nn.Dense(3, "relu"), nn.Dense(1)], (META, ENERGY)
    trained = dbp.fit(model=layers, loss="mean_squared_error", data=data, **HOW)
    parts = layers, "mean_squared_error", trained.weights
    assert str(neurons(trained, data)) == str(neurons(*parts, data, shards=2))
    changed = {"dense_2/bias": trained.weights["dense_2/bias"] + 0.5}
    assert str(what_if(trained, changed, data)) == str(what_if(*parts, changed, data, shards=2))
    with pytest.raises(UserError, match="do not fit the model"):
        neurons(trained, (META[:, :2], ENERGY))


@pytest.fixture(scope="module")
def joint():
    """Train two towers with two losses; return the model and its data."""
    model = nn.Graph(
        nn.Named(nn.Flatten(), from_="image"),
        nn.Named(nn.Dense(4, "tanh"), "left"),
        nn.Named(nn.Dense(4, "tanh"), "right", "meta"),
        nn.Named(nn.Concatenate(), "both", ("left", "right")),
        nn.Named(nn.Dense(3), "class", "both"),
        nn.Named(nn.Dense(1), "energy", "both"),
        outputs=["class", "energy"],
    )
    weights = {"energy": (RNG.random(20) > 0.3).astype(float)}
    data = {"inputs": {"image": IMAGE, "meta": META}, "targets": {"class": CLASS, "energy": ENERGY}, "weights": weights}
    loss = {"class": "cross_entropy", "energy": {"kind": "mean_squared_error", "weight": 0.5}}
    return dbp.fit(model=model, loss=loss, data=data, **HOW), data


def cost_at(trained, changed, data):
    """Return the cost written out: of the classes, and half that of the energies, each over its weights."""
    outputs = trained.settings.model(nn.use({**trained.weights, **changed}), data["inputs"])
    w = data["weights"]["energy"]
    logits, squares = outputs["class"], (outputs["energy"][:, 0] - ENERGY) ** 2
    of_classes = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), CLASS]
    return of_classes.mean() + 0.5 * (w * squares).sum() / w.sum()


def test_neurons_of_several_targets(joint):
    trained, data = joint
    found = neurons(trained, data)
    assert [*found.layers] == ["left", "right", "class", "energy"]
    np.testing.assert_allclose(found.cost, cost_at(trained, {}, data), rtol=1e-12)
    for name in found.layers:
        bias, step = trained.weights[f"{name}/bias"], 1e-5
        for unit in range(len(bias)):
            move = step * (np.arange(len(bias)) == unit)
            costs = [cost_at(trained, {f"{name}/bias": bias + by}, data) for by in (move, -move)]
            np.testing.assert_allclose(found[name].signed_sum[unit], (costs[0] - costs[1]) / (2 * step), rtol=1e-6)


def test_what_if_of_several_targets(joint):
    trained, data = joint
    changed = {"energy/bias": trained.weights["energy/bias"] + 0.25, "left/bias": trained.weights["left/bias"] - 0.1}
    found = what_if(trained, changed, data)
    real = cost_at(trained, changed, data) - cost_at(trained, {}, data)
    np.testing.assert_allclose(found.real, real, rtol=1e-9)
    np.testing.assert_allclose(found.first + found.second, real, rtol=0.05)
