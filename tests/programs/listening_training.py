"""A training with a listener on rank 0, which another rank has none of: listening_training.py OUT stop|fail|hear.

Started by tests/training/test_events_on_ranks.py.
"""

import sys

import dbp
from dbp.listeners import Step

out, action = sys.argv[1:]


def watcher(event):
    """Stop, fail or listen after a step."""
    if isinstance(event, Step) and event.step == 2:
        if action == "fail":
            raise ValueError("two")
        return dbp.STOP if action == "stop" else None
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
