"""Short trainings of small models; prints the digests of their weights, and how many passes were planned.

planned_digests.py FOLDER [ordinary] does without plans.

Started by tests/cost/test_planned_passes.py.
"""

import sys

import numpy as np

import dbp
from dbp.checkpoint import digest_arrays
from dbp.cost.planned_passes import PlannedPass, PlannedPasses
from dbp.nn import BatchNorm, Dense, Dropout
from dbp.optim import LBFGS, SGD, Adam
from dbp.parallel import world

rng = np.random.default_rng(0)
x = rng.standard_normal((70, 8)).astype(np.float32)
classes, weights = rng.integers(0, 3, 70), rng.random(70).astype(np.float32)
bad = x.copy()
bad[17] = 1e38  # so that a step of each epoch is not finite
model = [Dense(16, "relu"), Dense(9, "tanh"), Dense(3)]
normalized = [Dense(9), BatchNorm(), Dropout(0.3), Dense(3)]
common = {"model": model, "loss": "cross_entropy", "batch_size": 20, "shards": 3, "quiet": True, "schedule": "cosine"}
RUNS = {
    "weights": {"data": dbp.Data((x, classes, weights)), "optimizer": SGD(0.1, momentum=0.9)},
    "not finite": {"data": (bad, classes), "optimizer": Adam(0.01), "not_finite": dbp.NotFinite("skip")},
    "frozen": {"data": (x, classes), "optimizer": Adam(0.01), "frozen": ["dense_3/*"]},
    "moments": {"model": normalized, "data": (x, classes), "optimizer": Adam(0.01)},
}
if "ordinary" in sys.argv:
    PlannedPasses.learn = lambda *_: None
planned = 0
forward = PlannedPass.forward


def counting(self, *given):
    """Count the passes that are planned."""
    global planned
    planned += 1
    forward(self, *given)


PlannedPass.forward = counting
for name, settings in RUNS.items():
    out = f"{sys.argv[1]}/{name}"
    dbp.fit(epochs=3, out=out, **common | settings)
    result = dbp.fit(epochs=5, out=out, accept="epochs", **common | settings)
    if world().rank == 0:
        print(f"{name}: digest {digest_arrays(result.weights)} {result.history['cost'][-1].hex()}")
common |= {"batch_size": 70, "schedule": "constant"}
result = dbp.fit(data=(x, classes), optimizer=LBFGS(), epochs=6, **common)
if world().rank == 0:
    print(f"lbfgs: digest {digest_arrays(result.weights)}\nplanned passes: {planned}")
