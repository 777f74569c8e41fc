"""The tree over shards: the same bits however ranks share its leaves."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.parallel import OneProcess, PlainSum, Shards, SumBuffer, TreeSum, parts
from dbp.parallel.sums.summation_tree import Adder, additions, branches_of, rounds


def leaf(value):
    sums = SumBuffer(3, np.float32, 2)
    sums.vector[:], sums.scalars[:] = value, value
    return sums


def recursive(values):
    """Sum along the tree by its definition: split at the largest power of two below the length."""
    if len(values) == 1:
        return np.float32(values[0])
    half = 1 << (len(values) - 1).bit_length() - 1
    return recursive(values[:half]) + recursive(values[half:])


@settings(max_examples=60)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=33), st.data())
def test_tree_sums_have_the_same_bits_however_ranks_share_the_leaves(values, data):
    borders = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=5)))
    spans = [range(a, b) for a, b in zip([0, *borders], [*borders, len(values)], strict=True)]
    whole = TreeSum()
    for span in spans:
        local = TreeSum()
        for number in span:
            local.push(0, number, leaf(values[number]))
        assert [branch[:2] for branch in local.branches] == branches_of(span)
        for branch in local.branches:
            whole.push(*branch)
    np.testing.assert_array_equal(whole.total().vector, recursive(values))


def test_buffers_are_used_again():
    vector_sum = PlainSum(OneProcess(), Shards(8), 5, np.float32, 1)
    for _ in range(3):
        tree = vector_sum.start()
        for number in range(8):
            sums = vector_sum.buffer()
            sums.bytes[:] = 0
            sums.vector[:] = number
            tree.push(0, number, sums)
        np.testing.assert_array_equal(vector_sum.total(tree).vector, 28)
    assert len(vector_sum._free) <= 4  # one more than the tree's levels


@given(st.integers(1, 60), st.integers(1, 9))
def test_additions_leave_the_parts_as_they_are(count, ranks):
    """Numbers stand for vectors; the slot behind the parts gets the sum of all."""
    branches = [branch for rank in range(ranks) for branch in branches_of(parts(count, ranks, rank))]
    values = [np.array([float(number)]) for number in range(1, len(branches) + 1)]
    plan = additions(branches)
    assert all(target >= len(branches) for _, _, target in plan.steps)
    (total,) = Adder(plan, values, [np.zeros(1)], {}).add()
    assert total == sum(range(1, len(branches) + 1))
    assert [value.item() for value in values] == list(range(1, len(branches) + 1))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 40))
def test_nodes_add_what_they_have_and_all_of_it_makes_the_tree(sizes, count):
    """Each node adds its span of shards, of which the last may come apart; then all nodes' results are added."""
    ends = [0, *np.cumsum(sizes)]
    ranks = max(ends[-1], 1)
    spans = [range(count * a // ranks, count * b // ranks) for a, b in pairwise(ends)] if ends[-1] else [range(count)]
    values, sums, left = np.random.default_rng(0).standard_normal(count).astype(np.float32), [], []
    for span in spans:
        branches = branches_of(span, keep_last_separate=True)
        of_branches = [np.array([recursive(values[i << level : (i + 1) << level])]) for level, i in branches]
        plan = additions(branches, to_root=False)
        sums += Adder(plan, of_branches, [np.zeros(1, np.float32) for _ in plan.remaining], {}).add()
        left += plan.branches
    (total,) = Adder(additions(left), sums, [np.zeros(1, np.float32)], {}).add()
    assert total == recursive(values)


def test_sums_keep_float64_beside_float32():
    sums = leaf(0)
    sums.scalars[0] = 1 + 2.0**-40
    sums += leaf(1)
    assert sums.scalars[0] == 2 + 2.0**-40
    assert sums.vector.dtype == np.float32


@given(st.integers(1, 60), st.integers(1, 9))
def test_rounds_add_the_parts_along_the_tree(count, ranks):
    branches = [branch for rank in range(ranks) for branch in branches_of(parts(count, ranks, rank))]
    values = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    found = np.array([recursive(values[index << level : (index + 1) << level]) for level, index in branches])
    for left, right in rounds(branches):
        found[left] += found[right]
    assert found[0] == recursive(values)
    assert len(rounds(branches)) <= 2 * count.bit_length()
