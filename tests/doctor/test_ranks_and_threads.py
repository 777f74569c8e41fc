"""The step of a config timed on ranks of several threads: which ways are tried, what is said, and real jobs."""

import json

import pytest

from dbp.doctor import ranks_and_threads
from dbp.doctor.findings import GOOD, WARNING
from dbp.doctor.ranks_and_threads import Timed, divisions
from tests.jobs import dbp, mpirun


@pytest.mark.parametrize(
    ("cores", "shards", "expected"),
    [
        (1, 1, [(1, 1)]),
        (2, 2, [(2, 1), (1, 2)]),
        (8, 8, [(8, 1), (4, 2), (2, 4), (1, 8)]),
        (8, 4, [(4, 1), (4, 2), (2, 4), (1, 8)]),
        (6, 6, [(6, 1), (3, 2), (1, 4)]),
    ],
)
def test_ways_to_divide_the_cores(cores, shards, expected):
    assert divisions(cores, shards) == expected
    assert all(1 <= ranks <= shards and ranks * threads <= cores for ranks, threads in expected)


def said(monkeypatch, *timed):
    """Return the findings for these times, and the facts."""
    results = {}
    monkeypatch.setattr(ranks_and_threads, "_timed", lambda *_: iter(timed))
    monkeypatch.setattr(ranks_and_threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(ranks_and_threads, "read_settings", lambda *_: type("Some", (), {"shards": None}))
    found = ranks_and_threads.step_findings("a.toml", (), results)
    return {finding.check: finding for finding in found}, results


def test_fewer_ranks_are_advised_where_they_are_faster(monkeypatch):
    found, results = said(
        monkeypatch, Timed(2, 1, [0.031, 0.030, 0.029], "a"), Timed(1, 2, [0.020, 0.019, 0.028], "b", 0.1)
    )
    assert found["ranks"].state == WARNING
    assert found["ranks"].found == "1 rank of 2 threads: 1.50 times as fast as 2 ranks of 1 thread"
    assert found["ranks"].remedy == "start dbp run -n 1 --threads 2 -- train a.toml --set threads=2 --set shards=2"
    assert "differ with 2 threads" in found["bits"].found
    assert results["shards"] == 2
    assert results["steps"][1] == {
        "ranks": 1,
        "threads": 2,
        "seconds": 0.020,
        "repeats": [0.020, 0.019, 0.028],
        "digest": "b",
        "busy": 0.1,
    }


def test_nothing_is_advised_where_repetitions_differ_more_than_the_ways(monkeypatch):
    found, _ = said(monkeypatch, Timed(2, 1, [0.030, 0.032, 0.031], "a"), Timed(1, 2, [0.020, 0.019, 0.030], "b"))
    assert found["ranks"].state == WARNING
    assert found["ranks"].found == (
        "no recommendation: 1 rank of 2 threads was 1.55 times as fast as 2 ranks of 1 thread, but repetitions of one "
        "way differ by 58%"
    )
    assert found["ranks"].remedy == "time the steps again on an idle machine"


def test_nothing_is_advised_while_other_programs_run(monkeypatch):
    found, _ = said(monkeypatch, Timed(2, 1, [0.030], "a", 0.3), Timed(1, 2, [0.010], "b", 0.0))
    assert found["ranks"].state == WARNING
    assert found["ranks"].found == "no recommendation: other programs kept 0.3 of 2 cores busy meanwhile"
    assert found["ranks"].remedy == "time the steps again when these programs have ended"


def test_a_rank_a_core_is_kept_where_nothing_is_clearly_faster(monkeypatch):
    found, _ = said(monkeypatch, Timed(2, 1, [0.030], "a"), Timed(1, 2, [0.0295], "a"))
    assert {finding.state for finding in found.values()} == {GOOD}
    assert "are the same" in found["bits"].found


def test_it_starts_ranks_itself(small):
    outcome = mpirun(2, "-m", "dbp", "doctor", str(small))
    assert outcome.code != 0
    assert "dbp doctor CONFIG starts ranks itself" in outcome.err


@pytest.mark.slow
def test_a_config_is_timed_in_real_jobs(small):
    outcome = dbp("doctor", str(small), "--json", "--set", "shards=2")
    assert outcome.code == 0, outcome.text
    facts = json.loads(outcome.out)["facts"]
    assert facts["shards"] == 2
    assert facts["steps"][0]["threads"] == 1
    assert all(step["seconds"] > 0 and step["ranks"] <= 2 for step in facts["steps"])
    assert not list(small.parent.glob("run*"))  # nothing of these runs is left
