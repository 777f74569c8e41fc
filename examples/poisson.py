"""Poisson's equation in a cube by a network, with L-BFGS and with the Gauss-Newton method.

    -laplace(u) = f in the unit cube, u = 0 on its faces;   f is such that u = sin(pi x) sin(2 pi y) sin(pi z)

The cost is the mean square of the residual at random points. Where it can become zero, as here, the Gauss-Newton matrix
tends to the Hessian of the cost, and Levenberg and Marquardt's steps go on where quasi-Newton methods slow down:
    dbp run -n 2 -- examples/poisson.py
"""

import argparse

import numpy as np

import dbp
from dbp.autodiff import jvp
from dbp.nn import Dense, Sequential, use
from dbp.parallel import world

WAVES = np.pi * np.array([1.0, 2.0, 1.0])
GRID = 31  # points along each axis, on which the error is measured

network = Sequential(Dense(12, "tanh"), Dense(12, "tanh"), Dense(1))


def solution(scope, x):
    """Return u at points x (count, 3); for any network it is zero on the faces of the cube."""
    return network(scope, 2 * x - 1) * np.prod(4 * x * (1 - x), axis=1, keepdims=True)


def exact(x):
    """Return the solution at points (count, 3), as (count, 1)."""
    return np.prod(np.sin(WAVES * x), axis=1, keepdims=True)


def equation(scope, x):
    """Return the residual laplace(u) + f, divided by the largest f, as (count, 1)."""

    def second(axis):
        along = np.broadcast_to(axis, x.shape)
        return jvp(lambda x: jvp(lambda x: solution(scope, x), (x,), (along,))[1], (x,), (along,))[1]

    return sum(map(second, np.eye(3, dtype=x.dtype))) / np.sum(WAVES**2) + exact(x)


def tell(method, trained):
    """Print the error of u on a grid, on rank 0."""
    axis = np.linspace(0, 1, GRID)
    x = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    error = np.linalg.norm(solution(use(trained.weights), x) - exact(x)) / np.linalg.norm(exact(x))
    if world().rank == 0:
        print(f"{method}: cost {trained.history['cost'][-1]:.2g}, relative L2 error {error:.2g}", flush=True)


parser = argparse.ArgumentParser()
parser.add_argument("--points", type=int, default=600)
parser.add_argument("--steps", type=int, default=300, help="of L-BFGS")
parser.add_argument("--more", type=int, default=600, help="further steps of L-BFGS, for comparison")
parser.add_argument("--gauss-newton", type=int, default=30, help="steps of Levenberg and Marquardt")
options = parser.parse_args()

points = np.random.default_rng(0).uniform(size=(options.points, 3))
common = {"model": equation, "loss": "mean_squared_error", "data": (points, np.zeros(len(points)))}
common |= {"batch_size": "all", "dtype": "float64", "shards": 2}
begun = dbp.fit(**common, optimizer=dbp.optim.LBFGS(memory=50), epochs=options.steps, quiet=True)
tell(f"L-BFGS, {options.steps} steps", begun)
further = dbp.fit(
    **common, weights=begun.weights, optimizer=dbp.optim.LBFGS(memory=50), epochs=options.more, quiet=True
)
tell(f"L-BFGS, {options.more} steps more", further)
trained = dbp.fit(
    **common, weights=begun.weights, optimizer=dbp.optim.LevenbergMarquardt(), epochs=options.gauss_newton
)
tell(f"Gauss-Newton, {options.gauss_newton} steps instead", trained)
