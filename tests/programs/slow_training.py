"""A training on all ranks of a batch job that pauses in each step until the time limit is near, but not once requeued.

Started by tests/test_slurm.py.
"""

import os
import time

import numpy as np

import dbp

PAUSE = 0.0 if "SLURM_RESTART_COUNT" in os.environ else float(os.environ.get("PAUSE", "0"))


def model(scope, x):
    """Apply a dense layer after a pause."""
    if scope.training:
        time.sleep(PAUSE)
    return dbp.nn.Dense(2)(scope.inside("dense"), x)


x = np.arange(240, dtype=np.float32).reshape(40, 6) / 240
dbp.fit(
    model=model,
    loss="mean_squared_error",
    data=(x, x[:, :2]),
    optimizer=dbp.optim.SGD(0.1),
    epochs=54,
    batch_size=8,
    shards=2,
    out=os.environ["OUT"],
    time_limit="auto",
    checkpoint=dbp.Checkpoint(every_steps=20),
)
