"""Folders of runs for the tests of reports, written without training."""

import json

import numpy as np

from dbp.checkpoint import StoredCheckpoint, write
from dbp.config.settings import Settings
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.data import parse_meaning
from dbp.nn import Dense
from dbp.optim import Adam
from dbp.run.progress import Progress

HOSTILE = "<script>alert(1)</script>"
LOG = """2026-11-30T10:00:00+00:00 --- started: rank 0 of 2, host <b>node</b>, process 17
2026-11-30T10:00:00+00:00 dbp 0.1.0: 2 ranks (Open MPI 5.0.11), 4 shards
2026-11-30T10:00:09+00:00 SIGTERM on rank 0: saved step 20; the same command resumes from it
2026-11-30T10:01:00+00:00 --- started again: rank 0 of 3, host <b>node</b>, process 18
2026-11-30T10:01:01+00:00 resumed from step-20.h5 at epoch 3, step 20
2026-11-30T10:01:05+00:00 warning: 1 step was skipped, as the cost or its gradient was not finite
2026-11-30T10:02:00+00:00 finished: 4 epochs, 40 steps in 1 min 20 s
2026-11-30T10:02:00+00:00 test: cost 0.3000  accuracy 0.9000  (100 examples)
"""
STATUS = {
    "state": "finished",
    "epoch": 4,
    "epochs": 4,
    "step": 40,
    "steps": 40,
    "ranks": 3,
    "seconds": 80.0,
    "host": "<b>node</b>",
    "message": HOSTILE,
    "code": 0,
    "updated": "2026-11-30T10:02:00+00:00",
}
TIMING = "rank,host,data,forward,backward,sum,update,other,waiting,memory\n" + "".join(
    f"{rank},<b>node</b>,1,{4 + rank},8,1,2,0.5,{3 - rank},{300_000_000 + rank}\n" for rank in range(3)
)


def history(epochs=4, best=3):
    """Return the columns of a history, whose validation cost is least in its best epoch."""
    numbers = np.arange(1.0, epochs + 1)
    return {
        "epoch": numbers,
        "step": 10 * numbers,
        "learning_rate": np.full(epochs, 1e-3),
        "cost": 1 / numbers,
        "accuracy": 1 - 0.5 / numbers,
        "validation_cost": 0.4 + 0.05 * abs(numbers - best),
        "validation_accuracy": 0.9 - 0.02 * abs(numbers - best),
        "seconds": 20 * numbers,
    }


def write_run(folder, epochs=4, classes=("cat", HOSTILE, "dog"), learning_rate=1e-3, columns=None):
    """Write the folder of a run of some epochs, whose names are hostile."""
    columns = history(epochs) if columns is None else columns
    settings = Settings([Dense(3)], "cross_entropy", "train.h5", Adam(learning_rate), epochs, 10, shards=4)
    progress = Progress(best_by="validation_cost")
    progress.epoch, progress.step, progress.finished = epochs, 10 * epochs, True
    progress.best_epoch, progress.best_step, progress.best_value = 3, 30, 0.4
    meaning = {"targets": {"kind": "integers", "classes": list(classes)}}
    assert parse_meaning(json.dumps(meaning))
    checkpoint = StoredCheckpoint(
        model={"dense_1/weight": np.zeros((2, 3), np.float32)},
        history=columns,
        progress=progress.to_attributes() | {"shards": 4, "seed": 0},
        provenance={"dbp": "0.1.0", "host": HOSTILE, "ranks": 3},
        config=to_toml(table_from(settings)),
        meaning=json.dumps(meaning),
    )
    (folder / "checkpoints").mkdir(parents=True)
    write(folder / "checkpoints" / f"step-{10 * epochs:09d}.h5", checkpoint)
    (folder / "logs").mkdir()
    (folder / "logs" / "rank-0.log").write_text(LOG)
    (folder / "status.json").write_text(json.dumps(STATUS))
    (folder / "timing.csv").write_text(TIMING)
    (folder / "config.toml").write_text(f"# Written by dbp\n{checkpoint.config}")
    if epochs < 1000:
        rows = zip(*columns.values(), strict=True)
        text = "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)])
        (folder / "history.csv").write_text(f"{text}\n")
    return folder
