"""Shards, their tree, and the reduction: closed forms and equal bits for any number of ranks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import UserError
from dbp.parallel import (
    Arena,
    Layout,
    OneProcess,
    Reduction,
    Shards,
    Sums,
    TreeSum,
    agree,
    from_rank_0,
    keep_freed_memory,
    must_fit,
    parts,
    reduction_for,
)
from dbp.parallel.deal import Deal, Nodes, shares
from dbp.parallel.reduce import Division
from dbp.parallel.tree import Adder, additions, subtrees
from dbp.parallel.wire import Wire
from tests.jobs import PROGRAMS, mpirun


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


def leaf(value):
    sums = Sums(3, np.float32, 2)
    sums.vector[:], sums.scalars[:] = value, value
    return sums


def recursive(values):
    """The tree as it is defined: split at the largest power of two below the length."""
    if len(values) == 1:
        return np.float32(values[0])
    half = 1 << (len(values) - 1).bit_length() - 1
    return recursive(values[:half]) + recursive(values[half:])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=33), st.data())
def test_tree_sums_have_the_same_bits_however_ranks_share_the_leaves(values, data):
    borders = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=5)))
    runs = [range(a, b) for a, b in zip([0, *borders], [*borders, len(values)], strict=True)]
    whole = TreeSum()
    for run in runs:
        local = TreeSum()
        for number in run:
            local.push(0, number, leaf(values[number]))
        assert [node[:2] for node in local.nodes] == subtrees(run)
        for node in local.nodes:
            whole.push(*node)
    np.testing.assert_array_equal(whole.total().vector, recursive(values))


def test_buffers_are_used_again():
    reduction = Reduction(OneProcess(), Shards(8), 5, np.float32, 1)
    for _ in range(3):
        tree = reduction.start()
        for number in range(8):
            sums = reduction.buffer()
            sums.bytes[:] = 0
            sums.vector[:] = number
            tree.push(0, number, sums)
        np.testing.assert_array_equal(reduction.total(tree).vector, 28)
    assert len(reduction._free) <= 4  # one more than the tree's levels


@given(st.integers(1, 60), st.integers(1, 9))
def test_additions_leave_the_parts_as_they_are(count, ranks):
    """Numbers in place of vectors: what comes into the place behind the parts is the sum of all."""
    nodes = [node for rank in range(ranks) for node in subtrees(parts(count, ranks, rank))]
    values = [np.array([float(number)]) for number in range(1, len(nodes) + 1)]
    plan = additions(nodes)
    assert all(target >= len(nodes) for _, _, target in plan.steps)
    (total,) = Adder(plan, values, [np.zeros(1)], {}).add()
    assert total == sum(range(1, len(nodes) + 1))
    assert [value.item() for value in values] == list(range(1, len(nodes) + 1))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 40))
def test_nodes_add_what_they_have_and_all_of_it_makes_the_tree(sizes, count):
    """First over runs of shards as nodes have them, whose last one comes apart, then over all nodes."""
    ends = [0, *np.cumsum(sizes)]
    ranks = max(ends[-1], 1)
    runs = [range(count * a // ranks, count * b // ranks) for a, b in pairwise(ends)] if ends[-1] else [range(count)]
    values, sums, left = np.random.default_rng(0).standard_normal(count).astype(np.float32), [], []
    for run in runs:
        nodes = subtrees(run, last_apart=True)
        of_nodes = [np.array([recursive(values[i << level : (i + 1) << level])]) for level, i in nodes]
        plan = additions(nodes, whole=False)
        sums += Adder(plan, of_nodes, [np.zeros(1, np.float32) for _ in plan.left], {}).add()
        left += plan.nodes
    (total,) = Adder(additions(left), sums, [np.zeros(1, np.float32)], {}).add()
    assert total == recursive(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 60_000), st.integers(3000, 20_000))
def test_a_deal_gives_every_element_one_owner_and_messages_fit(sizes, size, bucket):
    deals = [Deal(size, Nodes(tuple(sizes), rank), bucket) for rank in range(sum(sizes))]
    nodes = deals[0].nodes
    for divided in (False, True):
        counts = np.zeros((nodes.count, size), int)
        for deal in deals:
            for part in deal.updated(divided):
                counts[deal.nodes.mine, part] += 1
        assert ((counts.sum(axis=0) if divided else counts) == 1).all()
    for run in deals[0].buckets:
        for one in deals:
            for node in one.others:
                for message in one.outgoing(run, node):
                    back = [m for m in deals[message.rank].incoming(run, one.nodes.mine) if m.rank == one.nodes.rank]
                    assert [m.part for m in back] == [message.part]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
def test_shared_and_private_sums_by_closed_form(share, count):
    size = 40_000  # more than one piece
    reduction = reduction_for(Arena(OneProcess(), size, np.float32, share=share), Shards(count), 2)
    assert isinstance(reduction, Reduction) != share
    for step in range(1, 4):
        tree = reduction.start()
        for number in range(count):
            sums = reduction.buffer()
            sums.vector[:], sums.scalars[:] = step * number, (2, number)
            tree.push(0, number, sums)
        total = reduction.total(tree, divisor=0)
        np.testing.assert_array_equal(total.vector, np.float32(step * count * (count - 1) / 2) / np.float32(2 * count))
        assert total.scalars.tolist() == [2 * count, count * (count - 1) / 2]
        assert total.finite
    reduction.free()


@settings(deadline=None)
@given(st.just(0.0) | st.floats(1e-6, 1e30), st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_a_division_has_the_bits_of_a_division_and_sees_every_element(by, values):
    for divisor in (by, 2.0 ** round(np.log2(by + 1))):
        source, target = np.array(values, np.float32), np.empty(len(values), np.float32)
        with np.errstate(all="ignore"):
            expected = source / np.float32(divisor or 1)
            finite = Division(np.array([divisor]), 0, target.dtype)(source, target)
        np.testing.assert_array_equal(target, expected)
        assert finite == np.isfinite(expected).all()


def test_freed_memory_can_be_kept_or_the_system_has_no_glibc():
    assert keep_freed_memory() in (True, False)


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_messages_of_16_bits_are_rounded_to_the_nearest(values):
    numbers = np.array(values, np.float32)
    for form, bits, most in (("bfloat16", 8, 3.38e38), ("float16", 11, 65503.0)):
        sent, pack = Wire(form).outgoing(numbers, slice(None))
        received = np.empty_like(numbers)
        message, unpack = Wire(form).incoming(received, slice(None))
        pack()
        assert sent.nbytes == 2 * len(values)
        message[:] = sent
        unpack()
        np.testing.assert_array_equal(np.isnan(received), np.isnan(numbers))
        usual = (np.abs(numbers) < most) & (np.abs(numbers) > 1e-4)
        assert (np.abs(received[usual] - numbers[usual]) <= np.abs(numbers[usual]) * 2.0**-bits).all()
        alike = numbers.copy()
        sent_to_all, action = Wire(form).finished(alike, slice(None))
        action()
        np.testing.assert_array_equal(sent_to_all, sent)
        np.testing.assert_array_equal(alike, received)
    full, _ = Wire("full").outgoing(numbers, slice(None))
    assert np.shares_memory(full, numbers)


def test_a_run_that_cannot_fit_in_memory_is_refused():
    must_fit(OneProcess(), once=1 << 20, each=1 << 20)
    with pytest.raises(
        UserError, match=r"do not fit in memory: .* MB, but needs 1,152,921,504,607; take more nodes"
    ) as caught:
        must_fit(OneProcess(), once=1 << 59, each=1 << 59)
    assert caught.value.on_all_ranks


def test_sums_keep_float64_beside_float32():
    sums = leaf(0)
    sums.scalars[0] = 1 + 2.0**-40
    sums += leaf(1)
    assert sums.scalars[0] == 2 + 2.0**-40
    assert sums.vector.dtype == np.float32


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 9))
def test_work_is_shared_out_once_and_nearly_evenly(lengths, count):
    found = shares(lengths, count)
    assert len(found) == count
    assert sorted(number for mine in found for number in mine) == list(range(len(lengths)))
    totals = [sum(lengths[number] for number in mine) for mine in found]
    assert max(totals) - min(totals) <= max(lengths, default=0)


def test_layout_names_slices_of_one_vector():
    layout = Layout({"a": (2, 3), "b": (), "c": (0, 4)})
    vector = layout.flatten({"a": np.arange(6).reshape(2, 3), "b": np.array(7), "c": np.zeros((0, 4))}, np.float32)
    np.testing.assert_array_equal(vector, [0, 1, 2, 3, 4, 5, 7])
    views = layout.views(vector)
    assert views["a"].base is not None
    assert views["c"].shape == (0, 4)
    with pytest.raises(ValueError, match="read-only"):
        views["a"][0, 0] = 1


def test_one_process_agrees_with_itself():
    def fail():
        raise UserError("wrong")

    for way in (agree, from_rank_0):
        assert way(OneProcess(), lambda x: x + 1, 2) == 3
        with pytest.raises(UserError, match="wrong") as caught:
            way(OneProcess(), fail)
        assert caught.value.on_all_ranks


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_reduction_over_ranks(ranks):
    """Closed forms in tests/programs/reduction.py; the digests printed must not depend on the ranks."""
    outcome = mpirun(ranks, PROGRAMS / "reduction.py")
    assert outcome.code == 0, outcome.text
    alone = mpirun(1, PROGRAMS / "reduction.py")
    assert outcome.out == alone.out
    assert len(outcome.out.splitlines()) == 6


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 7])
def test_shared_memory_gives_the_bits_of_private_memory(ranks):
    outcome = mpirun(ranks, PROGRAMS / "arena.py")
    assert (outcome.code, outcome.text) == (0, "as in private memory\n")


@pytest.mark.parametrize("sizes", ["1,1", "2,1", "1,3", "2,2,1"])
def test_several_nodes_give_the_bits_of_one(sizes):
    ranks = sum(map(int, sizes.split(",")))
    outcome = mpirun(ranks, PROGRAMS / "arena.py", env={"DBP_NODE_SIZES": sizes})
    assert (outcome.code, outcome.text) == (0, "as in private memory\n")


@pytest.mark.parametrize("sizes", ["", "2,1"])
def test_shared_memory_with_mpich_too(mpich_python, sizes):
    outcome = mpirun(3, PROGRAMS / "arena.py", python=mpich_python, env={"DBP_NODE_SIZES": sizes})
    assert (outcome.code, outcome.text) == (0, "as in private memory\n")
