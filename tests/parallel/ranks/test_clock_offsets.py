"""Clocks of ranks beside that of rank 0."""

import pytest

from dbp.parallel import OneProcess
from dbp.parallel.ranks.clock_offsets import gather_with_offsets, offset_in


def test_the_fastest_way_counts():
    assert offset_in([(3e-4, 5.1), (1e-4, 5.0), (2e-4, 4.9)]) == 5.0


@pytest.mark.parametrize(("offset", "expected"), [(4e-5, 0.0), (-4e-5, 0.0), (6e-5, 6e-5), (-3.0, -3.0)])
def test_an_offset_within_its_error_is_none(offset, expected):
    assert offset_in([(1e-4, offset)]) == expected


def test_one_process_has_its_own_clock():
    assert gather_with_offsets(OneProcess(), b"abc") == [(0.0, b"abc")]
