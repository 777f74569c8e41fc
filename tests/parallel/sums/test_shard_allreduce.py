"""Sums in the middle of passes: right values for any shards, no hang at errors, and refusal of unlike passes."""

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.parallel import OneProcess, ShardAllreduce, Shards, Stage
from tests.jobs import PROGRAMS, mpirun, slow


@pytest.fixture
def allreduce_of():
    made = []

    def make(count):
        made.append(ShardAllreduce(OneProcess(), Shards(count)))
        return made[-1]

    yield make
    for allreduce in made:
        allreduce.free()


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_sums_of_several_lengths_in_one_pass(count, allreduce_of):
    """Let every second shard use no sum, and so add zeros; types and shapes are kept."""
    allreduce, order = allreduce_of(count), []
    members = range(0, count, 2)

    def compute(number):
        if number not in members:
            return "absent"
        first = allreduce.sum(np.full((2, 3), number + 1.0, np.float32), "first")
        order.append(number)
        second = allreduce.sum(np.array(10.0**number), "second")
        return first, second

    for _ in range(3):
        results = list(allreduce.run(compute))
        assert [number for number, _ in results] == list(range(count))
        for number, result in results:
            if number in members:
                np.testing.assert_array_equal(result[0], np.full((2, 3), sum(n + 1 for n in members), np.float32))
                assert result[0].dtype == np.float32
                assert result[1] == sum(10.0**n for n in members)
            else:
                assert result == "absent"
    assert sorted(order[: len(members)]) == list(members)


def test_every_shard_keeps_its_stage_of_the_clock(allreduce_of):
    allreduce = allreduce_of(3)
    clock = allreduce._comm.clock

    def compute(number):
        stage = (Stage.FORWARD, Stage.BACKWARD, Stage.PRODUCTS)[number]
        clock.enter(stage)
        allreduce.sum(np.ones(2), "sum")
        return clock.current == stage

    assert list(allreduce.run(compute)) == [(0, True), (1, True), (2, True)]


@pytest.mark.parametrize("failing", range(3))
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
def test_an_error_of_one_shard_ends_all(failing, error, allreduce_of):
    """Check that no shard goes on, not even past `except Exception`, and that the next pass is unharmed."""
    allreduce, after = allreduce_of(3), []

    def compute(number):
        allreduce.sum(np.ones(2), "first")
        if number == failing:
            raise error("of one shard")
        try:
            allreduce.sum(np.ones(2), "second")
        except Exception:
            after.append(number)
        after.append(number)

    with pytest.raises(error, match="of one shard"):
        list(allreduce.run(compute))
    assert after == []
    assert [float(r) for _, r in allreduce.run(lambda number: allreduce.sum(np.array(1.0), "sum"))] == [3.0] * 3


@pytest.mark.parametrize(
    "sums",
    [[("a", 1), ("a", 2)], [("a", 1), ("b", 1)], [("a", 1), None, ("a", 1)]],
    ids=["lengths", "labels", "ends"],
)
def test_unlike_passes_are_refused(sums, allreduce_of):
    """Refuse sums of other lengths or labels, and an end after a common sum."""
    allreduce = allreduce_of(2)

    def compute(number):
        if None in sums:
            allreduce.sum(np.ones(1), "together")
            if number:
                return
        label, length = sums[number]
        allreduce.sum(np.ones(length), label)

    with pytest.raises(UserError, match=r'the same layers with statistics = "batch", in the same order') as caught:
        list(allreduce.run(compute))
    assert caught.value.on_all_ranks


@pytest.mark.parametrize("ranks", [2, *slow(3, 5)])
def test_sums_over_ranks_have_the_bits_of_one(ranks):
    """tests/programs/shard_sums.py sums numbers whose order of addition matters, with idle ranks and unlike passes."""
    outcome = mpirun(ranks, PROGRAMS / "shard_sums.py")
    assert outcome.code == 0, outcome.text
    alone = mpirun(1, PROGRAMS / "shard_sums.py")
    assert outcome.out == alone.out
    assert len(outcome.out.splitlines()) == 9
