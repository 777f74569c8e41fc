"""Checks of data: digests of all numbers, and bad numbers by row."""

import numpy as np
import pytest

from dbp.data import ArrayDataset, block_count, check_blocks, combined
from dbp.data.check import BLOCK_BYTES, sample_digest
from dbp.data.check import MAX_BLOCK_ROWS as BLOCK_ROWS
from dbp.errors import UserError

RNG = np.random.default_rng(0)


def check(data, blocks=None):
    return check_blocks(
        data, range(block_count(data)) if blocks is None else blocks, lambda targets, weights, first: None
    )


def test_every_number_and_its_place_count_for_the_digest():
    x = RNG.standard_normal((2 * BLOCK_ROWS + 3, 2))
    y = np.arange(len(x))
    base = combined(check(ArrayDataset(x, y)))
    parts = check(ArrayDataset(x, y), range(1)) + check(ArrayDataset(x, y), range(1, 3))
    assert combined(parts) == base
    moved = x.copy()
    moved[-1, -1] += 1
    others = [ArrayDataset(moved, y), ArrayDataset(x, y[::-1]), ArrayDataset(x, y, np.ones(len(x)))]
    others += [ArrayDataset(x, y, scale=2.0), ArrayDataset(x[:-1], y[:-1]), ArrayDataset(x.astype("f4"), y)]
    assert base not in {combined(check(other)) for other in others}


def test_bad_numbers_are_named_by_row():
    x = np.zeros((BLOCK_ROWS + 10, 2))
    x[BLOCK_ROWS + 4, 1] = -np.inf
    with pytest.raises(UserError, match=f"the arrays: inputs must be finite.*example {BLOCK_ROWS + 4} contain -inf"):
        check(ArrayDataset(x, x))
    w = np.ones(len(x))
    w[7] = -1
    with pytest.raises(UserError, match=r"weights must be finite and not negative.*example 7 is -1"):
        check(ArrayDataset(0 * np.nan_to_num(x), x, w))


class Watched(ArrayDataset):
    """A data set that remembers the most bytes that were read at once."""

    most = 0

    def read(self, rows):
        examples = super().read(rows)
        self.most = max(self.most, examples.inputs.nbytes)
        return examples


def test_large_rows_are_read_a_few_at_a_time():
    x = np.zeros((50, BLOCK_BYTES // 24), np.float64)
    data = Watched(x, np.zeros(50))
    whole = combined(check(data))
    assert BLOCK_BYTES / 2 < data.most <= BLOCK_BYTES
    assert combined(check(data, range(9)) + check(data, range(9, block_count(data)))) == whole
    sample_digest(data)
    assert data.most <= BLOCK_BYTES
    x = np.zeros((3, BLOCK_BYTES), np.int16)
    assert block_count(ArrayDataset(x, x)) == 3
