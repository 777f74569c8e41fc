"""Print digests of the weights after a few steps of every first-order optimizer with its options.

first_order_digests.py [divided] divides the state among the nodes.

Started by tests/optim/test_first_order_runs.py.
"""

import sys

import numpy as np

import dbp
from dbp.checkpoint import digest_arrays
from dbp.nn import Dense
from dbp.optim import LAMB, LARS, SGD, Adagrad, Adam, AdamW, Lion, Muon, NAdam, Plateau, RMSprop
from dbp.parallel import world

OPTIONS = {
    "weight_decay": 0.1,
    "layer_rates": {"dense_2/*": 0.5},
    "clip_norm": 0.5,
    "clip_value": 0.3,
    "average": 0.7,
}
METHODS = [
    *(method(0.01, **OPTIONS) for method in (SGD, Adagrad, RMSprop, Adam, AdamW, NAdam, LARS, LAMB, Lion, Muon)),
    SGD(0.01, 0.9, nesterov=True, **OPTIONS),
    Muon(0.01, matrices=("*",)),
]

rng = np.random.default_rng(0)
x = rng.standard_normal((60, 30)).astype(np.float32)
y = np.tanh(x[:, :5])
x[17] = 1e38  # so that a step of each epoch is not finite
for method in METHODS:
    result = dbp.fit(
        model=[Dense(60, "relu"), *[Dense(60)] * 4, Dense(5)],
        loss="mean_squared_error",
        data=dbp.Data((x, y)),
        optimizer=method,
        not_finite=dbp.NotFinite("skip"),
        schedule=Plateau(patience=0, threshold=0.5),
        epochs=2,
        batch_size=20,
        shards=4,
        divide_state="divided" in sys.argv,
        quiet=True,
    )
    if world().rank == 0:
        costs = "".join(f" {cost.hex()}" for cost in result.history["cost"])
        print(method.kind, digest_arrays(result.weights), costs, result.history["skipped"])
