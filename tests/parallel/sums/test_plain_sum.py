"""Sums over ranks by closed form: the same bits for any number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.parallel import Arena, Layout, OneProcess, PlainSum, Shards, vector_sum_for
from dbp.parallel.sums.division import Division
from tests.jobs import PROGRAMS, mpirun, slow


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
def test_shared_and_private_sums_by_closed_form(share, count):
    size = 40_000  # more than one piece
    vector_sum = vector_sum_for(Arena(OneProcess(), Layout.flat(size), np.float32, share=share), Shards(count), 2)
    assert isinstance(vector_sum, PlainSum) != share
    for step in range(1, 4):
        tree = vector_sum.start()
        for number in range(count):
            sums = vector_sum.buffer()
            sums.vector[:], sums.scalars[:] = step * number, (2, number)
            tree.push(0, number, sums)
        total = vector_sum.total(tree, divisor=0)
        np.testing.assert_array_equal(total.vector, np.float32(step * count * (count - 1) / 2) / np.float32(2 * count))
        assert total.scalars.tolist() == [2 * count, count * (count - 1) / 2]
        assert total.finite
    vector_sum.free()


@given(st.just(0.0) | st.floats(1e-6, 1e30), st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_a_division_has_the_bits_of_a_division_and_sees_every_element(by, values):
    for divisor in (by, 2.0 ** round(np.log2(by + 1))):
        source, target = np.array(values, np.float32), np.empty(len(values), np.float32)
        with np.errstate(all="ignore"):
            expected = source / np.float32(divisor or 1)
            finite = Division(divisor, target.dtype)(source, target)
        np.testing.assert_array_equal(target, expected)
        assert finite == np.isfinite(expected).all()


@pytest.mark.parametrize("ranks", [2, *slow(1, 3, 5)])
def test_reduction_over_ranks(ranks):
    """tests/programs/sum_digests.py checks closed forms; the digests it prints must not depend on the ranks."""
    outcome = mpirun(ranks, PROGRAMS / "sum_digests.py")
    assert outcome.code == 0, outcome.text
    alone = mpirun(1, PROGRAMS / "sum_digests.py")
    assert outcome.out == alone.out
    assert len(outcome.out.splitlines()) == 6
