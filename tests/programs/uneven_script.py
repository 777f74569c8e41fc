"""A script in which rank 1 does not call dbp.fit as rank 0 does: uneven_script.py WAY.

Started by tests/parallel/ranks/test_watchdog.py and tests/script/test_hooks.py.
"""

import os
import sys
import time

import numpy as np

import dbp

way, rank = sys.argv[1], int(os.environ["OMPI_COMM_WORLD_RANK"])
if way in ("leave", "sleep", "once"):
    from mpi4py import MPI  # noqa: F401  it starts MPI on all ranks


def fit():
    """Train for a moment."""
    dbp.fit(
        model=[dbp.nn.Dense(2)],
        loss="mean_squared_error",
        data=(np.eye(4), np.eye(4)[:, :2]),
        optimizer=dbp.optim.SGD(0.1),
        epochs=1,
        batch_size=4,
        quiet=True,
        watch=dbp.Watch(warn_after=1, end_after=float(os.environ.get("END_AFTER", "5"))),  # less than LEFT_SECONDS
    )


if rank == 0 or way == "once":
    fit()
    if rank == 0:
        fit()
elif way in ("sleep", "before MPI"):
    time.sleep(600)
elif way == "exit":
    sys.exit(0)
elif way == "raise":
    raise ZeroDivisionError("before dbp.fit")
elif way == "user":
    dbp.optim.SGD(-1.0)
