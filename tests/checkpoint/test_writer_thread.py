"""The thread that writes checkpoints: its pauses, and that there are none once its result is awaited."""

import threading
import time

import pytest

from dbp.checkpoint import Writer
from dbp.checkpoint.writer_thread import LEAST_SECONDS, SHARE, share_after
from dbp.errors import StorageError


def busy(seconds):
    """Use so much processor time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Job:
    """A job of pieces, each of which takes some processor time."""

    def __init__(self, pieces, seconds):
        self.pieces, self.seconds, self.done, self.pace = pieces, seconds, 0, None
        self.ended = threading.Event()

    def __call__(self, pace):
        self.pace = pace
        for _ in range(self.pieces):
            busy(self.seconds)
            self.done += 1
            pace()
        self.ended.set()


def test_it_rests_for_most_of_the_time():
    writer, job = Writer(), Job(pieces=4, seconds=0.005)
    writer.start(job)
    assert job.ended.wait(60)
    assert job.pace.paused >= 4 * 0.005 * (1 / SHARE - 1)
    assert writer.wait() == (None, True)


def test_it_hurries_once_its_result_is_awaited(monkeypatch):
    monkeypatch.setattr("dbp.checkpoint.writer_thread.SHARE", 1e-5)  # a pause would be minutes long
    writer, job = Writer(), Job(pieces=20, seconds=0.005)
    writer.start(job)
    while job.done == 0:
        time.sleep(0.001)
    begun = time.monotonic()
    assert writer.wait() == (None, True)
    assert job.done == 20
    assert time.monotonic() - begun < 60


def test_it_hurries_when_the_process_ends(monkeypatch):
    monkeypatch.setattr("dbp.checkpoint.writer_thread.SHARE", 1e-5)
    writer, job = Writer(), Job(pieces=3, seconds=0.005)
    writer.start(job)
    writer.end(60)
    assert job.done == 3


def test_short_work_is_done_without_pauses():
    writer, job = Writer(), Job(pieces=3, seconds=LEAST_SECONDS / 20)
    writer.start(job)
    assert job.ended.wait(60)
    assert job.pace.paused == 0
    writer.wait()


@pytest.mark.parametrize(
    ("share", "work", "available", "was_late", "expected"),
    [
        (SHARE, 0.1, 10, True, SHARE),
        (SHARE, 1, 10, True, 0.2),
        (SHARE, 9, 10, True, 1),
        (SHARE, 9, 0, True, 1),
        (SHARE, 1, 10, False, SHARE),  # it was done in time
        (0.5, 1, 5, False, 0.4),
        (0.5, 1, 1000, False, SHARE),
    ],
)
def test_the_next_job_is_done_in_time(share, work, available, was_late, expected):
    assert share_after(share, work, available, was_late) == pytest.approx(expected)


def test_a_job_that_was_late_makes_the_next_one_faster():
    writer, job = Writer(), Job(pieces=20, seconds=0.005)
    writer.start(job)
    writer.wait()
    assert writer._share > SHARE
    again = Job(pieces=1, seconds=0.001)
    writer.start(again)
    assert again.ended.wait(60)
    time.sleep(0.05)
    writer.wait()
    assert writer._share == pytest.approx(SHARE, abs=0.1)


def test_a_failure_is_kept_until_it_is_asked_for():
    def fails(_):
        raise StorageError("full")

    writer = Writer()
    writer.start(fails)
    failure, begun = writer.wait()
    assert (str(failure), begun) == ("full", True)
    assert writer.wait() == (None, False)
