"""A few steps of each method that takes whole data sets; rank 0 prints digests: full_batch.py [divide]."""

import sys

import numpy as np

import dbp
from dbp.checkpoint.format import digest_arrays
from dbp.optim import LevenbergMarquardt, Scipy
from dbp.optim.scipy_lead import METHODS
from dbp.parallel import world

x = np.random.default_rng(0).standard_normal((37, 30))
y = np.sin(x[:, :2] + x[:, 2:4])
small = [dbp.nn.Dense(5, "tanh"), dbp.nn.Dense(2)]
large = [dbp.nn.Dense(128, "tanh"), dbp.nn.Dense(64, "tanh"), dbp.nn.Dense(2)]  # enough for ranks to share the work
quadratic_memory = ("BFGS", "SLSQP")

runs = {f"scipy {name}": (Scipy(name), small if name in quadratic_memory else large) for name in METHODS}
runs["levenberg_marquardt dense"] = LevenbergMarquardt(), small
runs["levenberg_marquardt subspace"] = LevenbergMarquardt(subspace=5), large
for name, (optimizer, model) in runs.items():
    result = dbp.fit(
        model=model,
        loss="mean_squared_error",
        data=(x, y),
        optimizer=optimizer,
        epochs=3,
        batch_size=len(x),
        shards=6,
        divide_state=sys.argv[1:] == ["divide"],
        quiet=True,
    )
    costs = result.history["cost"]
    assert costs[-1] < costs[0], (name, costs)
    if world().rank == 0:
        print(name, digest_arrays(result.weights), costs[-1], result.history["evaluations"][-1])
