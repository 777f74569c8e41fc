"""The division of a table's rows among ranks."""

import numpy as np
import pytest

from dbp.parallel import RowTable
from dbp.parallel.vectors.row_deal import MOST_CHUNKS, RowDeal


@pytest.mark.parametrize(("rows", "units"), [(1, 5), (700, 3), (5000, 1), (900, 3000), (4_000_000, 2)])
@pytest.mark.parametrize("ranks", [1, 2, 7])
@pytest.mark.parametrize("sparse", [True, False])
def test_every_row_is_updated_by_the_rank_that_owns_its_part(rows, units, ranks, sparse):
    table, owners = RowTable("e/weight", 100, rows, units, sparse), np.full(rows, -1)
    for rank in range(ranks):
        deal = RowDeal(table, ranks, rank)
        assert ranks == 1 or len(deal.parts) <= -(-deal.chunks // ranks) <= MOST_CHUNKS
        for part in deal.parts:
            assert (part.start - 100) % units == (part.stop - 100) % units == 0
            chunk = owners[(part.start - 100) // units : (part.stop - 100) // units]
            assert (chunk == -1).all()
            chunk[:] = rank
    assert (owners >= 0).all()
    numbers = np.unique(np.random.default_rng(0).integers(0, rows, 500))
    for rank in range(ranks):
        mine = RowDeal(table, ranks, rank).mine(numbers)
        np.testing.assert_array_equal(mine, owners[numbers] == rank)
