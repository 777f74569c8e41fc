"""A small checkpoint with all that one can hold."""

import numpy as np

from dbp.checkpoint import StoredCheckpoint

MODEL = {"dense_1/weight": np.arange(6.0).reshape(2, 3), "dense_1/bias": np.zeros(3, np.float32)}
FULL = StoredCheckpoint(
    model=MODEL,
    optimizer={"mean": MODEL, "mean_square": MODEL},
    history={"cost": np.array([1.0, 0.5])},
    progress={"epoch": 2, "cost": 0.5, "finished": False, "best_cost": float("inf"), "data_train": "ab" * 32},
    provenance={"host": "here"},
    config="epochs = 3\n" + "# long\n" * 20000,  # longer than HDF5's limit for an attribute of the old kind
)
