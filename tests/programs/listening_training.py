"""A training with a listener on rank 0, which another rank has none of; its arguments are OUT and an action.

Started by tests/training/test_events_on_ranks.py.
"""

import sys

import numpy as np

import dbp
from dbp.listeners import CheckpointWritten, Step

out, action = sys.argv[1:]


def watcher(event):
    """Stop, fail or listen after a step."""
    if isinstance(event, Step) and event.step == 2:
        if action == "fail":
            raise ValueError("two")
        return dbp.STOP if action == "stop" else None
    if isinstance(event, CheckpointWritten) and action == "predict":
        outputs = dbp.load(event.path).predict(np.ones((2, 8, 8), np.uint8))
        print(f"listener on rank {dbp.rank()} of {dbp.ranks()}: {outputs[1].tobytes().hex()}")
    if isinstance(event, Step) and action == "train":
        dbp.fit(
            model=[dbp.nn.Dense(1)],
            loss="mean_squared_error",
            data=(np.ones((2, 1)), np.ones((2, 1))),
            optimizer=dbp.optim.SGD(0.1),
            epochs=1,
            batch_size=2,
        )
    return None


result = dbp.fit(
    model=[dbp.nn.Flatten(), dbp.nn.Dense(10)],
    loss="cross_entropy",
    data="dbp:digits-test",
    optimizer=dbp.optim.Adam(1e-2),
    epochs=2,
    batch_size=100,
    shards=4,
    out=out,
    listeners=[watcher] if dbp.rank() == 0 else [],
)
print(f"rank {dbp.rank()} of {dbp.ranks()}: {result.steps} steps")
