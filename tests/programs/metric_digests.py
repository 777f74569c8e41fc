"""Metrics of a short training with weights, a mask of positions and a validation part, printed in full by rank 0.

Started by tests/metrics/test_metric_set_on_ranks.py.
"""

import json
import sys

import numpy as np

import dbp
from dbp import nn
from dbp.parallel import world

RNG = np.random.default_rng(5)
X, WEIGHTS = RNG.standard_normal((61, 4, 5)), RNG.random((61, 4)) * (RNG.random((61, 4)) < 0.8)
Y = (X[..., 0] > 0).astype(int) + (X[..., 1] > 0.5)
KINDS = ["accuracy", "f1", "balanced_accuracy", "log_loss", {"kind": "top_k", "k": 2}]
WHOLE = ["auc", "average_precision", "confusion_matrix"]
out = sys.argv[1]

result = dbp.fit(
    model=[nn.Dense(8, "tanh"), nn.Mixup(0.3), nn.Dense(3)]
    if "mixup" in sys.argv
    else [nn.Dense(8, "tanh"), nn.Dense(3)],
    loss="cross_entropy",
    metrics=[*KINDS, *WHOLE],
    data=dbp.Data((X, Y) if "mixup" in sys.argv else (X, Y, WEIGHTS), validation=0.3),
    optimizer=dbp.optim.Adam(1e-2),
    epochs=2,
    batch_size=11,
    shards=5,
    dtype="float64",
    out=out,
    quiet=True,
)
if world().rank == 0:
    history = {name: [value.hex() for value in values] for name, values in result.history.items() if name != "seconds"}
    print(json.dumps(history))
