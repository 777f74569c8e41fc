"""Trains a little with each method, whole and in two starts, and prints the digests of the weights."""

import argparse
from pathlib import Path

import numpy as np

import dbp
from dbp.checkpoint import digest_arrays
from dbp.nn import Dense
from dbp.optim import TruncatedNewton
from dbp.parallel import world
from dbp.random import generator

WHOLE, PART = 96, 32  # examples in a mini-batch: all there are, or fewer
METHODS = {
    "newton": (TruncatedNewton(iterations=4, damping=0.1), WHOLE),
    "newton of parts": (TruncatedNewton(iterations=3, part=0.5, probes=2), PART),
    "newton with a trust region": (TruncatedNewton("hessian", "trust_region", iterations=4), WHOLE),
}

rng = generator(0, "test")
x = rng.standard_normal((WHOLE, 64))
y = np.tanh(x @ rng.standard_normal((64, 8)))
model = [Dense(128, "tanh"), Dense(8)]  # with enough weights for the ranks to share the work on them
parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path, help="for the runs' files")
parser.add_argument("methods", nargs="*", default=METHODS, help="all, if none is named")
parser.add_argument("--divide", action="store_true", help="vectors among all nodes")
options = parser.parse_args()

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
        print(name, found)
