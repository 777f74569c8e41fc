"""The clock of a rank: the stage that it is in, and the seconds in each stage."""

import time

from dbp.parallel import Stage, StageClock
from dbp.parallel.ranks.clock import QUICK_POLLS


def test_a_clock_adds_up_stages():
    clock = StageClock()
    before = clock.enter(Stage.BACKWARD)
    time.sleep(0.02)
    assert clock.enter(before) == Stage.BACKWARD
    assert 0.02 <= clock.seconds[Stage.BACKWARD] < 60
    polls = iter([*[False] * (QUICK_POLLS + 2), True])
    clock.wait_until(lambda: next(polls), lambda: [3])
    assert clock.seconds[Stage.WAITING] > 0
    assert clock.missing() == []
    assert len(clock.seconds) == len(Stage)


def test_a_wait_looks_at_other_ranks_unless_it_has_a_check_of_its_own(monkeypatch):
    monkeypatch.setattr("dbp.parallel.ranks.clock.CHECK_SECONDS", -1.0)
    clock, checks = StageClock(), []
    clock.check = lambda: checks.append("the clock's")
    for check in (None, lambda: checks.append("its own")):
        polls = iter([*[False] * (QUICK_POLLS + 1), True])
        clock.wait_until(lambda polls=polls: next(polls), check=check)
    assert checks == ["the clock's", "its own"]
