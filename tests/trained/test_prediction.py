"""How rows are cut into the blocks that ranks predict."""

import pytest

from dbp.trained.prediction import blocks_of


@pytest.mark.parametrize(
    ("rows", "most", "lengths"),
    [
        (0, 4, []),
        (1, 4, [1]),
        (4, 4, [4]),
        (3, 1, [1] * 3),  # no block is empty
        (5, 4, [1, 1, 1, 2]),
        (256, 40, [32] * 8),
        (256, 60, [32] * 8),
        (257, 32, [21, 21, 22, 21, 22, 21, 21, 22, 21, 22, 21, 22]),
        (1000, 512, [250] * 4),
    ],
)
def test_blocks_have_about_the_same_size_and_few_ranks_get_equally_many(rows, most, lengths):
    blocks = blocks_of(rows, most)
    assert [len(block) for block in blocks] == lengths
    assert [row for block in blocks for row in block] == [*range(rows)]
