"""A network that solves Burgers' equation from the equation alone, without data (Raissi et al. 2019).

    u_t + u u_x = (0.01 / pi) u_xx,   u(x, 0) = -sin(pi x),   u(-1, t) = u(1, t) = 0,   t from 0 to 1

Epochs of Adam begin, and iterations of L-BFGS on all points at once continue, in stages and in float64. A relative L2
error of 0.064 % in 140 s on two cores; Raissi et al. report 0.067 %:
    dbp run -n 2 -- examples/burgers.py
"""

import argparse

import numpy as np

import dbp
from dbp.autodiff import concatenate, jvp, sin
from dbp.nn import Dense, Sequential, use
from dbp.parallel import world

VISCOSITY = 0.01 / np.pi
CELLS = 80, 50  # along x and t, with a point at random in each

network = Sequential(*[Dense(32, "tanh")] * 4, Dense(1))


def solution(scope, x, t):
    """Return u. For any network, u satisfies the initial and boundary conditions and is odd in x."""
    there, mirrored = concatenate(x, t, axis=1), concatenate(-x, t, axis=1)
    return t * (1 - x * x) * (network(scope, there) - network(scope, mirrored)) - sin(np.pi * x)


def slope(scope, x, t):
    """Return u_x."""
    return jvp(lambda x: solution(scope, x, t), (x,), (np.ones(x.shape),))[1]


def equation(scope, points):
    """Return the residual of the equation."""
    x, t = points[:, :1], points[:, 1:]
    one = np.ones_like(x)
    u, u_t = jvp(lambda t: solution(scope, x, t), (t,), (one,))
    u_x, u_xx = jvp(lambda x: slope(scope, x, t), (x,), (one,))
    return u_t + u * u_x - VISCOSITY * u_xx


def exact(x, t):
    """Return the solution of Cole and Hopf, an integral over a normal distribution, by Gauss-Hermite quadrature."""
    z, weight = np.polynomial.hermite.hermgauss(100)
    y = x[..., None] - np.sqrt(4 * VISCOSITY * t[..., None]) * z
    density = weight * np.exp(-np.cos(np.pi * y) / (2 * np.pi * VISCOSITY))
    return -np.sum(density * np.sin(np.pi * y), axis=-1) / np.sum(density, axis=-1)


def error(weights):
    """Return the relative L2 error of u on a grid."""
    x, t = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(0.01, 1, 100))
    u = solution(use(weights), x.reshape(-1, 1), t.reshape(-1, 1)).reshape(x.shape)
    return np.linalg.norm(u - exact(x, t)) / np.linalg.norm(exact(x, t))


parser = argparse.ArgumentParser()
for name, count in (("epochs", 40), ("stages", 6), ("iterations", 400)):
    parser.add_argument(f"--{name}", type=int, default=count)
options = parser.parse_args()

rng = np.random.default_rng(0)
cells = np.stack(np.meshgrid(*map(np.arange, CELLS)), axis=-1).reshape(-1, 2)
points = rng.permutation((cells + rng.uniform(size=cells.shape)) / CELLS * (2, 1) - (1, 0))
zeros = np.zeros(len(points))
common = {"model": equation, "loss": "mean_squared_error", "dtype": "float64", "shards": 2}

adam = {"optimizer": dbp.optim.Adam(learning_rate=5e-3), "schedule": dbp.optim.Cosine(), "batch_size": 400}
result = dbp.fit(data=(points, zeros), epochs=options.epochs, **adam, **common)
lbfgs = {"optimizer": dbp.optim.LBFGS(memory=50), "batch_size": len(points), "quiet": True}
for stage in range(options.stages):
    # Points count less where u is steep, or the shock that forms at x = 0 outweighs all else (Liu et al. 2024).
    steep = np.abs(slope(use(result.weights), points[:, :1], points[:, 1:]))[:, 0]
    common["data"] = points, zeros, 1 / (1 + 0.1 * steep) ** 2
    result = dbp.fit(weights=result.weights, epochs=options.iterations, **lbfgs, **common)
    if world().rank == 0:
        print(f"L-BFGS, stage {stage + 1}: relative L2 error {100 * error(result.weights):.3g} %", flush=True)
