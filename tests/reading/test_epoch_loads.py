"""The loads of an epoch: which units are read, in which order, and how often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.reading.epoch_loads import NO_LOAD, BatchRows, CollectedRows, EpochLoads
from dbp.reading.order import ChunkOrder

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any)


@settings(max_examples=80, deadline=None)
@given(SIZES, st.integers(1, 60), st.integers(2, 8), st.integers(0, 20))
def test_all_rows_of_a_part_come_from_the_loads_of_the_part(sizes, window, slots, collected):
    borders = np.cumsum([0, *sizes])
    order = ChunkOrder(borders, window, 3, 1)
    epoch = EpochLoads(order, len(sizes), slots, collected)
    rows, loads = order(np.arange(order.size)), list(epoch.loads(0, 100, np.asarray))
    assert [load.unit for load in loads] == epoch.units.tolist()
    assert (epoch.positions[0], epoch.positions[-1]) == (0, order.size)
    for part, (start, stop) in enumerate(zip(epoch.positions[:-1], epoch.positions[1:], strict=True)):
        assert (epoch.part_of(np.arange(start, stop)) == part).all()
        units = np.searchsorted(borders, rows[start:stop], side="right") - 1
        inside = range(epoch.starts[part], epoch.starts[part + 1])
        assert epoch.start_of(start) == inside.start
        if epoch.is_collected(part):
            assert stop - start <= collected
            assert (epoch.load_of_unit[units] == NO_LOAD).all()
            found = {}
            for load in loads[inside.start : inside.stop]:
                assert load.needs == 100 + inside.start
                some, indices = load.wanted.between(borders[load.unit], borders[load.unit + 1])
                found.update(zip(indices.tolist(), some.tolist(), strict=True))
            assert [found[index] for index in range(stop - start)] == rows[start:stop].tolist()
        elif inside:
            assert set(units.tolist()) == {load.unit for load in loads[inside.start : inside.stop]}
            assert len(inside) <= slots
            assert all(loads[number].wanted is None for number in inside)
            assert [epoch.load_of_unit[loads[number].unit] for number in inside] == list(inside)
        else:
            assert collected == 0
    assert epoch.left_out == (0 if collected else (order.unit_counts > slots).sum())


def test_what_lies_in_memory_of_collected_rows_is_awaited():
    order = ChunkOrder(np.arange(0, 101, 10), 40, 0, 0)
    epoch = EpochLoads(order, 10, 4, 25)  # two windows, of which the last has 6 units
    needs = [load.needs for load in epoch.loads(0, 0, np.asarray)]
    assert needs == [*[0] * 4, *[4] * 6, *[10] * 6, *[16] * 6]
    assert epoch.ends_collected
    assert [load.needs for load in epoch.loads(4, -4, np.asarray)] == [*[0] * 6, *[6] * 6, *[12] * 6]
    assert [load.needs for load in epoch.loads(0, 22, np.asarray, 22)][:5] == [22, 22, 22, 22, 26]


def test_collected_rows_are_those_of_the_whole_data_set():
    order = ChunkOrder(np.arange(0, 31, 10), 30, 0, 0)
    wanted = CollectedRows(order, range(5, 17), lambda rows: 2 * rows)
    rows, indices = wanted.between(0, 60)
    assert rows.tolist() == sorted(rows.tolist())
    np.testing.assert_array_equal(rows, 2 * order(5 + indices))
    assert [len(some) for some in wanted.between(60, 99)] == [0, 0]


@pytest.mark.parametrize("twice", [[0, 4], [1, 2]])
def test_runs_of_a_batch_are_found_in_their_order(twice):
    class Some:
        def __call__(self, positions):
            rows = 10 + np.arange(8)
            rows[twice[1]] = rows[twice[0]]
            return rows[positions - 100]

    batch, rows = BatchRows(Some(), range(100, 108), np.asarray), Some()(np.arange(100, 108))
    for run in (range(2), range(2, 3), range(4, 8)):
        found = batch.positions_of(rows[run.start : run.stop])
        np.testing.assert_array_equal(rows[found - 100], rows[run.start : run.stop])
        assert found[0] >= 100 + run.start or twice == [1, 2]
    assert batch.positions_of(rows[:2]) is None
