"""A training whose numbers become infinite: not_finite_training.py CASE OPTIONS OUT [STAGE:N:SIGNAL].

OPTIONS is a table in JSON: the settings of not_finite. With STAGE:N:SIGNAL the last rank sends itself that signal, such
as KILL or USR1, when it reaches a stage for the N-th time in this start: a step, a vector restored in a rollback, or
the end of a rollback. Prints a digest of the run's final state.

Started by tests/training/test_not_finite_policy.py and tests/training/test_not_finite_report.py.
"""

import json
import os
import signal
import sys

import numpy as np

import dbp
from dbp.checkpoint import digest_arrays
from dbp.data import ArrayDataset, Examples
from dbp.nn import BatchNorm, Dense, Dropout
from dbp.optim import LBFGS, SGD, Adam, Cosine
from dbp.parallel import world
from dbp.run.not_finite import NotFiniteRecord
from dbp.run.progress import Progress
from dbp.run.snapshot import Snapshot

case, options, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
x = rng.standard_normal((60, 5))
y = np.tanh(x[:, :2])
model = [Dense(8, "relu"), BatchNorm(), Dropout(0.2), Dense(6, "relu"), Dense(2)]
settings = {"optimizer": Adam(1e-2), "schedule": Cosine(warmup_steps=2), "batch_size": 15}
data = x, y
if case == "data":

    class Changing(ArrayDataset):
        """Data of which two rows are infinite once they are checked, in consecutive rows."""

        def read(self, rows):
            examples = super().read(rows)
            if not isinstance(rows, slice):
                inputs = np.where(np.isin(rows, [7, 31])[:, None], np.inf, examples.inputs)
                examples = Examples({**examples, "inputs": inputs})
            return examples

    data = Changing(x, y, name="the train arrays")
elif case == "layer":
    model = [Dense(8, "relu"), Dense(6, initializer="he_normal"), Dense(2)]
    x[7] = 3e38  # infinite where these are added up
elif case == "sgd":
    model = [Dense(8, "relu"), Dense(6, "relu"), Dense(2)]
    settings = {"optimizer": SGD(3e3), "batch_size": 15}
elif case == "adam":
    settings |= {"optimizer": Adam(1e9, average=0.5)}
elif case == "lbfgs":
    model = [Dense(8, "relu"), Dense(2)]
    x[7] = 1e38
    settings = {"optimizer": LBFGS(), "batch_size": 60}


STAGES = {
    "step": (Progress, "after_step"),
    "restore": (Snapshot, "_scatter"),
    "back": (NotFiniteRecord, "after_rollback"),
}


def count_down(stage, number, which):
    """Send this process a signal when it comes to a stage for the given time."""
    owner, name = STAGES[stage]
    method, done = getattr(owner, name), []

    def instead(self, *arguments):
        method(self, *arguments)
        done.append(stage)
        if len(done) == number:
            os.kill(os.getpid(), which)

    setattr(owner, name, instead)


if len(sys.argv) > 4 and world().rank == world().size - 1:
    stage, number, name = sys.argv[4].split(":")
    count_down(stage, int(number), signal.Signals[f"SIG{name}"])
result = dbp.fit(
    model=model,
    loss="mean_squared_error",
    data=dbp.Data(data, validation=(rng.standard_normal((9, 5)), np.zeros((9, 2)))),
    epochs=4,
    shards=6,
    seed=1,
    out=None if out == "-" else out,
    checkpoint=dbp.Checkpoint(every_steps=3, keep=1),
    early_stopping=dbp.EarlyStopping(restore_best=True),
    watch=dbp.Watch(most_starts=0),
    not_finite=dbp.NotFinite(**options),
    **settings,
)
if world().rank == 0:
    history = {name: np.array(column) for name, column in result.history.items() if name != "seconds"}
    print("digest", digest_arrays(result.weights | history), int(result.history["step"][-1]))
