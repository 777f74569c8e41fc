"""Timers of the C library: what they call may begin at the moment in which they are deleted."""

import ctypes
import gc

from dbp.parallel.ranks.deadline import LibraryTimer


def test_the_text_of_a_timer_outlives_it():
    timer = LibraryTimer(60.0, "system", b"a command of this test, longer than small objects are")
    address = timer._argument
    with timer:
        pass
    del timer
    gc.collect()
    assert ctypes.string_at(address) == b"a command of this test, longer than small objects are"
