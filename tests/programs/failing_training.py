"""A run whose model fails on one rank, or on all for -1: failing_training.py RANK STEP WAY [scipy | --out FOLDER].

Started by tests/commands/test_run.py, tests/optim/test_scipy_methods.py, tests/parallel/ranks/test_faults.py and
tests/test_log.py.
"""

import os
import signal
import sys

import numpy as np

import dbp
from dbp.parallel import world

rank, step, way = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
calls = 0


def model(scope, x):
    global calls
    calls += 1
    if rank in (-1, world().rank) and calls == step:
        if way == "raise":
            raise ZeroDivisionError("the model failed")
        if way == "user":
            raise dbp.UserError("found on one rank only")
        if way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        sys.exit(int(way.removeprefix("exit")))
    return x @ scope.parameter("weight", (3, 2))


x = np.random.default_rng(0).standard_normal((40, 3))
if way == "outside" and world().rank == rank:
    raise ZeroDivisionError("the script failed")
by_scipy = sys.argv[4:] == ["scipy"]
dbp.fit(
    model=model,
    loss="mean_squared_error",
    data=(x, x[:, :2]),
    optimizer=dbp.optim.Scipy("Newton-CG") if by_scipy else dbp.optim.SGD(0.1),
    epochs=1000 if step < 10**9 else 3,
    batch_size=40 if by_scipy else 8,
    shards=6,
    quiet=True,
    out=sys.argv[5] if sys.argv[4:5] == ["--out"] else None,
)
