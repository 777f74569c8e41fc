"""Training on data several times as large as the memory that it may take."""

import dataclasses
import tracemalloc

import h5py
import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, NotFinite, Settings
from dbp.data import check
from dbp.optim import SGD
from tests.jobs import newest_checkpoint
from tests.training.fit_runs import run

ROWS, FEATURES = 4000, 1000
MEMORY, MOST_BYTES = 2_000_000, 7_000_000  # of 16 MB


@pytest.fixture
def settings(tmp_path):
    """Return the settings of a run whose data is in compressed chunks of 0.2 MB."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(-8, 8, (ROWS, FEATURES)).astype(np.float32)
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("inputs", data=inputs, chunks=(50, FEATURES), compression="gzip", shuffle=True)
        file["targets"] = (inputs[:, 0] > 0).astype(np.int64)
    data = Data(str(tmp_path / "large.h5"), memory=MEMORY, window=200)
    return Settings(
        [nn.Dense(2)], "cross_entropy", data, SGD(0.01), 2, 100, shards=2, checkpoint=Checkpoint(every_steps=15, keep=9)
    )


@pytest.mark.slow
def test_memory_is_bounded_and_the_run_resumes(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "BLOCK_BYTES", 1 << 19)  # of the check of all rows at the start
    whole = run(dataclasses.replace(settings, data=dataclasses.replace(settings.data, memory=None)))
    tracemalloc.start()
    try:
        run(settings, out=str(tmp_path / "run"))
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if path.name > "step-000000045.h5":
            path.unlink()
    resumed = run(settings, out=str(tmp_path / "run"))
    assert digest_arrays(resumed.weights) == digest_arrays(whole.weights)


def test_a_rollback_reads_the_same_chunks_again(tmp_path):
    """The memory holds three chunks; the run with all in memory is the reference."""
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((240, 6)).astype(np.float32)
    with h5py.File(tmp_path / "small.h5", "w") as file:
        file.create_dataset("inputs", data=inputs, chunks=(10, 6), compression="gzip")
        file["targets"] = inputs[:, :2].clip(-1, 1)
    found = []
    for memory in (4 * 10 * 32, None):
        data = Data(str(tmp_path / "small.h5"), memory=memory, window=20)
        settings = Settings(
            [nn.Dense(2)],
            "mean_squared_error",
            data,
            SGD(1e18),
            2,
            10,
            shards=2,
            out=str(tmp_path / f"run-{memory}"),
            checkpoint=Checkpoint(every_steps=5, keep=9),
            not_finite=NotFinite("roll_back", factor=1e-19, at_most=3),
        )
        result = run(settings)
        found.append((digest_arrays(result.weights), result.history["cost"]))
        assert newest_checkpoint(tmp_path / f"run-{memory}").progress["rate_factor"] < 1
    assert found[0] == found[1]
