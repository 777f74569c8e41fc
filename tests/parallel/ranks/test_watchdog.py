"""Ranks that do not agree, weights that differ, ranks that do not arrive: named, and the job ends or goes on."""

import os
import time

import pytest

from dbp.parallel import OneProcess, Stage, StageClock, differences
from dbp.parallel.ranks.clock import QUICK_POLLS
from dbp.parallel.ranks.watchdog import RankActivity, waiting_text
from tests.jobs import mpirun

SCRIPT = """
import ctypes, os, sys, time
import numpy as np
import dbp
from dbp.parallel import world

comm, way, here = world(), sys.argv[1], []
if way == "version" and comm.rank == 1:
    dbp.version.VERSION = "0.0.9"
rows = 90 if way == "data" and comm.rank == 1 else 100
x = np.random.default_rng(comm.rank == 1 and way == "values").standard_normal((rows, 30))
units = 401 if way == "shape" and comm.rank == 1 else 400

def model(scope, x):
    here.append(0)
    h = dbp.nn.Dense(units, "relu")(scope.inside("hidden"), x)
    if comm.rank == 1 and scope.training and len(here) > 20:
        if way == "flip":
            w = scope.inside("hidden").parameter("weight", (30, units), "zeros")
            w = getattr(w, "value", w)
            ctypes.c_ubyte.from_address(w.ctypes.data + 4000).value ^= 1
        if way == "slow":
            time.sleep(5)
        if way == "stop":
            os.kill(os.getpid(), 19)
    return dbp.nn.Dense(2)(scope.inside("last"), h)

dbp.fit(model=model, loss="mean_squared_error", data=(x, x[:, :2]),
        optimizer=dbp.optim.SGD(0.02 if way == "setting" and comm.rank == 1 else 0.01),
        epochs=12, batch_size=20, shards=3, out=sys.argv[2], checkpoint=dbp.Checkpoint(every_epochs=20),
        watch=dbp.Watch(compare_every_steps=5, warn_after=float(sys.argv[3]), end_after=float(sys.argv[4])))
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the script on three ranks, of which rank 1 behaves as asked."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def start(way, sizes="", warn_after=0, end_after=0, **options):
        words = (script, way, tmp_path / "run", warn_after, end_after)
        return mpirun(3, *words, env={"DBP_NODE_SIZES": sizes}, timeout=40, **options)

    return start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("version", "dbp: 0.1.0 on ranks 0, 2 (HOST), 0.0.9 on rank 1 (HOST); start the same installation"),
        ("setting", "optimizer.learning_rate: 0.01 on ranks 0, 2 (HOST), 0.02 on rank 1 (HOST); give all ranks the"),
        ("data", "train data: 100 examples "),
        ("values", "train data: 100 examples "),
        ("shape", "parameter hidden/weight: (30, 400) on ranks 0, 2 (HOST), (30, 401) on rank 1 (HOST)"),
    ],
)
def test_ranks_that_do_not_agree_are_named_before_the_first_step(start, tmp_path, way, message):
    outcome = start(way)
    assert outcome.code == 2, outcome.text
    assert outcome.err.count("dbp: error: ranks do not agree on ") == 1
    assert message.replace("HOST", os.uname().nodename) in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_flipped_bit_of_one_node_is_found_and_never_saved(start, tmp_path):
    outcome = start("flip", sizes="1,1,1")
    assert outcome.code == 70, outcome.text
    assert "weights of some nodes differ from those of the others: those of rank 1 on " in outcome.err
    assert " in hidden/weight" in outcome.err
    assert outcome.err.count("dbp: error: ") == 1
    assert not list((tmp_path / "run").glob("checkpoints/*.h5"))


@pytest.mark.slow
def test_nodes_that_are_alike_go_on(start, tmp_path):
    outcome = start("nothing", sizes="2,1")
    assert outcome.code == 0, outcome.text
    assert len(list((tmp_path / "run").glob("checkpoints/*.h5"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["", "1,2", "1,1,1"])
def test_a_slow_rank_is_named_with_what_it_does_and_left_alone(start, sizes):
    """Rank 1 sleeps in every forward pass; the test ends the job."""
    outcome = start("slow", sizes=sizes, warn_after=1, end_after=2.5)
    assert outcome.code != 0
    assert "rank 1" in outcome.err
    assert "warning: on " in outcome.err
    assert "forward, step " in outcome.err or "waits for " in outcome.err
    assert outcome.err.count("all ranks end, as watch.end_after is 2.5 s") >= 1


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["", "1,2"])
def test_a_stopped_rank_ends_the_job_at_the_limit(start, sizes):
    began = time.monotonic()
    outcome = start("stop", sizes=sizes, warn_after=1, end_after=8)
    assert time.monotonic() - began < 35
    assert outcome.code != 0
    assert "rank 1 has not been heard of for " in outcome.err


def test_facts_that_are_equal_are_not_reported():
    assert differences(OneProcess(), {"a": 1}) == []


def test_a_clock_adds_up_stages():
    clock = StageClock()
    before = clock.enter(Stage.BACKWARD)
    time.sleep(0.02)
    assert clock.enter(before) == Stage.BACKWARD
    assert 0.02 <= clock.seconds[Stage.BACKWARD] < 1
    polls = iter([*[False] * (QUICK_POLLS + 2), True])
    clock.wait_until(lambda: next(polls), lambda: [3])
    assert clock.seconds[Stage.WAITING] > 0
    assert clock.missing() == []
    assert len(clock.seconds) == len(Stage)


def test_what_is_seen_of_ranks_reads_well():
    seen = [
        RankActivity(0, Stage.WAITING, 61.0, 11, 0.4),
        RankActivity(1, Stage.BACKWARD, 75.2, 11, 0.3),
        RankActivity(2, Stage.BACKWARD, 3.0, 11, 80.0),
    ]
    assert str(seen[1]) == "rank 1 has been in backward, step 12 for 75 s"
    assert str(seen[2]) == "rank 2 has not been heard of for 80 s (in backward, step 12)"
    assert waiting_text(seen) == "rank 0 waits"
