"""A training whose file is cut off after some steps: data_cut_off.py FILE MEMORY.

Started by tests/reading/test_read_ahead_on_ranks.py.
"""

import os
import sys

import dbp
from dbp.nn import Dense
from dbp.parallel import world
from dbp.run.run import Run

path, memory = sys.argv[1], int(sys.argv[2])
LAST_STEP = 20
next_batch = Run.next_batch


def cut_off_later(run):
    """Cut the file off before a step, on one rank."""
    if run.progress.step == LAST_STEP and world().rank == 0:
        os.truncate(path, 20_000)
    return next_batch(run)


Run.next_batch = cut_off_later
dbp.fit(
    model=[Dense(4)],
    loss="mean_squared_error",
    data=dbp.Data(train=path, window=100, memory=memory),
    optimizer=dbp.optim.Adam(),
    epochs=1000,
    batch_size=50,
    shards=4,
)
