"""A DeepONet that learns to integrate: from a function to its antiderivative (Lu et al. 2021).

    s(y) = integral of u(x) from 0 to y,   for random smooth functions u on the interval from 0 to 1

The branch network sees u at 100 sensors, the trunk network a place y; s(y) is the inner product of what they return.
Functions that are rougher or smoother than those of the training show what it has learned:
    dbp run -n 2 -- examples/deeponet.py
"""

import argparse

import numpy as np

import dbp
from dbp.nn import Dense, Sequential, use
from dbp.parallel import world
from dbp.random import generator

SENSORS, FEATURES = 100, 64
LENGTH = 0.2  # over which the training functions vary
GRID = np.linspace(0, 1, SENSORS)

branch = Sequential(Dense(128, "tanh"), Dense(128, "tanh"), Dense(FEATURES))
trunk = Sequential(*[Dense(128, "tanh")] * 3, Dense(FEATURES))


def antiderivative(scope, u, y=GRID):
    """Return s at the places y (places,) for functions u (examples, sensors), as (examples, places)."""
    coefficients = branch(scope.inside("branch"), u)
    basis = trunk(scope.inside("trunk"), np.asarray(2 * y[:, None] - 1, u.dtype))
    return coefficients @ basis.T / np.sqrt(FEATURES) + scope.parameter("bias", (1,), "zeros")


def functions(count, length, part):
    """Return random functions with Gaussian correlation over a length, and their antiderivatives, on the grid."""
    covariance = np.exp(-0.5 * (GRID[:, None] - GRID) ** 2 / length**2) + 1e-8 * np.eye(SENSORS)
    u = generator(0, f"functions to {part}").standard_normal((count, SENSORS)) @ np.linalg.cholesky(covariance).T
    trapezoids = (u[:, 1:] + u[:, :-1]) / 2 / (SENSORS - 1)
    return u, np.concatenate([np.zeros((count, 1)), np.cumsum(trapezoids, axis=1)], axis=1)


def error(weights, length):
    """Return the relative L2 error for new functions."""
    u, s = functions(500, length, "test")
    found = antiderivative(use(weights), u.astype(np.float32))
    return np.linalg.norm(found - s) / np.linalg.norm(s)


parser = argparse.ArgumentParser()
parser.add_argument("--functions", type=int, default=4000)
parser.add_argument("--epochs", type=int, default=100)
options = parser.parse_args()

trained = dbp.fit(
    model=antiderivative,
    loss="mean_squared_error",
    data=functions(options.functions, LENGTH, "train"),
    optimizer=dbp.optim.Adam(learning_rate=2e-3),
    schedule="cosine",
    epochs=options.epochs,
    batch_size=200,
    shards=2,
)
if world().rank == 0:
    for length in (2 * LENGTH, LENGTH, LENGTH / 2):
        print(f"functions that vary over {length:.1f}: relative L2 error {100 * error(trained.weights, length):.2g} %")
