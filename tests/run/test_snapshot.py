"""Snapshots: from a run to memory or a checkpoint, and back into a run."""

import dataclasses

import numpy as np
import pytest

from dbp import nn
from dbp.checkpoint import digest_arrays, opened, write
from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.nn import running_arrays
from dbp.optim import Adam
from dbp.parallel import OneProcess
from dbp.run.snapshot import Snapshot
from dbp.saving.start import Start
from dbp.training.fit import start_run
from dbp.training.loop import record_step, step

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 5)).astype(np.float32)
SETTINGS = Settings(
    model=[nn.Dense(4, "relu"), nn.BatchNorm(), nn.Dense(2)],
    loss="mean_squared_error",
    data=Data((X, X[:, :2])),
    optimizer=Adam(1e-2, average=0.5),
    epochs=3,
    batch_size=4,
    shards=2,
)


def take_step(run):
    record_step(run, step(run, run.next_batch(), 9))


def state_of(run):
    """Return a digest of the vectors and running moments of a run, and its counts."""
    counts = {
        name: value for name, value in run.progress.to_attributes().items() if name not in ("elapsed", "best_value")
    }
    averaged = {f"average of {name}": array for name, array in running_arrays(run.averaged).items()}
    assert averaged
    return digest_arrays(run.vectors | running_arrays(run.running) | averaged), counts


@pytest.fixture
def run():
    with start_run(SETTINGS, OneProcess(), Start(quiet=True)) as (run, _, _):
        take_step(run)
        yield run


def test_in_memory(run):
    snapshot, expected = Snapshot.of(run), state_of(run)
    assert snapshot.is_held
    take_step(run)
    assert state_of(run) != expected
    snapshot.put_into(run)
    assert state_of(run) == expected


def test_through_a_checkpoint(run, tmp_path):
    expected = state_of(run)
    write(tmp_path / "a.h5", Snapshot.of(run).to_checkpoint(run.layout, {"blas": "any"}, "seed = 0\n"))
    take_step(run)
    with opened(tmp_path / "a.h5") as found:
        Snapshot.from_checkpoint(found, run.layout).put_into(run)
    assert state_of(run) == expected


def test_a_snapshot_of_an_open_checkpoint_reads_no_vectors(run, tmp_path):
    write(tmp_path / "a.h5", Snapshot.of(run).to_checkpoint(run.layout, {}, ""))
    with opened(tmp_path / "a.h5") as found:
        unread = dataclasses.replace(
            found, entries={n: dataclasses.replace(e, offset=1 << 40) for n, e in large(found)}
        )
        snapshot = Snapshot.from_checkpoint(unread, run.layout)
    assert list(snapshot.vectors) == ["weights", *run.state.vectors]


def large(found):
    groups = ("model/dense", "optimizer/")
    return [(n, e) for n, e in found.entries.items() if n.startswith(groups) and "/running_" not in n]


def test_a_run_with_more_epochs_to_go_is_not_finished(run):
    snapshot = Snapshot.of(run)
    dataclasses.replace(snapshot, progress={**snapshot.progress, "finished": True}).put_into(run)
    assert not run.progress.finished
