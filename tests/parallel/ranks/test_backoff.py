"""The pauses of a waiting rank, on a fake clock."""

import os
import time

import pytest

from dbp.parallel.ranks.backoff import (
    CONTESTED_SECONDS,
    HOLD_SECONDS,
    LONG_YIELD_SECONDS,
    LONGEST_NAP,
    LONGEST_SLEEP,
    SHORTEST_NAP,
    SPIN_SECONDS,
    SPIN_SECONDS_CROWDED,
    Backoff,
)


class Clock:
    """A clock on which a yield takes some seconds, and naps are counted."""

    def __init__(self):
        self.now, self.yield_seconds, self.naps = 100.0, 1e-6, []

    def read(self):
        self.now += 1e-7
        return self.now

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds

    def sched_yield(self):
        self.now += self.yield_seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.read)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(os, "sched_yield", clock.sched_yield)
    return clock


def wait(backoff, clock, seconds):
    """Wait for some seconds; return the naps, and the time until the first of them."""
    start, clock.naps, first = clock.now, [], None
    while clock.now - start < seconds:
        backoff.pause(start)
        if clock.naps and first is None:
            first = clock.now - clock.naps[0] - start
    return clock.naps, first


def test_a_rank_with_a_core_of_its_own_spins_for_long(clock):
    naps, first = wait(Backoff(), clock, 2 * SPIN_SECONDS)
    assert first == pytest.approx(SPIN_SECONDS, rel=1e-3)
    assert max(naps) == LONGEST_NAP


def test_a_rank_that_shares_its_core_soon_sleeps_in_growing_naps(clock):
    naps, first = wait(Backoff(crowded=True), clock, 0.1)
    assert first == pytest.approx(SPIN_SECONDS_CROWDED, rel=0.1)
    assert naps == sorted(naps)
    assert (naps[0], naps[-1]) == (SHORTEST_NAP, LONGEST_NAP)


def test_a_rank_whose_core_is_taken_sleeps_at_once(clock):
    backoff = Backoff()
    clock.yield_seconds = 2 * LONG_YIELD_SECONDS
    first = wait(backoff, clock, 0.01)[1]
    assert first == pytest.approx(HOLD_SECONDS + clock.yield_seconds, rel=0.1)
    assert wait(backoff, clock, 0.01)[1] == pytest.approx(0, abs=1e-5)
    clock.yield_seconds = 1e-6
    clock.now += CONTESTED_SECONDS
    assert wait(backoff, clock, SPIN_SECONDS / 2) == ([], None)


@pytest.mark.parametrize("crowded", [False, True])
def test_a_rank_that_can_be_woken_up_sleeps_until_then(clock, crowded):
    slept = []
    backoff, start = Backoff(crowded), clock.now
    while not slept:
        backoff.pause(start, slept.append)
    assert clock.now - start == pytest.approx(SPIN_SECONDS_CROWDED if crowded else SPIN_SECONDS, rel=0.1)
    assert slept == [LONGEST_SLEEP]
    assert clock.naps == []
