"""Jobs for the tests: real processes, real mpirun, always with a time limit."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from dbp.batch.launcher_process import NOT_STARTED
from dbp.checkpoint import StoredCheckpoint, digest_arrays, find
from tests import processes
from tests.launcher import LAUNCHER_SETTINGS
from tests.processes import LIMIT, Outcome

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(__file__).parent / "programs"


def slow(*values):
    """Return parameters of a test that are left out by `-m "not slow"`."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow) for value in values
    ]


def run(*command, timeout=LIMIT, cwd=None, env=None) -> Outcome:
    """Run a command, with the settings of launchers, until all that it starts has ended; TimeLimitError if it does not.

    Open MPI's launcher sometimes fails to start itself, on a busy machine, before it has started anything: then again.
    """
    options = {"timeout": timeout, "cwd": cwd, "env": os.environ | LAUNCHER_SETTINGS | (env or {})}
    outcome = processes.run(*command, **options)
    return processes.run(*command, **options) if outcome.code == NOT_STARTED else outcome


def launcher(python: str = sys.executable) -> str:
    """Return the mpirun beside a Python; skip the test if there is none."""
    path = Path(python).parent / "mpirun"
    if not path.exists():
        pytest.skip(f"no mpirun beside {python}: install the extra [mpi]")
    return str(path)


def mpirun(ranks: int, *command, python: str = sys.executable, **options) -> Outcome:
    """Run a Python command line on several ranks with plain mpirun."""
    return run(launcher(python), "-n", ranks, python, *command, **options)


def dbp(*words, **options) -> Outcome:
    """Run the command line in one process."""
    return run(sys.executable, "-m", "dbp", *words, **options)


def digest(folder) -> str:
    """Return the digest of a run's newest weights, as `dbp inspect --digest` prints it."""
    return digest_arrays(newest_checkpoint(folder).model)


def best_digest(folder) -> str:
    """Return the digest of the weights that a run has come to: those of its best epoch, if it keeps them."""
    with find(Path(folder)) as found:
        return digest_arrays(found.inference_weights())


def results(outcome) -> list[str]:
    """Return the lines of a training with costs, without speeds and times."""
    return re.findall(r"^(?:[* ] +\d+/\d+(?: +-?\d+\.\d{4}\b| +-?\d\.\d{3}e\S+)+|test: .*)", outcome.out, re.MULTILINE)


def newest_checkpoint(folder) -> StoredCheckpoint:
    """Return the checkpoint in a file, or the newest intact one of a run."""
    with find(Path(folder), last=True) as found:
        return found.load()


SMALL = """
loss = "cross_entropy"
epochs = 2
batch_size = 50
shards = 4
seed = 3

[data]
train = "dbp:digits-train"
validation = 0.1
test = "dbp:digits-test"

[model]
layers = [
    { kind = "flatten" },
    { kind = "dense", units = 16, activation = "tanh" },
    { kind = "dense", units = 10 },
]

[optimizer]
kind = "adam"
learning_rate = 1e-2

[schedule]
kind = "cosine"
warmup_steps = 5

[checkpoint]
every_steps = 10
"""
