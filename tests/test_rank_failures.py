"""Failures of ranks: errors are reported once, the whole job ends, and runs killed at random moments resume."""

import contextlib
import os
import random
import signal
import sys
import time

import pytest

from tests.jobs import LAUNCHER_SETTINGS, PROGRAMS, dbp, digest, launcher, mpirun, slow
from tests.processes import ProcessTree
from tests.shared_memory import left_in_shared_memory, shared_memory

DBP = ("-m", "dbp")


def test_mistakes_are_told_once_not_once_a_rank(small, tmp_path):
    outcome = mpirun(3, *DBP, "train", small, "--set", "optimizer.kind=adm")
    assert outcome.code == 2
    assert outcome.err.count("unknown optimizer kind 'adm'; did you mean 'adam'?") == 1
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_wrong_command_line_is_told_once_too():
    outcome = mpirun(3, *DBP, "train", "--fesh", "x.toml")
    assert outcome.code == 2
    assert outcome.err.count("unrecognized arguments: --fesh; see dbp --help") == 1
    assert "usage" not in outcome.err


@pytest.mark.parametrize("rank", [2, *slow(0)])
@pytest.mark.parametrize("way", ["raise", *slow("exit0", "exit3", "kill", "user", "outside")])
def test_a_failing_rank_ends_all(rank, way):
    start, before = time.monotonic(), shared_memory()
    outcome = mpirun(3, PROGRAMS / "failing.py", rank, 20, way, timeout=30)
    assert time.monotonic() - start < 20
    assert outcome.code != 0
    assert left_in_shared_memory(before) == set()
    if way in ("raise", "outside"):
        assert outcome.err.count("ZeroDivisionError: ") == 1
        assert outcome.err.count("Traceback") == 1
    if way in ("raise", "outside", "exit0", "exit3"):
        assert outcome.err.count(f"dbp: rank {rank} of 3 on ") == 1
    if way == "user":
        assert outcome.err.count("found on one rank only") == 1
        assert f"dbp: error: rank {rank} of 3" in outcome.err
        assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_a_script_goes_on_after_runs_that_diverged(tmp_path):
    """Each run must free its shared memory, which else would fill up."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, os, dbp\n"
        "x = np.random.default_rng(0).standard_normal((40, 100))\n"
        "def fit(rate):\n"
        "    model = [dbp.nn.Dense(100), dbp.nn.Dense(2)]\n"
        "    return dbp.fit(model=model, loss='mean_squared_error', data=(x, x[:, :2]),\n"
        "                   optimizer=dbp.optim.SGD(rate), epochs=3, batch_size=8, quiet=True)\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        fit(1e30)\n"
        "    except dbp.UserError as error:\n"
        "        assert 'not finite' in str(error)\n"
        "    weights = fit(1e-4).weights\n"
        "    maps = open('/proc/self/maps').read()\n"
        "    assert 'dbp-' not in maps and all(np.isfinite(w).all() for w in weights.values())\n"
        "print('done', flush=True)\n"
    )
    outcome = mpirun(2, script)
    assert (outcome.code, outcome.out) == (0, "done\ndone\n"), outcome.text


@pytest.mark.slow
def test_what_fails_on_all_ranks_is_told_once():
    outcome = mpirun(3, PROGRAMS / "failing.py", -1, 20, "raise", timeout=30)
    assert outcome.code == 1
    assert outcome.err.count("Traceback") == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["raise", "exit0", "kill"])
def test_a_failing_rank_ends_all_with_mpich_too(mpich_python, way):
    before = shared_memory()
    outcome = mpirun(3, PROGRAMS / "failing.py", 1, 20, way, python=mpich_python, timeout=30)
    assert outcome.code != 0
    assert left_in_shared_memory(before) == set()
    assert outcome.err.count("dbp: rank 1 of 3 on ") == (way != "kill")
    assert outcome.err.count("ZeroDivisionError: ") == (way == "raise")


@pytest.mark.slow
def test_a_script_is_told_its_mistake_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import dbp\n"
        "dbp.fit(model=[dbp.nn.Dense(3)], loss='cross_entropy', data='missing.h5',\n"
        "        optimizer=dbp.optim.SGD(0.1), epochs=1, batch_size=2)\n"
    )
    outcome = mpirun(3, script)
    assert outcome.code == 2
    assert outcome.err.count("dbp: error: data file missing.h5 does not exist") == 1
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_weights(small, tmp_path):
    """SIGKILL hits one or all ranks at a dozen moments; then the run is finished."""
    longer = ("--set", "epochs=60")
    assert dbp("train", small, *longer, "--out", tmp_path / "whole").code == 0
    rng = random.Random(int(os.environ.get("DBP_TEST_SEED", "0")))
    command = [sys.executable, *DBP, "train", str(small), *longer, "--set", "checkpoint.every_steps=7"]
    killed, patience = 0, 1.0
    for _ in range(12):
        with ProcessTree(launcher(), "-n", 3, *command, env=os.environ | LAUNCHER_SETTINGS) as job:
            time.sleep(patience * rng.uniform(0.4, 1.0))
            ranks = job.ranks()
            for pid in rng.sample(ranks, rng.choice([1, len(ranks)])) if ranks else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            job.wait(20)
        if not list(tmp_path.glob("run/checkpoints/step-*.h5")):  # a machine that starts jobs slowly
            patience *= 1.4
    assert killed >= 12  # several at once in some jobs, none in one that had just ended
    outcome = mpirun(3, *command[1:])
    assert outcome.code == 0, outcome.text
    assert "resumed from" in outcome.out
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.partial"))
