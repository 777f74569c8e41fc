"""A Fourier neural operator that solves Burgers' equation: from u at t = 0 to u at t = 1 (Li et al. 2021).

    u_t + u u_x = 0.02 u_xx,   x from 0 to 1, periodic, with random beginnings

The pairs are computed here by a spectral method. A block adds a convolution in Fourier space to one of width 1. Any
other number of points works without training anew. Li et al. report an error of 1.49 % with another viscosity:
    dbp run -n 2 -- examples/fourier_operator.py
"""

import argparse

import numpy as np

import dbp
from dbp.nn import Conv1d, Dense, Residual, SpectralConv1d
from dbp.parallel import world
from dbp.random import generator

VISCOSITY, POINTS, STEPS = 0.02, 128, 400  # STEPS of the method of Runge and Kutta
WIDTH, MODES = 32, 16


def beginnings(count, points, part):
    """Return random functions of mean 0 of the Gaussian measure N(0, 25^2 (-laplace + 25)^-2), (count, points)."""
    k = np.arange(64)
    size = 25 / ((2 * np.pi * k) ** 2 + 25) / np.sqrt(2) * points * (k > 0)
    real, imaginary = generator(0, f"functions to {part}").standard_normal((2, count, len(k)))
    return np.fft.irfft((real + 1j * imaginary) * size, points)


def burgers(u, time=1.0):
    """Return the solutions after a time, by an integrating factor and the classical method of order four."""
    points, dt = u.shape[1], time / STEPS
    k = 2j * np.pi * np.fft.rfftfreq(points, 1 / points)
    half = np.exp(VISCOSITY * k**2 * dt / 2)
    kept = np.arange(len(k)) < points / 3  # against aliasing

    def slope(v):
        return -k / 2 * np.fft.rfft(np.fft.irfft(v, points) ** 2) * kept

    v = np.fft.rfft(u)
    for _ in range(STEPS):
        a = slope(v)
        b = slope(half * (v + dt / 2 * a))
        c = slope(half * v + dt / 2 * b)
        d = slope(half * (half * v + dt * c))
        v = half**2 * (v + dt / 6 * a) + dt / 3 * half * (b + c) + dt / 6 * d
    return np.fft.irfft(v, points)


def pairs(count, points, part):
    """Return inputs (count, points, 2), u at t = 0 and the place, and targets (count, points, 1), u at t = 1."""
    u = beginnings(count, points, part)
    place = np.broadcast_to(np.arange(points) / points, u.shape)
    return np.stack([u, place], axis=2).astype(np.float32), burgers(u)[..., None].astype(np.float32)


parser = argparse.ArgumentParser()
parser.add_argument("--functions", type=int, default=1000)
parser.add_argument("--points", type=int, default=POINTS)
parser.add_argument("--epochs", type=int, default=25)
options = parser.parse_args()

block = Residual([SpectralConv1d(WIDTH, MODES)], shortcut=[Conv1d(WIDTH, 1)], activation="gelu")
trained = dbp.fit(
    model=[Dense(WIDTH), block, block, block, block, Dense(128, "gelu"), Dense(1)],
    loss="mean_squared_error",
    data=pairs(options.functions, options.points, "train"),
    optimizer=dbp.optim.Adam(learning_rate=2e-3),
    schedule="cosine",
    epochs=options.epochs,
    batch_size=20,
    shards=2,
)
for points in (options.points, 2 * options.points):
    inputs, targets = pairs(100, points, "test")
    found = trained.predict(inputs)
    errors = np.linalg.norm(found - targets, axis=1) / np.linalg.norm(targets, axis=1)
    if world().rank == 0:
        print(f"{points} points: relative L2 error {100 * errors.mean():.2g} %")
