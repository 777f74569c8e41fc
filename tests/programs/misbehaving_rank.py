"""A training in which rank 1 misbehaves: misbehaving_rank.py WAY FOLDER WARN_AFTER END_AFTER.

Started by tests/parallel/conftest.py.
"""

import ctypes
import os
import sys
import time

import numpy as np

import dbp
from dbp.parallel import world

comm, way, here = world(), sys.argv[1], []
if way == "version" and comm.rank == 1:
    dbp.version.VERSION = "0.0.9"
rows = 90 if way == "data" and comm.rank == 1 else 100
x = np.random.default_rng(comm.rank == 1 and way == "values").standard_normal((rows, 30))
units = 401 if way == "shape" and comm.rank == 1 else 400


def model(scope, x):
    here.append(0)
    h = dbp.nn.Dense(units, "relu")(scope.inside("hidden"), x)
    if comm.rank == 1 and scope.training and len(here) > 20:
        if way == "flip":
            w = scope.inside("hidden").parameter("weight", (30, units), "zeros")
            w = getattr(w, "value", w)
            ctypes.c_ubyte.from_address(w.ctypes.data + 4000).value ^= 1
        if way == "slow":
            time.sleep(60)
        if way == "stop":
            os.kill(os.getpid(), 19)
    return dbp.nn.Dense(2)(scope.inside("last"), h)


dbp.fit(
    model=model,
    loss="mean_squared_error",
    data=(x, x[:, :2]),
    optimizer=dbp.optim.SGD(0.02 if way == "setting" and comm.rank == 1 else 0.01),
    epochs=12,
    batch_size=20,
    shards=3,
    out=sys.argv[2],
    checkpoint=dbp.Checkpoint(every_epochs=20),
    watch=dbp.Watch(compare_every_steps=5, warn_after=float(sys.argv[3]), end_after=float(sys.argv[4])),
)
