"""Ranks that leave before MPI starts, and what the others learn of them."""

import os

import pytest

from dbp.errors import UserError
from dbp.parallel.ranks import start_watch
from dbp.process import left_ranks as module
from dbp.process.left_ranks import LEFT_RANKS, LeftRanks, leave_before_mpi, left_ranks
from dbp.process.rank_note import OWNER, WAITING, RankNote


@pytest.fixture(autouse=True)
def left(monkeypatch, request):
    """Return the note of dbp run, for which this process is rank 2 of 3."""
    names = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2", "PMIX_NAMESPACE": request.node.name, OWNER: ""}
    found = LeftRanks()
    monkeypatch.setattr(start_watch, "rank_note", RankNote())
    for name, value in (names | found.variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "process_of_launcher", os.getppid)
    return found


def test_a_rank_that_leaves_is_seen_by_those_that_come_later():
    assert left_ranks() == []
    assert leave_before_mpi() == ""
    assert left_ranks() == [2]
    message = "MPI cannot start, as rank 2 has come to the end of the program before it; all ranks must start it"
    with pytest.raises(UserError, match=message), start_watch.watch_start(0, 0):
        pass


def test_a_rank_that_leaves_learns_who_waits_for_it():
    waiting = RankNote()
    waiting.write(0, WAITING)
    assert leave_before_mpi() == "rank 0 waits"


def test_the_first_of_two_programs_in_a_script_of_the_shell_does_not_count(monkeypatch):
    monkeypatch.setattr(module, "process_of_launcher", lambda: os.getppid() + 1)
    assert leave_before_mpi() == ""
    assert left_ranks() == []


def test_the_note_of_another_job_is_not_marked(left, monkeypatch):
    path = os.environ[LEFT_RANKS].partition(" ")[0]
    monkeypatch.setenv(LEFT_RANKS, f"{path} dbp left of another job")
    assert leave_before_mpi() == ""
    monkeypatch.setenv(LEFT_RANKS, f"{path} {left._note.title}")
    assert left_ranks() == []
