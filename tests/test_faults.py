"""Disks and processes that fail at each moment: nothing is lost, nothing hangs, no bit is wrong."""

import json
import os
import signal
import sys

import pytest
from breaking import injector, jobs
from breaking.injector import FAULTS
from conftest import ROOT, launcher, run

BREAKING = ROOT / "benchmarks" / "breaking"
pytestmark = pytest.mark.skipif(injector.why_not() is not None, reason=str(injector.why_not()))


def broken(program, folder, cases):
    """What a program tells of its cases, a row each."""
    env = injector.environment(folder / "run") | {"PYTHONPATH": f"{ROOT}/benchmarks{os.pathsep}{ROOT}"}
    outcome = run(sys.executable, BREAKING / program, folder, json.dumps(cases), env=env, timeout=120)
    assert outcome.code == 0, outcome.text
    return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_save_at_each_of_whose_file_calls_the_disk_fails(tmp_path, fault):
    """Once, and from then on for good; until a save is not touched any more."""
    rows = broken("saves.py", tmp_path, [[fault, 1, 1, 1], [fault, 0, 1, 1]])
    assert [row for row in rows if row["wrong"]] == []
    assert len(rows) >= 20


def test_trainings_at_some_of_whose_file_calls_the_disk_fails(tmp_path):
    faults = ("SIGKILL", "ENOSPC", "EIO")
    cases = [[fault, count, at, at % 2] for fault in faults for count in (1, 0) for at in (7, 40)]
    rows = broken("trainings.py", tmp_path, cases)
    assert [row for row in rows if row["wrong"]] == []
    assert len(rows) == len(cases)
    assert sum(row["met"] for row in rows) >= len(cases)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    launcher()  # skips where there is none
    return jobs.Bench.made(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize(
    ("ranks", "victims", "stage", "number", "twice"),
    [
        (0, [0], "import", signal.SIGUSR2, False),
        (2, [1], "start", signal.SIGTERM, False),
        (2, [0, 1], "steps", signal.SIGUSR1, True),
        (5, [0], "save", signal.SIGINT, False),  # of five ranks one has no shard
        (2, [1], "steps", signal.SIGINT, True),
    ],
)
def test_signals_at_stages(bench, ranks, victims, stage, number, twice):
    assert jobs.stopped(bench, ranks, victims, stage, number, twice, again=3) == ""


@pytest.mark.parametrize(
    ("ranks", "victim", "stage", "number"),
    [(2, 0, "save", signal.SIGKILL), (3, 2, "steps", signal.SIGSEGV)],
)
def test_ranks_that_die_at_stages(bench, ranks, victim, stage, number):
    assert jobs.died(bench, ranks, victim, stage, number, again=2) == ""


def test_a_disk_that_fails_in_a_job(bench):
    assert jobs.with_disk(bench, 2, FAULTS["ENOSPC"], 30, injector.ALWAYS, again=1) == ""
