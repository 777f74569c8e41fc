"""Short trainings with each method, if asked in two starts too; prints the digests of the weights.

Started by tests/optim/test_optimizer_on_ranks.py.
"""

import argparse
from pathlib import Path

import numpy as np

import dbp
from dbp.checkpoint import digest_arrays
from dbp.nn import Dense
from dbp.optim import KFAC, LBFGS, SGD, Adam, LevenbergMarquardt, Newton, Scipy
from dbp.optim.scipy_driver import METHODS as OF_SCIPY
from dbp.parallel import world
from dbp.random import generator

WHOLE, PART = 96, 32  # examples in a mini-batch: all there are, or fewer
LARGE = [Dense(128, "tanh"), Dense(8)]  # with enough weights for the ranks to share the work on them
SMALL = [Dense(4, "tanh"), Dense(8)]  # for matrices of all weights
METHODS = {
    "sgd": (SGD(0.05, momentum=0.9), PART, LARGE),
    "adam": (Adam(1e-2), PART, LARGE),
    "clipped": (SGD(0.5, momentum=0.9, clip_norm=0.1), PART, LARGE),
    "lbfgs": (LBFGS(memory=3), WHOLE, LARGE),
    "lbfgs of parts": (LBFGS(memory=3), PART, LARGE),
    "newton": (Newton(iterations=4, damping=0.1), WHOLE, LARGE),
    "newton of parts": (Newton(iterations=3, part=0.5, probes=2), PART, LARGE),
    "newton by factors": (Newton(iterations=3, preconditioner="kronecker", damping=0.1), PART, LARGE),
    "newton with a trust region": (Newton("hessian", "trust_region", iterations=4), WHOLE, LARGE),
    "kfac": (KFAC(0.01, inverse_interval=3, factor_damping_interval=4), PART, LARGE),
    "levenberg_marquardt": (LevenbergMarquardt(), WHOLE, SMALL),
    "levenberg_marquardt in a subspace": (LevenbergMarquardt(subspace=5), WHOLE, LARGE),
}
METHODS |= {f"scipy {name}": (Scipy(name), WHOLE, LARGE) for name in OF_SCIPY}
METHODS["scipy BFGS"] = Scipy("BFGS"), WHOLE, SMALL
METHODS["scipy SLSQP"] = Scipy("SLSQP"), WHOLE, [Dense(3, "tanh"), Dense(8)]

rng = generator(0, "test")
x = rng.standard_normal((WHOLE, 64))
y = np.tanh(x @ rng.standard_normal((64, 8)))
parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path, help="for the runs' files")
parser.add_argument("methods", nargs="*", default=METHODS, help="all, if none is named")
parser.add_argument("--resume", action="store_true", help="also train in two starts, and compare")
parser.add_argument("--divide", action="store_true", help="vectors among all nodes")
parser.add_argument("--private", action="store_true", help="no memory that ranks share")
options = parser.parse_args()
if options.private:
    world().node.allocate = lambda length: None


def train(name, epochs, out):
    """Train for so many epochs, or what is left of them."""
    method, batch_size, model = METHODS[name]
    return dbp.fit(
        model=model,
        loss="mean_squared_error",
        data=(x, y),
        optimizer=method,
        epochs=epochs,
        batch_size=batch_size,
        shards=5,
        divide_state=options.divide,
        out=str(options.folder / name / out),
        quiet=True,
    )


for name in options.methods:
    whole = train(name, 4, "whole")
    found = digest_arrays(whole.weights)
    assert whole.history["cost"][-1] < whole.history["cost"][0]
    if options.resume and not METHODS[name][0].resume_note:
        train(name, 2, "parts")
        parts = train(name, 4, "parts")
        assert digest_arrays(parts.weights) == found, f"{name}: other weights after a second start"
        assert parts.history["cost"] == whole.history["cost"]
    if world().rank == 0:
        print(f"{name}: {found}")
