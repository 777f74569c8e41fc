"""How rows are cut into the blocks that ranks predict."""

import pytest

from dbp.trained.prediction import blocks_of


@pytest.mark.parametrize(
    ("rows", "most", "lengths"),
    [
        (0, 4, []),
        (1, 4, [1]),
        (4, 4, [4]),
        (5, 4, [1] * 5),  # no block is empty
        (256, 40, [32] * 8),
        (257, 32, [16] * 15 + [17]),
        (1000, 512, [125] * 8),
    ],
)
def test_blocks_have_about_the_same_size_and_few_ranks_get_equally_many(rows, most, lengths):
    blocks = blocks_of(rows, most)
    assert [len(block) for block in blocks] == lengths
    assert [row for block in blocks for row in block] == [*range(rows)]
