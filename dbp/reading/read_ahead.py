"""Reading ahead: a thread of each rank unpacks the units that its node needs next, while the ranks compute.

The order of the examples is known, so the units have numbers in the order of their use, epoch after epoch. The thread
of the rank at index i of its node reads each unit whose number leaves the remainder i. It waits until all ranks of the
node are done with the unit that lies in the slot; a rank waits until the units of its rows are ready. How much memory
and how many ranks there are decides when a unit is read and how often, and never which rows a mini-batch has.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from dbp.data import Dataset, Examples
from dbp.data.dataset import Rows, pieces_of
from dbp.errors import NOT_FINISHED, UserError
from dbp.parallel import Communicator, Stage
from dbp.reading.node_cache import NodeCache
from dbp.reading.order import ChunkOrder, RowOrder
from dbp.types import Array

SHORTEST_NAP, LONGEST_NAP = 5e-4, 8e-3  # seconds between two looks of a thread whose slot is in use
NO_PLACE = -1  # of a unit that has no slot
PATIENCE_SECONDS = 5.0  # for the rows of a step when the run was asked to stop
LEAVE_SECONDS = 5.0  # for a thread to finish its unit at the end; one that hangs in the system is left to itself

Orders = Callable[[int], RowOrder]  # returns the order of an epoch


class DataLateError(UserError):
    """Data that has not arrived when the run is to stop, so that it cannot finish its step."""

    exit_code = NOT_FINISHED


class EpochUnits:
    """The units of an epoch in the order of their use, window after window.

    A window that has more units than there are slots is left out: its rows cannot all be held.

    Args:
        order: of the epoch.
        used: which units have rows that are used.
        slots: number of slots.
    """

    def __init__(self, order: ChunkOrder, used: Array, slots: int):
        self._order = order
        windows = [units[used[units]] for units in map(order.units_in, range(order.windows))]
        held = [units[: len(units) if len(units) <= slots else 0] for units in windows]
        self.left_out = sum(len(units) > slots for units in windows)  # number of windows
        self.units = np.concatenate(held)
        self.starts = np.cumsum([0, *map(len, held)])  # the first place of each window
        self.windows = np.zeros(len(used), np.int64)  # of each unit
        self.windows[np.concatenate(windows)] = np.repeat(np.arange(len(windows)), [len(units) for units in windows])
        self.places = np.full(len(used), NO_PLACE)  # of each unit in this order
        self.places[self.units] = np.arange(len(self.units))

    def start_of(self, position: int) -> int:
        """Return the first place of the window of a position; that behind all others for the end of the epoch."""
        end = position >= self._order.size
        return int(self.starts[-1] if end else self.starts[self._order.window_of(position)])


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
    """

    def __init__(self, comm: Communicator, data: Dataset, cache: NodeCache, used: Array, orders: Orders, epochs: int):
        self._comm, self._data, self._cache = comm, data, cache
        self._used, self._orders, self._epochs = used, orders, epochs
        self.name, self.scale, self.input_shape = data.name, data.scale, data.input_shape
        self.warnings: Sequence[str] = getattr(data, "warnings", ())
        self.borders: Array | None = getattr(data, "borders", None)
        self.meaning, self.shift = getattr(data, "meaning", None), getattr(data, "shift", None)
        self.pieces = partial(pieces_of, data)
        self._next: tuple[int, int] | None = None  # epoch and position at which the next mini-batch begins
        self._has_all = False  # True once all units are known to be ready for good
        self._epoch: tuple[int, EpochUnits] | None = None  # the current one
        self._first = 0  # the number of its first unit; less than 0 if the stream began in its midst
        self._in_batch = False
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
        if not self._in_batch or not len(chosen):
            return self._data.read(rows)
        return self._take_in_turn(chosen)

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

    def _take_in_turn(self, rows: Array) -> Examples:
        """Return rows of the current mini-batch, window after window."""
        assert self._epoch is not None
        cache, epoch = self._cache, self._epoch[1]
        units = cache.units_of(rows)
        windows, taken = epoch.windows[units], []
        for window in range(int(windows.min()), int(windows.max()) + 1):
            cache.finish(self._first + int(epoch.starts[window]))
            inside = np.flatnonzero(windows == window)
            places = epoch.places[units[inside]]
            if (places == NO_PLACE).any():
                found = self._data.read(rows[inside])
            else:
                self._await(units[inside], self._first + places)
                found = cache.take(rows[inside], units[inside], self._first + places)
            taken.append((inside, found))
        if len(taken) == 1:  # as a rule
            return taken[0][1]
        joined = {name: np.empty((len(rows), *column.shape[1:]), column.dtype) for name, column in taken[0][1].items()}
        for inside, examples in taken:
            for name, column in examples.items():
                joined[name][inside] = column
        return Examples(joined)

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
            self._epoch = epoch, self._units(order)
        self._cache.check()
        self._in_batch = True
        try:
            yield
        finally:
            self._in_batch = False
        if self._epoch is not None:
            self._cache.finish(self._first + self._epoch[1].start_of(positions.stop))
        self._next = (epoch + 1, 0) if positions.stop >= order.size else (epoch, positions.stop)

    def _units(self, order: RowOrder) -> EpochUnits:
        """Return the units of an epoch."""
        assert isinstance(order, ChunkOrder)
        return EpochUnits(order, self._used, self._cache.plan.slots)

    def _restart(self, order: RowOrder, epoch: int, position: int) -> None:
        """Begin the stream at a position; collective."""
        self._ends.set()
        if (thread := self._thread) is not None:  # until it has ended it could still write to a slot
            self._wait_until(lambda: not thread.is_alive())
        self._cache.clear()
        if not self._cache.plan.holds_all:
            units = self._units(order)
            skipped = units.start_of(position)
            self._epoch, self._first = (epoch, units), -skipped
            numbered = enumerate(self._in_turn(units.units[skipped:], epoch))
        elif isinstance(order, ChunkOrder):
            units = self._units(order)
            numbered = enumerate(np.roll(units.units, -units.start_of(position)).tolist())
        else:
            numbered = enumerate(np.flatnonzero(self._used).tolist())
        self._ends.clear()
        self._thread = threading.Thread(target=self._read_all, args=(numbered,), name="read ahead", daemon=True)
        self._thread.start()

    def _in_turn(self, units: Array, epoch: int) -> Iterator[int]:
        """Yield the units of an epoch, and then those of all later ones."""
        yield from units.tolist()
        for later in range(epoch + 1, self._epochs):
            yield from self._units(self._orders(later)).units.tolist()

    def _read_all(self, numbered: Iterator[tuple[int, int]]) -> None:
        """Read this rank's units: the work of its thread."""
        cache = self._cache
        try:
            for number, unit in numbered:
                if number % cache.ranks != cache.index or (cache.plan.holds_all and cache.ready[unit]):
                    continue
                nap = SHORTEST_NAP
                while not cache.is_free(number):
                    if self._ends.wait(nap):
                        return
                    nap = min(2 * nap, LONGEST_NAP)
                if self._ends.is_set():
                    return
                cache.load(unit, number)
        except BaseException as error:  # the ranks raise it
            cache.fail(error)

    def close(self) -> None:
        """End the thread; nothing is read ahead any more."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join(LEAVE_SECONDS)
            self._thread = None
