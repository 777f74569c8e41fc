"""Trains a little with each method, whole and in two starts, and prints the digests of the weights."""

import argparse
from pathlib import Path

import numpy as np

import dbp
from dbp.checkpoint import digest_arrays
from dbp.nn import Dense
from dbp.optim import LBFGS, SGD, Adam
from dbp.parallel import world
from dbp.random import generator

WHOLE, PART = 96, 32  # examples in a mini-batch: all there are, or fewer
METHODS = {
    "sgd": (SGD(0.05, momentum=0.9), PART),
    "adam": (Adam(1e-2), PART),
    "lbfgs": (LBFGS(memory=3), WHOLE),
    "lbfgs of parts": (LBFGS(memory=3), PART),
}

rng = generator(0, "test")
x = rng.standard_normal((WHOLE, 64))
y = np.tanh(x @ rng.standard_normal((64, 8)))
model = [Dense(128, "tanh"), Dense(8)]  # with enough weights for the ranks to share the work on them
parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path, help="for the runs' files")
parser.add_argument("methods", nargs="*", default=METHODS, help="all, if none is named")
parser.add_argument("--divide", action="store_true", help="vectors among all nodes")
parser.add_argument("--private", action="store_true", help="no memory that ranks share")
options = parser.parse_args()
if options.private:
    world().shared_memory = lambda length: None

for name in options.methods:
    method, batch_size = METHODS[name]

    def train(epochs, out, method=method, batch_size=batch_size):
        return dbp.fit(
            model=model,
            loss="mean_squared_error",
            data=(x, y),
            optimizer=method,
            epochs=epochs,
            batch_size=batch_size,
            shards=5,
            divide_state=options.divide,
            out=str(out),
            quiet=True,
        )

    whole = train(6, options.folder / name / "whole")
    train(3, options.folder / name / "parts")
    parts = train(6, options.folder / name / "parts")
    found = digest_arrays(whole.weights)
    assert digest_arrays(parts.weights) == found, f"{name}: other weights after a second start"
    assert parts.history["cost"] == whole.history["cost"]
    assert whole.history["cost"][-1] < whole.history["cost"][0]
    if world().rank == 0:
        print(f"{name}: {found}")
