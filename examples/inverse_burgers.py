"""Both coefficients of Burgers' equation from 2,000 measurements of its solution (Raissi et al. 2019).

    u_t + a u u_x = b u_xx,   with a = 1 and b = 0.01 / pi to be found

The network fits the measurements and the equation at once; a and b are parameters beside its weights, and all are
found by Adam and then L-BFGS in float64. Raissi et al. are 0.085 % off in a and 0.12 % in b:
    dbp run -n 2 -- examples/inverse_burgers.py
    dbp run -n 2 -- examples/inverse_burgers.py --noise 0.01
"""

import argparse

import numpy as np

import dbp
from dbp.autodiff import jvp
from dbp.nn import Dense, Sequential
from dbp.parallel import world

CONVECTION, VISCOSITY = 1.0, 0.01 / np.pi
BEGIN = 0.0025  # of the viscosity, which stays positive as it is a power of e

network = Sequential(*[Dense(20, "tanh")] * 4, Dense(1))


def coefficients(scope):
    """Return a and b."""
    return scope.parameter("a", (1,), "zeros"), BEGIN * np.exp(scope.parameter("log_b", (1,), "zeros"))


def model(scope, points):
    """Return u and the residual of the equation, (points, 2)."""
    x, t = points[:, :1], points[:, 1:]
    one = np.ones_like(x)

    def u(x, t):
        return network(scope, np.concatenate([x, t], axis=1))

    def slope(x):
        return jvp(lambda x: u(x, t), (x,), (one,))[1]

    a, b = coefficients(scope)
    value, u_t = jvp(lambda t: u(x, t), (t,), (one,))
    u_x, u_xx = jvp(slope, (x,), (one,))
    residual = u_t + a * value * u_x - b * u_xx
    return np.concatenate([value, residual / (1 + 0.1 * np.abs(u_x))], axis=1)  # or the shock outweighs all else


def exact(x, t):
    """Return the solution of Cole and Hopf, an integral over a normal distribution, by Gauss-Hermite quadrature."""
    z, weight = np.polynomial.hermite.hermgauss(100)
    y = x[..., None] - np.sqrt(4 * VISCOSITY * t[..., None]) * z
    density = weight * np.exp(-np.cos(np.pi * y) / (2 * np.pi * VISCOSITY))
    return -np.sum(density * np.sin(np.pi * y), axis=-1) / np.sum(density, axis=-1)


parser = argparse.ArgumentParser()
parser.add_argument("--measurements", type=int, default=2000)
parser.add_argument("--noise", type=float, default=0.0, help="deviation, in times of that of u")
parser.add_argument("--epochs", type=int, default=60, help="of Adam")
parser.add_argument("--iterations", type=int, default=1500, help="of L-BFGS")
options = parser.parse_args()

rng = np.random.default_rng(0)
points = rng.uniform((-1, 0.01), (1, 1), (options.measurements, 2))
u = exact(*points.T)
measured = u + options.noise * u.std() * rng.standard_normal(len(u))
targets = np.stack([measured, np.zeros(len(u))], axis=1)  # the residual is to be 0
common = {"model": model, "loss": "mean_squared_error", "data": (points, targets), "dtype": "float64", "shards": 2}
adam, lbfgs = dbp.optim.Adam(learning_rate=5e-3), dbp.optim.LBFGS(memory=50)
trained = dbp.fit(**common, optimizer=adam, schedule="cosine", epochs=options.epochs, batch_size=200)
for method, more in (("Adam", {}), ("L-BFGS", {"epochs": options.iterations})):
    if more:
        trained = dbp.fit(
            **common, **more, optimizer=lbfgs, batch_size=len(points), weights=trained.weights, quiet=True
        )
    found = float(trained.weights["a"][0]), BEGIN * float(np.exp(trained.weights["log_b"][0]))
    off = [100 * abs(value / true - 1) for value, true in zip(found, (CONVECTION, VISCOSITY), strict=True)]
    if world().rank == 0:
        print(f"{method}: a = {found[0]:.5f} ({off[0]:.3g} % off), b = {found[1]:.7f} ({off[1]:.3g} % off)", flush=True)
