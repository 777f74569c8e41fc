"""What ranks note for each other, and what is said of ranks that do not come to the start of MPI."""

import os

import pytest

from dbp.process import rank_note
from dbp.process.rank_note import LEFT, OUTSIDE, WAITING, RankActivity, RankNote, activities, report_start, waiting_text


def test_what_is_seen_of_ranks_reads_well():
    seen = [
        RankActivity(0, WAITING, 61.0, 0.4),
        RankActivity(1, "backward, step 12", 75.2, 0.3),
        RankActivity(2, "backward, step 12", 3.0, 80.0),
        RankActivity(3, LEFT, 1.0),
    ]
    assert str(seen[1]) == "rank 1 has been in backward, step 12 for 75 s"
    assert str(seen[2]) == "rank 2 has not responded for 80 s (in backward, step 12)"
    assert str(seen[3]) == "rank 3 has come to the end of its program"
    assert waiting_text(seen) == "rank 0 waits"


def test_the_note_of_a_rank_is_found_until_it_has_left(monkeypatch):
    monkeypatch.setenv("PMIX_NAMESPACE", "a job of this test")
    monkeypatch.setenv(rank_note.OWNER, "")
    note = RankNote()
    note.write(3, "forward, step 1", 2.0, renewed=True)
    (found,) = activities("dbp a job of this test").values()
    assert (found.rank, found.state, round(found.seconds), round(found.silent)) == (3, "forward, step 1", 2, 0)
    assert not rank_note.has_note_of_parent(3)  # it is this process that has it
    note.write(2, OUTSIDE)  # as ranks get new numbers when others have died
    note.leave()
    note.write(2, WAITING)
    assert {rank: one.state for rank, one in activities("dbp a job of this test").items()} == {2: LEFT}


def test_a_forked_process_leaves_the_note_of_its_parent_alone(monkeypatch):
    monkeypatch.setenv("PMIX_NAMESPACE", "another job of this test")
    monkeypatch.setenv(rank_note.OWNER, "")
    note = RankNote()
    note.write(0, OUTSIDE)
    child = os.getpid() + 1
    monkeypatch.setattr("os.getpid", lambda: child)
    note.leave()
    assert [one.state for one in activities("dbp another job of this test").values()] == [OUTSIDE]


@pytest.mark.parametrize(
    ("rank", "size", "here", "found", "said"),
    [
        (
            0,
            3,
            3,
            {0: WAITING, 1: WAITING, 2: OUTSIDE},
            "ranks 0, 1 wait for 5 s for the start of MPI, as rank 2 has",
        ),
        (1, 3, 3, {0: WAITING, 1: WAITING, 2: OUTSIDE}, ""),  # rank 0 says it
        (
            1,
            3,
            3,
            {1: WAITING},
            "for the start of MPI, as nothing is known of ranks 0, 2, which may have ended, may not import dbp, or may",
        ),
        (0, 3, 3, {0: WAITING, 2: OUTSIDE}, "been in work outside of dbp.fit for 5 s; rank 1 has ended, or not impor"),
        (0, 4, 2, {0: WAITING, 1: WAITING}, "as ranks of other nodes have not come to it"),
        (2, 6, 2, {2: WAITING, 3: WAITING}, ""),  # the nodes of the first and the last rank say it
        (0, 2, 2, {}, "rank 0 waits for 5 s for the start of MPI, as nothing is known of rank 1, which may have ended"),
    ],
)
def test_who_has_not_come_to_the_start_of_mpi_is_said_once(monkeypatch, capsys, rank, size, here, found, said):
    found = {number: RankActivity(number, state, 5.0) for number, state in found.items()}
    monkeypatch.setattr(rank_note, "activities", lambda title: found)
    report_start("dbp job", rank, size, here, 5.0, ends=False)
    printed = capsys.readouterr().err
    assert said in printed
    assert bool(said) == bool(printed)
