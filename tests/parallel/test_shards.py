"""Shards, and the parts that they are cut into."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.errors import UserError
from dbp.parallel import Shards, parts


@given(st.integers(0, 200), st.integers(1, 20))
def test_parts_cover_everything_in_order_and_evenly(total, count):
    runs = [parts(total, count, i) for i in range(count)]
    assert [n for run in runs for n in run] == list(range(total))
    sizes = {len(run) for run in runs}
    assert max(sizes) - min(sizes) <= 1


def test_idle_ranks_are_named():
    shards = Shards(2, rank=1, ranks=4)
    assert shards.idle_ranks == [r for r in range(4) if not shards.of_rank(r)]
    assert len(shards.idle_ranks) == 2


def test_at_least_one_shard():
    with pytest.raises(UserError, match="shards must be at least 1, but is 0"):
        Shards(0)
