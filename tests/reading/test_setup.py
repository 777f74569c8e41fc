"""The setup of reading ahead: how memory is divided, and what the user is told of it."""

import re

import numpy as np
import pytest

from dbp.data import ArrayDataset
from dbp.parallel import Nodes, OneProcess
from dbp.reading import node_cache, setup
from dbp.reading.node_cache import Plan
from dbp.reading.order import ChunkOrder, Order
from dbp.reading.training_data import TrainingData

X = np.arange(400, dtype=np.float32).reshape(100, 4)
ROW_BYTES, UNIT_ROWS, ALL = 4 * 4 + 8, 10, 100 * (4 * 4 + 8)


class Units(ArrayDataset):
    """A data set in units of ten rows."""

    borders = np.arange(0, 101, UNIT_ROWS)

    def __init__(self):
        super().__init__(X, np.arange(100))


class Rank(OneProcess):
    """One of two ranks of a node that can share only so many bytes; the other one is in the same state."""

    def __init__(self, can_share):
        super().__init__()
        self.size, self.nodes, self._can_share = 2, Nodes((2,), 0), can_share
        self.node.allocate, self._allocate = self.allocate, self.node.allocate

    def allocate(self, length):
        self.node.refusal = "" if length <= self._can_share else "little memory is free"
        return None if self.node.refusal else self._allocate(length)


def in_windows(epoch):
    return ChunkOrder(Units.borders, 30, 0, epoch)


def in_rows(epoch):
    return Order(100, 0, "rows", epoch)


@pytest.fixture(autouse=True)
def _all_memory_is_for_rows(monkeypatch):
    monkeypatch.setattr(node_cache, "READER_BYTES", 0)


def test_what_threads_take_to_unpack_is_a_part_of_the_memory_but_never_much(monkeypatch):
    monkeypatch.setattr(node_cache, "READER_BYTES", 24)
    slots = [Plan.of(Units(), Units.borders, 800, ranks).slots for ranks in range(6)]
    assert slots == [3, 3, 3, 3, 3, 3]
    assert [Plan.of(Units(), Units.borders, 720, ranks).slots for ranks in (0, 1)] == [3, 2]
    assert Plan.of(Units(), Units.borders, 2000, 50).slots == 7
    assert Plan.of(Units(), Units.borders, ALL, 9).holds_all


def made(memory, orders=in_windows, comm=None):
    """Return training data, its cache, and the warnings."""
    reading = TrainingData.of(comm or OneProcess(), Units(), orders, 3, memory)
    return reading, getattr(reading.whole, "_cache", None), " ".join(reading.warnings)


def test_arrays_are_on_no_disk_that_could_be_quicker():
    assert not TrainingData(ArrayDataset(X, X)).advice(1)
    assert made(None)[0].advice(1)


def test_by_default_a_part_of_the_free_memory_is_taken(monkeypatch):
    monkeypatch.setattr(setup, "free_memory", lambda comm: (17 * ALL // 10, 0))
    _, cache, warnings = made(None)
    assert (cache.plan.slots, cache.plan.holds_all, warnings) == (8, False, "")
    monkeypatch.setattr(setup, "free_memory", lambda comm: (2 * ALL, 0))
    assert made(None)[1].plan.holds_all


@pytest.mark.parametrize(
    ("rows", "orders", "said"),
    [
        (50, in_windows, "takes 0.00096 MB, and data.memory holds 0.0012 MB, so that the next is read late; raise"),
        (20, in_windows, "so that its chunks are unpacked up to 10 times an epoch; raise"),
        (19, in_windows, "data.memory is too little to read ahead, .* 2 chunks take 0.00048 MB, and all"),
        (90, in_rows, "data.memory is too little to read ahead, .* drawn one by one, 0.0024 MB"),
    ],
)
def test_too_little_memory_is_told_with_what_is_needed(rows, orders, said):
    reading, cache, warnings = made(rows * ROW_BYTES, orders)
    assert re.search(said, warnings)
    assert (cache is None) == ("too little" in warnings)
    np.testing.assert_array_equal(reading.whole.read(np.array([7, 3])).inputs, X[[7, 3]])


def test_ranks_that_can_share_little_have_less_memory_together_or_memory_of_their_own(monkeypatch):
    monkeypatch.setattr(setup, "free_memory", lambda comm: (ALL, 70 * ROW_BYTES))
    monkeypatch.setattr(setup, "SHARED_PART", 1)
    with_words = 6 * 64 + 2 * 2048 + 128  # bytes of what ranks say to one another, beside the rows
    _, cache, warnings = made(ALL, comm=Rank(with_words + ALL + 64))
    assert (cache.plan.holds_all, cache.ranks, warnings) == (True, 2, "")
    _, cache, warnings = made(ALL, comm=Rank(with_words + ALL - 100))
    assert (cache.plan.slots, cache.ranks) == (7, 2)
    assert warnings.startswith("a window of the order takes")
    _, cache, warnings = made(2 * ALL, comm=Rank(can_share=0))
    assert (cache.plan.holds_all, cache.ranks, cache.index) == (True, 1, 0)
    assert warnings.startswith("little memory is free to share unpacked data, so that each rank unpacks")
    _, cache, warnings = made(2 * 15 * ROW_BYTES, comm=Rank(can_share=0))
    assert cache is None
    assert "too little to read ahead" in warnings
