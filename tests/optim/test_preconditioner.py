"""Preconditioners of the truncated Newton method."""

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.optim import Newton
from dbp.optim.preconditioner import DiagonalPreconditioner
from tests.optim.functions import Function

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)) * np.geomspace(1, 1e3, 5)
DEEP = [nn.Dense(8, "tanh"), nn.Dense(4, "tanh"), nn.Dense(8, "tanh"), nn.Dense(5)]


def trained(optimizer, x=X, y=X, model=DEEP, **settings):
    """Return a training with all examples in a step."""
    options = {"loss": "mean_squared_error", "dtype": "float64", "batch_size": len(x), "shards": 1, "quiet": True}
    return dbp.fit(data=(x, y), model=model, optimizer=optimizer, **options | settings)


def test_the_diagonal_is_a_power_of_the_squared_gradients():
    function = Function(lambda w: w @ w / 2, lambda w: w.copy(), lambda w: np.eye(len(w)), [1.0, 2.0, 3.0])
    at = np.array([1.0, 2.0, 3.0])
    inverse, target = np.zeros(3), np.zeros(3)
    made = DiagonalPreconditioner(function.space, function.curvature(at), inverse, 0.5, 0.75, 1)
    made.apply(np.ones(3), target)
    np.testing.assert_allclose(target, (at**2 + 0.5) ** -0.75)


def test_one_linear_layer_takes_one_iteration_with_the_factors():
    """Train linear regression, whose Fisher matrix is the factor of the inputs times a number."""
    x = RNG.normal(size=(60, 5))
    rows = np.hstack([x, np.ones((60, 1))])
    y = rows @ RNG.normal(size=6) + RNG.normal(size=60)
    optimizer = Newton(damping=1e-14, iterations=1, preconditioner="kronecker")
    found = trained(optimizer, x, y, [nn.Dense(1)], epochs=1)
    flat = np.concatenate([array.ravel() for array in found.weights.values()])
    np.testing.assert_allclose(flat, np.linalg.lstsq(rows, y)[0], rtol=1e-5)


def test_factors_lower_the_cost_of_a_deep_network_in_fewer_products():
    costs = {}
    for preconditioner in ("squared_gradients", "kronecker"):
        optimizer = Newton(damping=1.0, iterations=5, preconditioner=preconditioner)
        costs[preconditioner] = trained(optimizer, X / 100, X / 100, epochs=30).history["cost"]
    assert costs["kronecker"][-1] < 0.5 * costs["squared_gradients"][-1]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_factors_that_are_not_finite_change_nothing():
    """Take a gradient that is finite in float32, unlike its products with itself."""
    optimizer = Newton(preconditioner="kronecker", damping=1.0)
    begin = nn.initial_parameters(nn.as_model(DEEP), X, 1, "float32").parameters
    found = trained(optimizer, X * 1e19, X[:, :1], [*DEEP[:3], nn.Dense(1)], epochs=1, dtype="float32")
    assert all(np.isfinite(array).all() for array in found.weights.values())
    assert len(begin) == len(found.weights)
