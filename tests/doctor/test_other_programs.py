"""The processors that other programs keep busy, from the counts of the system and the time of this process."""

import os

import pytest

from dbp.doctor import other_programs
from dbp.doctor.other_programs import OtherPrograms
from dbp.parallel import OneProcess

TICKS = os.sysconf("SC_CLK_TCK")


def counts(busy):
    """Return lines as of /proc/stat: half of the busy seconds by users, a quarter by the system, a quarter stolen."""
    half, quarter = int(busy * TICKS / 2), int(busy * TICKS / 4)
    return f"cpu7 {half} 0 {quarter} 900000 70000 0 0 {quarter} 0 0\ncpu8 50000 0 0 0 0 0 0 0 0 0\nintr 12 0\n"


@pytest.mark.parametrize(("busy", "own", "others"), [(8, 2, 1.5), (8, 8, 0.0), (4, 6, 0.0)])
def test_time_that_is_not_our_own_on_our_processors_is_that_of_others(busy, own, others, tmp_path, monkeypatch):
    clock = {"wall": 100.0, "own": 10.0}
    monkeypatch.setattr(other_programs, "STATISTICS", tmp_path / "stat")
    monkeypatch.setattr(other_programs.time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(other_programs.time, "process_time", lambda: clock["own"])
    (tmp_path / "stat").write_text(counts(20))
    found = OtherPrograms(OneProcess(), [7])
    (tmp_path / "stat").write_text(counts(20 + busy))
    clock.update(wall=104.0, own=10.0 + own)
    assert found.busy() == others


def test_a_system_that_does_not_say_it(tmp_path, monkeypatch):
    monkeypatch.setattr(other_programs, "STATISTICS", tmp_path / "none")
    assert OtherPrograms(OneProcess(), [0]).busy() is None
