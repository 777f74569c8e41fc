"""Fixtures of many tests."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples_of_a_test

from dbp.cli import main
from tests.jobs import SMALL, dbp, digest, results

pytest_plugins = ["tests.time_limits"]

# What a shell starts in the background ignores Ctrl-C, and under nohup SIGHUP; processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No example is too slow for Hypothesis: the machine may be busy with other work.
examples_of_a_test.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples_of_a_test.load_profile("busy machine")


LONGEST = [  # files of tests, the longest first; in test_slurm.py a job waits for a minute, while other tests run
    "test_slurm.py",
    "optim/test_optimizer_on_ranks.py",
    "test_fault_injection.py",
    "test_hosts.py",
    "batch/test_submit.py",
    "test_ranks.py",
    "training/test_recovery.py",
    "parallel/sums/test_error_feedback.py",
    "test_benchmarks.py",
    "test_pages.py",
    "test_examples.py",
]


def pytest_collection_modifyitems(items):
    """Begin with the longest files, then those with slow tests, so that no worker begins a long file at the end."""
    first = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (first.get(item.path, len(first)), item.path not in slow))


@pytest.fixture
def mpich_python() -> str:
    """Return the Python of an environment with dbp and MPICH; skip the test if there is none."""
    python = os.environ.get("DBP_TEST_MPICH_PYTHON")
    if not python:
        pytest.skip("DBP_TEST_MPICH_PYTHON names no Python of an environment with dbp and MPICH")
    return python


@pytest.fixture
def small(tmp_path) -> Path:
    """Write a config that trains on the digits within seconds, into the folder `run` beside it."""
    path = tmp_path / "small.toml"
    path.write_text(f'out = "{tmp_path}/run"\n{SMALL}')
    return path


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Train the small config in one process; return the run's folder, which no test may change, and the outcome."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.toml").write_text(f'out = "{folder}/run"\n{SMALL}')
    outcome = dbp("train", folder / "small.toml")
    assert outcome.code == 0, outcome.text
    return folder / "run", outcome


@pytest.fixture(scope="session")
def reference(small_run):
    """Return the digest of that run's weights, and its lines with costs."""
    folder, outcome = small_run
    return digest(folder), results(outcome)


@pytest.fixture
def run_command(capsys):
    """Return a function that runs a command in this process and returns its code, lines and errors."""

    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run
