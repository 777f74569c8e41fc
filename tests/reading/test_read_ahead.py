"""Reading ahead, by ranks that are threads of the test: rows, restarts, bounded memory, and readers that fail."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dbp.data import ArrayDataset
from dbp.errors import DataError
from dbp.parallel import Nodes, OneProcess, Shards
from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.node_group import SingleRank
from dbp.reading import read_ahead
from dbp.reading.draws import DrawnChunkOrder, Draws, ends_of
from dbp.reading.epoch_loads import CollectedRows, EpochLoads
from dbp.reading.node_cache import NodeCache, Plan
from dbp.reading.order import ChunkOrder, Order
from dbp.reading.read_ahead import DataLateError, ReadAhead

SIZES = np.array([5, 5, 3, 5, 1, 5, 5, 4, 5, 5, 2])
BORDERS = np.append(0, np.cumsum(SIZES))
COUNT, ROW_BYTES, EPOCHS, BATCH, SHARDS = int(SIZES.sum()), 3 * 4 + 8, 3, 7, 4
X = np.arange(3 * COUNT, dtype=np.float32).reshape(-1, 3)
Y = np.arange(COUNT)
WINDOW = 9


class Units(ArrayDataset):
    """A data set in units that counts how often each of them is read, and fails at one row."""

    def __init__(self, bad_row=None):
        super().__init__(X, Y)
        self.borders, self.reads, self.bad_row = BORDERS, [], bad_row

    def read(self, rows):
        if isinstance(rows, slice):
            self.reads.append((rows.start, rows.stop))
            if self.bad_row is not None and rows.start <= self.bad_row < rows.stop:
                raise DataError(f"row {self.bad_row} is damaged")
        return super().read(rows)


class Node(SingleRank):
    """Ranks of a node that are threads."""

    def __init__(self, barrier):
        self._barrier = barrier

    def barrier(self):
        self._barrier.wait(20)


class Rank(OneProcess):
    """A rank that is a thread."""

    def __init__(self, rank, ranks, barrier):
        super().__init__()
        self.rank, self.size, self.nodes, self.node = rank, ranks, Nodes((ranks,), rank), Node(barrier)


def order(epoch):
    return ChunkOrder(BORDERS, WINDOW, 7, epoch)


def rows_order(epoch):
    return Order(COUNT, 7, "rows", epoch)


def on_ranks(ranks, memory, work, data=None, orders=order, epochs=EPOCHS):
    """Call a function with the read-ahead of each rank, of which each is a thread; return the results and the plan."""
    barrier = threading.Barrier(ranks)
    plan = Plan.of(Units(), BORDERS, memory)
    data = data or Units()
    bytes_ = SharedMemory(np.zeros(sum(plan.sizes(ranks)), np.uint8))
    used = np.ones(len(SIZES), bool)

    def run(rank):
        comm = Rank(rank, ranks, barrier)
        reading = ReadAhead(comm, data, NodeCache(data, plan, comm, bytes_), used, orders, epochs, np.asarray)
        try:
            return work(reading, comm, Shards(SHARDS, rank, ranks), barrier)
        except BaseException:
            barrier.abort()
            raise
        finally:
            reading.close()

    with ThreadPoolExecutor(ranks) as pool:
        futures = [pool.submit(run, rank) for rank in range(ranks)]
    return futures, plan


def train(reading, orders, shards, barrier, start=(0, 0), stop=EPOCHS):
    """Read the shards of this rank of all mini-batches from an epoch and position on, and check the rows."""
    for epoch in range(start[0], stop):
        current = orders(epoch)
        for begin in range(start[1] if epoch == start[0] else 0, COUNT, BATCH):
            positions = range(begin, min(begin + BATCH, COUNT))
            with reading.batch(current, epoch, positions):
                for number in shards.mine:
                    part = shards.of_batch(len(positions), number)
                    rows = current.rows(positions[part.start : part.stop])
                    found = reading.read(rows)
                    np.testing.assert_array_equal(found.inputs, X[rows])
                    np.testing.assert_array_equal(found.targets, Y[rows])
            barrier.wait(20)  # the sum
    return True


LITTLE, IN_TURN, ALL = 2 * 5 * ROW_BYTES, 6 * 5 * ROW_BYTES, COUNT * ROW_BYTES  # of two slots, six, and all rows


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize(("orders", "memory"), [(order, LITTLE), (order, IN_TURN), (order, ALL), (rows_order, ALL)])
def test_each_rank_reads_the_rows_of_its_shards_and_each_unit_is_read_once(ranks, orders, memory):
    data = Units()
    results, plan = on_ranks(
        ranks, memory, lambda reading, _, shards, barrier: train(reading, orders, shards, barrier), data, orders
    )
    assert [result.result() for result in results] == [True] * ranks
    assert plan.holds_all == (memory == ALL)
    counts = [data.reads.count(borders) for borders in itertools.pairwise(BORDERS.tolist())]
    if memory != LITTLE:  # else the rows of windows of more than two units are read one by one, or several times
        assert counts == [1 if memory == ALL else EPOCHS] * len(SIZES)


def large_windows(epoch):
    return ChunkOrder(BORDERS, 20, 7, epoch)


def drawn(epoch):
    weights = np.where(np.arange(COUNT) % 5 == 0, 6.0, 0.5)
    return DrawnChunkOrder(Draws(ends_of(weights, "w"), 7, epoch), BORDERS, 20, 7, epoch)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("orders", [large_windows, drawn])
def test_windows_larger_than_the_memory_are_read_as_often_as_their_rows_exceed_it(ranks, orders, monkeypatch):
    monkeypatch.setattr(CollectedRows, "ROW_BYTES", 0)
    data, memory = Units(), (ranks + 3) * 5 * ROW_BYTES  # of 15 rows beside a slot of each rank
    results, plan = on_ranks(
        ranks, memory, lambda reading, _, shards, barrier: train(reading, orders, shards, barrier), data, orders
    )
    assert [result.result() for result in results] == [True] * ranks
    windows = [loads for epoch in range(EPOCHS) for loads in [EpochLoads(orders(epoch), len(SIZES), plan.slots, 15)]]
    if ranks < 3:
        assert max(int(loads.reads.max()) for loads in windows) == 2
    counts = [data.reads.count(borders) for borders in itertools.pairwise(BORDERS.tolist())]
    assert 0 < max(counts) <= sum(int(loads.reads.max()) for loads in windows)


@pytest.mark.parametrize("memory", [IN_TURN, ALL])
def test_rows_that_are_read_before_the_first_step_need_not_be_read_again_for_it(memory):
    """They are those of the check of all data, of which each rank reads a part."""
    data = Units()

    def work(reading, comm, shards, barrier):
        mine = slice(COUNT * comm.rank // 2, COUNT * (comm.rank + 1) // 2)
        np.testing.assert_array_equal(reading.read(mine).inputs, X[mine])
        barrier.wait(20)
        before = len(data.reads)
        barrier.wait(20)
        assert before <= len(SIZES) + 1  # both read the unit in the middle
        return train(reading, order, shards, barrier, stop=1)

    results, plan = on_ranks(2, memory, work, data, epochs=1)
    assert [result.result() for result in results] == [True] * 2
    assert len(data.reads) <= (len(SIZES) if plan.holds_all else 2 * len(SIZES) - (plan.slots - 2)) + 1


@pytest.mark.parametrize("memory", [IN_TURN, ALL])
def test_a_run_begins_and_goes_back_to_any_step_and_reads_other_rows_between(memory):
    def work(reading, _, shards, barrier):
        train(reading, order, shards, barrier, start=(1, 2 * BATCH), stop=2)
        found = reading.read(np.array([40, 3]))  # such as those of an evaluation
        np.testing.assert_array_equal(found.targets, [40, 3])
        np.testing.assert_array_equal(reading.read(slice(2, 30)).inputs, X[2:30])
        train(reading, order, shards, barrier, start=(2, 0))
        return train(reading, order, shards, barrier, start=(1, 3 * BATCH))

    results, _ = on_ranks(3, memory, work)
    assert [result.result() for result in results] == [True] * 3


@pytest.mark.parametrize("memory", [IN_TURN, ALL])
def test_a_reader_that_fails_ends_all_ranks_of_its_node_with_the_cause(memory):
    results, _ = on_ranks(3, memory, lambda r, _, shards, barrier: train(r, order, shards, barrier), Units(bad_row=17))
    errors = [result.exception() for result in results]
    assert DataError in map(type, errors)
    for error in errors:  # a rank that waits for the others is ended by them
        assert type(error) in (DataError, threading.BrokenBarrierError)
        assert type(error) is not DataError or str(error) == "row 17 is damaged"


def test_ranks_that_are_asked_to_stop_do_not_wait_for_data_that_does_not_come(monkeypatch):
    comes, data = threading.Event(), Units()
    monkeypatch.setattr(read_ahead, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(data, "read", lambda rows: comes.wait(20))

    def work(reading, comm, shards, barrier):
        comm.asks_to_stop = lambda: True
        try:
            train(reading, order, shards, barrier)
        finally:
            comes.set()

    results, _ = on_ranks(2, IN_TURN, work, data)
    errors = [result.exception() for result in results]
    assert DataLateError in map(type, errors)
    assert "asked to stop, but its data has not arrived for 0.1 s" in str(errors)


def test_a_restart_waits_for_a_reader_that_is_slow_so_that_it_writes_to_no_slot_of_the_new_stream(monkeypatch):
    monkeypatch.setattr(read_ahead, "LEAVE_SECONDS", 0.01)
    data = Units()
    read = data.read

    def read_slowly(rows):
        time.sleep(0.03)
        return read(rows)

    data.read = read_slowly

    def work(reading, _, shards, barrier):
        with reading.batch(order(0), 0, range(BATCH)):
            reading.read(order(0).rows(range(BATCH)))
        return train(reading, order, shards, barrier, start=(1, 3 * BATCH), stop=2)

    results, _ = on_ranks(1, IN_TURN, work, data)
    assert results[0].result()


def test_another_failure_of_a_reader_is_told_too():
    data = Units()
    data.read = None
    results, _ = on_ranks(1, ALL, lambda r, _, shards, barrier: train(r, order, shards, barrier), data)
    with pytest.raises(RuntimeError, match=r"reading data ahead failed with TypeError: .*NoneType"):
        results[0].result()


def test_a_reader_ends_while_it_waits_for_a_slot():
    def work(reading, *_):
        with reading.batch(order(0), 0, range(BATCH)):
            reading.read(order(0).rows(range(BATCH)))
        reading.close()
        return threading.active_count()

    before = threading.active_count()
    results, _ = on_ranks(1, IN_TURN, work)
    assert results[0].result() <= before + 1  # the thread of the rank itself


def test_rows_that_no_example_of_the_training_has_are_read_without_being_awaited():
    def work(reading, *_):
        reading._used[:6] = False
        with reading.batch(rows_order(0), 0, range(BATCH)):
            pass
        return reading.read(np.arange(COUNT)).targets

    results, _ = on_ranks(1, ALL, work, orders=rows_order)
    np.testing.assert_array_equal(results[0].result(), Y)
