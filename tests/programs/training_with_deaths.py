"""A training in which ranks are killed: training_with_deaths.py FOLDER KILL[,KILL ...].

Each KILL is STAGE:TIME:RANK: by the rank's number at the start, when it comes to the stage for that time (from 0).

Started by tests/parallel/sums/test_error_feedback.py and tests/training/test_recovery.py.
"""

import os
import signal
import sys
import time
from collections import Counter

import numpy as np

import dbp
from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.parallel import Copies, world
from dbp.parallel.sums.gradients import GradientSum
from dbp.parallel.sums.plain_sum import PlainSum
from dbp.reading.node_cache import NodeCache
from dbp.run.best_weights import BestWeights
from dbp.run.snapshot import Snapshot
from dbp.saving.checkpoint_writing import CheckpointWriting
from dbp.saving.saver import RunSaver
from dbp.training import fit

first = world().rank
kills = {
    (stage, int(number)) for stage, number, rank in (k.split(":") for k in sys.argv[2].split(",")) if int(rank) == first
}
come = Counter()


def dying(stage, owner, name, wait=0.0):
    """Make a method kill its rank, shortly after the other ranks have begun to wait for it."""
    method = getattr(owner, name)

    def instead(*arguments, **options):
        number = come[stage]
        come[stage] += 1
        if (stage, number) in kills:
            time.sleep(wait)
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)

    setattr(owner, name, instead)


dying("sum", GradientSum, "total", wait=0.05)
dying("plain", PlainSum, "total", wait=0.05)
dying("update", dbp.optim.Adam, "update")
dying("copy", Copies, "take")
dying("best", BestWeights, "take")
dying("write", CheckpointWriting, "_write")
dying("restore", Snapshot, "put_into")
dying("begin", RunSaver, "_begin")
dying("finish", RunSaver, "end")
dying("asked", fit, "asked_ending")
dying("forward", MiniBatchCost, "_write_gradient")
dying("load", NodeCache, "_read")

rng = np.random.default_rng(0)
x = rng.standard_normal((96, 20)).astype(np.float32)
data = dbp.Data((x, rng.integers(3, size=96)), validation=0.25, standardize=os.environ.get("STANDARDIZE"))
if "CHUNKS" in os.environ:  # a file of 96 such examples, of which a part fits in memory
    data = dbp.Data(os.environ["CHUNKS"], validation=0.25, window=24, memory=60 * 88)
result = dbp.fit(
    model=[nn.Dense(int(os.environ.get("UNITS", "16")), "tanh"), nn.Dropout(0.2), nn.Dense(3)],
    loss="cross_entropy",
    data=data,
    optimizer=dbp.optim.Adam(1e-2),
    epochs=4,
    batch_size=12,
    seed=3,
    out=None if sys.argv[1] == "none" else sys.argv[1],
    checkpoint=dbp.Checkpoint(every_steps=2, keep=100),
    early_stopping=dbp.EarlyStopping(restore_best=True),
    watch=dbp.Watch(warn_after=30, end_after=60, recover_within=60, least_ranks=int(os.environ.get("LEAST", "1"))),
    shards=int(os.environ["SHARDS"]) if "SHARDS" in os.environ else None,
    frozen=["dense_1/*"] if "frozen" in sys.argv else (),
    divide_state="divide" in sys.argv,
    messages="top-k" if "top-k" in sys.argv else "full",
)
if world().rank == 0:
    print(f"steps: {result.history['step'][-1]:.0f}; ranks left: {world().size}", flush=True)
    print(f"digest: {digest_arrays(result.weights)}")
