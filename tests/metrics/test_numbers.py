"""Errors and R2 of regression, beside those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as peer

from dbp import nn
from tests.metrics.values import NUMBERS, RNG, WEIGHTS, values

OUTPUTS = NUMBERS + RNG.standard_normal(NUMBERS.shape) * [0.1, 0.2, 0.5]
PEERS = {
    "mae": peer.mean_absolute_error,
    "mse": peer.mean_squared_error,
    "rmse": peer.root_mean_squared_error,
    "r2": peer.r2_score,
}


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", PEERS)
def test_errors_equal_those_of_scikit_learn(kind, weights):
    found, _ = values(kind, nn.MeanSquaredError(), OUTPUTS, NUMBERS, weights, ["energy", "x", "y"])
    each = PEERS[kind](NUMBERS, OUTPUTS, sample_weight=weights, multioutput="raw_values")
    assert found == pytest.approx(
        {kind: np.mean(each), **dict(zip([f"{kind}_{name}" for name in ("energy", "x", "y")], each, strict=True))},
        abs=1e-12,
        rel=1e-12,
    )
    (single,) = values(kind, nn.Huber(), OUTPUTS[:, 0], NUMBERS[:, 0], weights)[0].values()
    assert single == pytest.approx(each[0], abs=1e-12)


def test_positions_and_weights_of_outputs():
    outputs, targets = RNG.standard_normal((2, 6, 5, 2))
    weights = RNG.random((6, 5, 2))
    for own in (weights, weights[:, :, 0], weights[:, 0, 0]):
        found, _ = values(["mae", "r2"], nn.MeanSquaredError(), outputs, targets, own)
        for number in range(2):
            flat = np.broadcast_to(own.reshape(own.shape + (1,) * (3 - own.ndim)), (6, 5, 2))[..., number].reshape(-1)
            pair = targets[..., number].reshape(-1), outputs[..., number].reshape(-1)
            for kind in ("mae", "r2"):
                assert found[f"{kind}_{number}"] == pytest.approx(PEERS[kind](*pair, sample_weight=flat), abs=1e-12)


def test_r2_of_targets_that_are_all_equal():
    targets = np.full((4, 2), 3.0)
    found, _ = values("r2", nn.MeanSquaredError(), targets + np.array([0.0, 1.0]), targets)
    assert found == {"r2": 0.5, "r2_0": 1.0, "r2_1": 0.0}


def test_r2_of_large_targets_with_a_small_variation():
    targets = 1e8 + RNG.standard_normal((200, 1))
    outputs = targets + 0.1 * RNG.standard_normal((200, 1))
    found, _ = values("r2", nn.MeanSquaredError(), outputs, targets)
    assert found["r2"] == pytest.approx(peer.r2_score(targets, outputs), abs=1e-12)


def test_the_mean_over_all_outputs_is_one_column():
    found, _ = values("mean_absolute_error", nn.MeanSquaredError(), OUTPUTS, NUMBERS)
    assert found == pytest.approx({"mean_absolute_error": peer.mean_absolute_error(NUMBERS, OUTPUTS)})


@pytest.mark.parametrize("weights", [None, RNG.random(90), RNG.random((90, 7))], ids=["none", "example", "element"])
def test_the_mean_absolute_error_of_many_outputs_is_that_of_all_at_once(weights):
    """They are more than those that are worked on at a time."""
    outputs, targets = RNG.standard_normal((2, 90, 7, 100))
    found, _ = values("mean_absolute_error", nn.MeanSquaredError(), outputs, targets, weights, pieces=1)
    errors = np.abs(outputs - targets)
    per_weight = errors.mean(axis=tuple(range(1 if weights is None else weights.ndim, 3)))
    assert found == pytest.approx({"mean_absolute_error": np.average(per_weight, weights=weights)}, rel=1e-12)
