"""The thread that writes checkpoints: its pauses, and that there are none once its result is awaited."""

import threading
import time

import pytest

from dbp.checkpoint import Writer
from dbp.checkpoint.writer_thread import LEAST_SECONDS, SHARE
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
    ("work", "available", "share"), [(0.1, 10, SHARE), (1, 10, 0.2), (2.5, 10, 0.5), (9, 10, 1), (9, 0.001, 1)]
)
def test_it_is_done_before_the_next_is_due(work, available, share):
    writer = Writer()
    writer._work_seconds, writer._available_seconds = work, available
    assert writer._share() == pytest.approx(share)


def test_it_knows_how_long_the_last_job_took():
    writer, job = Writer(), Job(pieces=1, seconds=0.05)
    writer.start(job)
    writer.wait()
    assert 0.05 <= writer._work_seconds < 0.5
    assert writer._share() > SHARE  # as its result was awaited at once


def test_a_failure_is_kept_until_it_is_asked_for():
    def fails(_):
        raise StorageError("full")

    writer = Writer()
    writer.start(fails)
    failure, begun = writer.wait()
    assert (str(failure), begun) == ("full", True)
    assert writer.wait() == (None, False)
