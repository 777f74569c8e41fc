"""Reading ahead: a thread of each rank unpacks the units that its node needs next, while the ranks compute.

The order of the examples is known, so the loads of units have numbers in the order of their use, epoch after epoch. The
thread of the rank at index i of its node does each load whose number leaves the remainder i. It waits until all ranks
of the node are done with what lies in its memory; a rank waits until the units of its rows are ready. How much memory
and how many ranks there are decides when a unit is read and how often, and never which rows a mini-batch has.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from dbp.data import Dataset, Examples
from dbp.data.dataset import Rows, example_form, paths_of, pieces_of
from dbp.errors import NOT_FINISHED, UserError
from dbp.parallel import Communicator, Stage
from dbp.reading.epoch_loads import NO_LOAD, BatchRows, EpochLoads, Load, RowsOfWhole
from dbp.reading.node_cache import NodeCache
from dbp.reading.order import ChunkOrder, RowOrder
from dbp.types import Array

SHORTEST_NAP, LONGEST_NAP = 5e-4, 8e-3  # seconds between two looks of a thread whose slot is in use
PATIENCE_SECONDS = 5.0  # for the rows of a step when the run was asked to stop
LEAVE_SECONDS = 5.0  # for a thread to finish its unit at the end; one that hangs in the system is left to itself

Orders = Callable[[int], RowOrder]  # returns the order of an epoch


class DataLateError(UserError):
    """Data that has not arrived when the run is to stop, so that it cannot finish its step."""

    exit_code = NOT_FINISHED


class ReadAhead:
    """A data set whose rows come from the memory of the node, as long as they are read in the order of the training.

    All other rows are read from the data set itself, unless the memory holds all.

    Args:
        comm: the ranks.
        data: the data set.
        cache: of its units.
        used: which units have training examples.
        orders: returns the order of an epoch; may be called by another thread.
        epochs: of the run.
        rows_of_whole: returns the rows of the data set, given those of the training examples.
    """

    def __init__(
        self,
        comm: Communicator,
        data: Dataset,
        cache: NodeCache,
        used: Array,
        orders: Orders,
        epochs: int,
        rows_of_whole: RowsOfWhole,
    ):
        self._comm, self._data, self._cache = comm, data, cache
        self._used, self._orders, self._epochs, self._rows_of_whole = used, orders, epochs, rows_of_whole
        self.name, self.scale, self.input_shape = data.name, data.scale, data.input_shape
        self.warnings: Sequence[str] = getattr(data, "warnings", ())
        self.borders: Array | None = getattr(data, "borders", None)
        self.meaning, self.shift = getattr(data, "meaning", None), getattr(data, "shift", None)
        self.pieces, self.paths, self.example_form = (partial(f, data) for f in (pieces_of, paths_of, example_form))
        self._next: tuple[int, int] | None = None  # epoch and position at which the next mini-batch begins
        self._has_all = False  # True once all units are known to be ready for good
        self._epoch: tuple[int, EpochLoads] | None = None  # the current one
        self._first = 0  # the number of its first load; less than 0 if the stream began in its midst
        self._batch: BatchRows | None = None  # the current one, unless all units are held
        self._thread: threading.Thread | None = None
        self._ends = threading.Event()

    def __len__(self) -> int:
        return len(self._data)

    @property
    def holds_all(self) -> bool:
        """Return True if all rows stay in memory once they were read."""
        return self._cache.plan.holds_all

    # --- rows ---------------------------------------------------------------------------------------

    def read(self, rows: Rows) -> Examples:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        chosen = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        if self._cache.plan.holds_all:
            return self._take_held(chosen)
        if self._batch is not None and len(chosen):
            return self._take_in_turn(chosen, self._batch)
        if self._next is None and self._cache.shared_slots and len(chosen):
            return self._take_before_use(chosen)
        return self._data.read(rows)

    def _take_held(self, rows: Array) -> Examples:
        """Return rows; units that the threads do not read are read by this rank."""
        if not self._has_all:
            units = np.flatnonzero(np.bincount(self._cache.units_of(rows)))
            if self._thread is not None:
                expected = units[self._used[units]]
                self._await(expected, expected)
            begin = len(units) * self._cache.index // self._cache.ranks  # so that ranks read different ones first
            for unit in np.roll(units, -begin).tolist():
                if not self._cache.ready[unit]:
                    self._cache.load(unit, unit)
            self._cache.are_ready(units, units)  # orders their rows before what follows
            everything = np.arange(self._cache.plan.slots)
            self._has_all = self._cache.are_ready(everything, everything)
        return self._cache.take(rows, rows, rows)

    @cached_property
    def _first_numbers(self) -> dict[int, int]:
        """Return the numbers of the units that a training from the beginning needs first, one for each shared slot."""
        loads = self._loads_of(self._orders(0)).loads(0, 0, self._rows_of_whole)
        first = enumerate(itertools.islice(loads, self._cache.shared_slots))
        return {load.unit: number for number, load in first if load.wanted is None}

    def _take_before_use(self, rows: Array) -> Examples:
        """Return rows before the first mini-batch; units that it needs are loaded for it on the way."""
        cache, first = self._cache, self._first_numbers
        return _by_key(
            cache.units_of(rows), lambda unit, inside: cache.take_before_use(rows[inside], unit, first.get(unit))
        )

    def _take_in_turn(self, rows: Array, of_batch: BatchRows) -> Examples:
        """Return rows of the current mini-batch, part after part."""
        assert self._epoch is not None
        cache, epoch = self._cache, self._epoch[1]
        units = cache.units_of(rows)
        parts, loads = epoch.parts[units], epoch.load_of_unit[units]
        positions = np.zeros(0, np.int64)
        if (loads == NO_LOAD).any():  # their windows may have several parts
            if (found := of_batch.positions_of(rows)) is None:
                return self._data.read(rows)
            positions, parts = found, epoch.part_of(found)

        def of_part(part: int, inside: Array) -> Examples:
            cache.finish(self._first + int(epoch.starts[part]))
            if epoch.is_collected(part):
                self._wait_until(lambda: cache.are_collected(self._first + int(epoch.starts[part + 1])))
                return cache.take_collected(rows[inside], positions[inside] - epoch.positions[part])
            if loads[inside[0]] == NO_LOAD:
                return self._data.read(rows[inside])
            numbers = self._first + loads[inside]
            self._await(units[inside], numbers)
            return cache.take(rows[inside], units[inside], numbers)

        return _by_key(parts, of_part)

    def _await(self, units: Array, numbers: Array) -> None:
        """Wait until units are ready."""
        self._wait_until(lambda: self._cache.are_ready(units, numbers))

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds; raise what has gone wrong with a reader, or with ranks."""
        begun = time.monotonic()

        def check() -> None:
            self._cache.check()
            self._comm.clock.check()
            if self._comm.asks_to_stop() and time.monotonic() - begun > PATIENCE_SECONDS:
                raise DataLateError(
                    f"{self.name}: the run was asked to stop, but its data has not arrived for {PATIENCE_SECONDS:g} s; "
                    "the same command resumes it from its last checkpoint, if it has one"
                )

        self._comm.clock.wait_until(holds, check=check, stage=Stage.DATA, awaited=f"data of {self.name}")

    # --- the stream ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def batch(self, order: RowOrder, epoch: int, positions: range) -> Iterator[None]:
        """Read a mini-batch in a with statement; collective if it does not follow on the one before.

        Args:
            order: of the epoch.
            epoch: its number.
            positions: of the mini-batch in this order.
        """
        if self._next != (epoch, positions.start):
            self._restart(order, epoch, positions.start)
        elif self._epoch is not None and self._epoch[0] != epoch:
            self._first += len(self._epoch[1].units)
            self._epoch = epoch, self._loads_of(order)
        self._cache.check()
        if not self._cache.plan.holds_all:
            assert isinstance(order, ChunkOrder)
            self._batch = BatchRows(order, positions, self._rows_of_whole)
        try:
            yield
        finally:
            self._batch = None
        if self._epoch is not None:
            self._cache.finish(self._first + self._epoch[1].start_of(positions.stop))
        self._next = (epoch + 1, 0) if positions.stop >= order.size else (epoch, positions.stop)

    def _loads_of(self, order: RowOrder) -> EpochLoads:
        """Return the loads of an epoch."""
        assert isinstance(order, ChunkOrder)
        cache = self._cache
        return EpochLoads(order, len(self._used), cache.plan.slots, cache.plan.collected_rows(cache.ranks))

    def _restart(self, order: RowOrder, epoch: int, position: int) -> None:
        """Begin the stream at a position; collective."""
        self._ends.set()
        if (thread := self._thread) is not None:  # until it has ended it could still write to a slot
            self._wait_until(lambda: not thread.is_alive())
        begins = self._next is None and (epoch, position) == (0, 0)
        self._cache.begin(keeps_units=begins)
        loads: Iterator[Load]
        if not self._cache.plan.holds_all:
            of_epoch = self._loads_of(order)
            skipped = of_epoch.start_of(position)
            self._epoch, self._first = (epoch, of_epoch), -skipped
            loads = self._in_turn(of_epoch, skipped, epoch)
        elif isinstance(order, ChunkOrder):
            of_epoch = self._loads_of(order)
            units = np.roll(of_epoch.units, -of_epoch.start_of(position)).tolist()
            loads = (Load(unit, 0) for unit in units)
        else:
            loads = (Load(unit, 0) for unit in np.flatnonzero(self._used).tolist())
        self._ends.clear()
        self._thread = threading.Thread(target=self._read_all, args=(loads,), name="read ahead", daemon=True)
        self._thread.start()

    def _in_turn(self, of_epoch: EpochLoads, first: int, epoch: int) -> Iterator[Load]:
        """Yield the loads of an epoch from one on, and then those of all later ones."""
        shift = -first
        yield from of_epoch.loads(first, shift, self._rows_of_whole)
        for later in range(epoch + 1, self._epochs):
            shift += len(of_epoch.units)
            needs = shift if of_epoch.ends_collected else 0
            of_epoch = self._loads_of(self._orders(later))
            yield from of_epoch.loads(0, shift, self._rows_of_whole, needs)

    def _read_all(self, loads: Iterator[Load]) -> None:
        """Do this rank's loads: the work of its thread."""
        cache, number = self._cache, -1
        try:
            for number, load in enumerate(loads):
                if number % cache.ranks != cache.index:
                    continue
                cache.note_loaded(number)
                if load.wanted is None and cache.is_ready(load.unit, number):
                    continue
                nap = SHORTEST_NAP
                while not cache.is_free(load.needs):
                    if self._ends.wait(nap):
                        return
                    nap = min(2 * nap, LONGEST_NAP)
                if self._ends.is_set():
                    return
                if load.wanted is None:
                    cache.load(load.unit, number)
                else:
                    cache.collect(load.unit, load.wanted)
            cache.note_loaded(number + 1)
        except BaseException as error:  # the ranks raise it
            cache.fail(error)

    def close(self) -> None:
        """End the thread; nothing is read ahead any more."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join(LEAVE_SECONDS)
            self._thread = None


def _by_key(keys: Array, read: Callable[[int, Array], Examples]) -> Examples:
    """Return rows of which those with the same key are read together, in the order of the keys.

    Args:
        keys: of each row.
        read: returns some of the rows, given their key and their indices among the rows.
    """
    order = np.argsort(keys, kind="stable")
    indices = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    taken = [read(int(keys[inside[0]]), inside) for inside in indices]
    if len(taken) == 1:  # as a rule
        return taken[0]
    joined = {}
    for name, first in taken[0].items():
        found = [examples[name] for examples in taken]
        shape = np.max([column.shape[1:] for column in found], axis=0).tolist()  # some may have shorter rows
        joined[name] = np.zeros((len(keys), *shape), first.dtype)
        for inside, column in zip(indices, found, strict=True):
            into: Any = (inside, *map(slice, column.shape[1:]))
            joined[name][into] = column
    return Examples(joined)
