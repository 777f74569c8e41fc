"""The watchdog: ranks that do not arrive are named, and the job ends at the limit."""

import re

import pytest

from dbp.parallel.ranks.clock import Stage
from dbp.parallel.ranks.comm import OneProcess
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.watchdog import LEFT_SECONDS, Watchdog
from dbp.process.rank_note import LEFT, OUTSIDE, RankActivity
from tests.jobs import PROGRAMS, mpirun


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["", "1,1,1"])
def test_a_slow_rank_is_named_with_what_it_does_and_left_alone(start, sizes):
    """Rank 1 sleeps in every forward pass; the test ends the job."""
    outcome = start("slow", sizes=sizes, warn_after=1, end_after=5)
    assert outcome.code != 0
    assert "rank 1" in outcome.err
    assert "warning: on " in outcome.err
    assert "forward, step " in outcome.err or "waits for " in outcome.err
    assert outcome.err.count("all ranks end, as watch.end_after is 5 s") >= 1


@pytest.mark.slow
def test_a_stopped_rank_ends_the_job_at_the_limit(start):
    outcome = start("stop", sizes="1,2", warn_after=1, end_after=8)
    assert outcome.code != 0
    assert "rank 1 has not responded for " in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("leave", "rank 0 waits for [0-9]+ s, as rank 1 has come to the end of its program, and cannot arrive; all"),
        ("once", "rank 0 waits for [0-9]+ s, as rank 1 has come to the end of its program, and cannot arrive; all"),
        (
            "sleep",
            "rank 0 waits for [0-9]+ s, as rank 1 has been in work outside of dbp.fit for [0-9]+ s; all ranks end",
        ),
        ("before MPI", r"rank 0 waits for \d s for the start of MPI, as rank 1 has been in work outside of dbp.fit"),
        ("exit", r"rank 0 waits for \d s for the start of MPI, as nothing is known of rank 1, which may have ended"),
    ],
)
def test_ranks_that_do_not_come_to_a_collective_are_named_and_all_end(way, said):
    outcome = mpirun(2, PROGRAMS / "uneven_script.py", way)
    assert outcome.code == 1
    assert len(re.findall(f"dbp: error: on [^ ]+ {said}", outcome.err)) == 1, outcome.err
    assert "Traceback" not in outcome.err


def test_only_ranks_that_have_all_left_end_the_job_before_its_limit(monkeypatch):
    said, codes = [], []
    watchdog = Watchdog(0, codes.append, said.append)
    others = {1: RankActivity(1, LEFT, 3.0), 2: RankActivity(2, OUTSIDE, 3.0)}
    monkeypatch.setattr("dbp.parallel.ranks.watchdog.activities", lambda title: others)
    with watchdog.limits(1e-9, 1e9):
        watchdog._check()
        assert (codes, len(said)) == ([], 1)
        assert "rank 1 has come to the end of its program; rank 2 has been in work outside of dbp.fit" in said[0]
        watchdog._check()  # says it once
        del others[2]
        watchdog._warned = 0.0
        watchdog._check()
    assert (codes, len(said)) == ([1], 2)


def test_what_is_awaited_besides_ranks_is_named_by_the_first_rank_that_waits_for_it(monkeypatch):
    for rank, state, is_said in ((0, "data, step 1", True), (2, "data, step 1", False), (2, "forward, step 1", True)):
        said, codes = [], []
        watchdog = Watchdog(rank, codes.append, said.append)
        others = {1: RankActivity(1, state, 3.0)}
        monkeypatch.setattr("dbp.parallel.ranks.watchdog.activities", lambda title, others=others: others)
        watchdog._clock.enter(Stage.DATA)
        watchdog._clock.awaited = "data of a.h5"
        for end_after in (1e9, 1e-9):
            with watchdog.limits(1e-9, end_after, trains=True):
                watchdog._write_down()
                watchdog._check()
                watchdog._check()  # the warning comes once
        assert codes == ([1, 1] if is_said else [])
        assert len(said) == (3 if is_said else 0)
        assert all(re.match(f"[a-z: ]+ on [^ ]+ rank {rank} has waited for data of a.h5 for ", text) for text in said)


@pytest.mark.parametrize(
    ("nodes", "others", "ends"), [((2,), LEFT, True), ((2,), OUTSIDE, False), ((1, 1), LEFT, False)]
)
def test_ranks_that_have_left_end_the_job_at_once_where_all_are_seen(monkeypatch, nodes, others, ends):
    said, codes = [], []
    watchdog = Watchdog(0, codes.append, said.append)
    comm = OneProcess()
    comm.nodes, comm.abort = Nodes(nodes), codes.append
    watchdog.connect(comm)
    comm.clock.enter(Stage.WAITING)
    monkeypatch.setattr("dbp.parallel.ranks.watchdog.activities", lambda title: {1: RankActivity(1, others, 3.0)})
    watchdog._check()
    assert (said, codes) == ([], [])
    comm.clock.since -= LEFT_SECONDS
    watchdog._check()
    assert codes == [1] * ends
    assert ["and cannot arrive; all ranks end" in text for text in said] == [True] * ends
