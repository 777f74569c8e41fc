"""Memory that processes share: the same bytes for all, in huge pages or not."""

import os

import numpy as np
import pytest

from dbp.parallel.shared import HUGE, File


@pytest.mark.parametrize("length", [1, 5000, HUGE, 3 * HUGE + 5000])
def test_all_who_map_a_file_see_the_same_bytes_in_huge_pages_too(length):
    name = f"dbp-test-{os.getpid()}-{length}"
    one, other = File(name, length), File(name, length)
    try:
        assert not one.create()
        assert not one.map()
        assert not other.map()
    finally:
        one.forget()
    pattern = np.arange(length).astype(np.uint8)
    assert len(one.memory.bytes) == len(other.memory.bytes) == length
    one.memory.bytes[:] = pattern
    for rank in range(2):
        one.memory.use_huge_pages(0, length, 2, rank)
    np.testing.assert_array_equal(other.memory.bytes, pattern)
    other.memory.bytes[-1] = 7
    other.memory.use_huge_pages(min(100, length), length, 1, 0)
    pattern[-1] = 7
    np.testing.assert_array_equal(one.memory.bytes, pattern)
    kept = one.memory.bytes[-1:]
    one.memory.free()
    assert not len(one.memory.bytes)
    assert kept[0] == 7  # as long as somebody refers to it


def test_a_file_of_that_name_is_not_taken_over():
    name = f"dbp-test-{os.getpid()}"
    one = File(name, 100)
    try:
        assert not one.create()
        assert "takes no file" in File(name, 100).create()
    finally:
        one.forget()
    assert "does not show" in one.map()
