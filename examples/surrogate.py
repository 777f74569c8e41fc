"""A surrogate of heat conduction: an image and scalars in, an image and a scalar out.

    -div(k grad T) = q in a square; T = 0 on the left, outward flux h T on the right, none through top and bottom

Given are the conductivity k (an image) and the scalars q and h, wanted the temperature T (an image) and the heat that
leaves on the left. Finite volumes make the examples; two towers and two heads learn them, with a loss for each head:
    dbp run -n 2 -- examples/surrogate.py
"""

import argparse

import numpy as np

import dbp
from dbp.nn import Concatenate, Conv2d, ConvTranspose2d, Dense, Graph, MaxPool2d, Named, Reshape
from dbp.parallel import world
from dbp.random import generator

SIDE = 16  # cells along each edge
CELLS = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
network = Graph(
    Named(Conv2d(16, 3, padding="same", activation="gelu"), "fine", from_="conductivity"),
    Named(MaxPool2d(2), "small"),
    *(Named(Dense(8 * 8 * 8, "gelu"), from_="scalars"), Named(Reshape((8, 8, 8)), "tower")),
    Named(Concatenate(), from_=("small", "tower")),
    Conv2d(32, 5, padding="same", activation="gelu"),
    Named(Conv2d(32, 5, padding="same", activation="gelu"), "body"),
    Named(ConvTranspose2d(16, 2, stride=2), "up"),
    Named(Concatenate(), from_=("fine", "up")),
    Conv2d(16, 3, padding="same", activation="gelu"),
    Named(Conv2d(1, 1), "temperature"),
    Named(Reshape((-1,)), from_="body"),
    Named(Dense(1), "heat"),
    outputs=["temperature", "heat"],
)


def solve(k, q, h):
    """Return the temperatures of a plate (SIDE, SIDE), and the heat that leaves on the left."""
    k, left, right, matrix = k.ravel(), CELLS[:, 0], CELLS[:, -1], np.zeros((SIDE**2, SIDE**2))
    for here, there in (CELLS[:, :-1], CELLS[:, 1:]), (CELLS[:-1], CELLS[1:]):
        matrix[here, there] = matrix[there, here] = -2 / (1 / k[here] + 1 / k[there])  # of the harmonic mean
    matrix -= np.diag(matrix.sum(axis=1))
    matrix[left, left] += 2 * k[left]
    matrix[right, right] += 1 / (SIDE / h + 0.5 / k[right])
    temperature = np.linalg.solve(matrix, np.full(SIDE**2, q / SIDE**2))
    return temperature.reshape(SIDE, SIDE), 2 * k[left] @ temperature[left]


def examples(count, part):
    """Return inputs and targets by name, each with an example along the first axis."""
    rng = generator(0, f"plates to {part}")
    waves = rng.standard_normal((count, 4, 4)) / (1 + np.add.outer(np.arange(4), np.arange(4)))
    cosines = np.cos(np.pi * np.arange(4)[:, None] * (np.arange(SIDE) + 0.5) / SIDE)
    k, scalars = np.exp(np.einsum("nab,ax,by->nxy", waves, cosines, cosines)), rng.uniform(0.5, 2, (count, 2))
    temperature, heat = map(np.array, zip(*map(solve, k, *scalars.T), strict=True))
    inputs = {"conductivity": np.log(k)[..., None], "scalars": scalars}
    return {"inputs": inputs, "targets": {"temperature": temperature[..., None], "heat": heat[:, None]}}


parser = argparse.ArgumentParser()
parser.add_argument("--plates", type=int, default=1500)
parser.add_argument("--epochs", type=int, default=30)
options = parser.parse_args()

settings = {"schedule": "cosine", "epochs": options.epochs, "batch_size": 25, "shards": 2}
test = examples(500, "test")
trained = dbp.fit(
    **settings,
    model=network,
    loss={"temperature": "mean_squared_error", "heat": {"kind": "mean_squared_error", "weight": 0.1}},
    data=dbp.Data(train=examples(options.plates, "train"), test=test, standardize="both"),
    metrics=["rmse"],
    optimizer=dbp.optim.Adam(learning_rate=2e-3),
)
found = trained.predict(test["inputs"])
for name, target in test["targets"].items():
    error = np.linalg.norm(found[name] - target) / np.linalg.norm(target - target.mean())
    if world().rank == 0:
        print(f"{name}: relative L2 error {100 * error:.2g} %")
