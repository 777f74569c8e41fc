"""Unpacked rows of a data set, in memory that the ranks of a node share.

The rows lie in units, such as the chunks of a file. Each unit has a number, and each number a slot. If all units fit,
each has a slot for good, and the rows lie in their own order. Else the slots are used in turn, number after number; or,
where more units are needed together than there are slots, single rows are collected from them.

Each word of the memory has one writer at a time, and says what may be read once it is set: whoever sets it writes the
rows before, and orders the two by a memory barrier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dbp.data import Dataset, Examples
from dbp.data.ragged import with_masks
from dbp.errors import DataError, StorageError, UserError
from dbp.parallel import Communicator, SharedMemory
from dbp.reading.column_store import ColumnStore, StoredForm, stored_forms
from dbp.reading.epoch_loads import CollectedRows
from dbp.types import Array

LINE_BYTES = 64  # of a cache line; words that different ranks write have one each
READER_BYTES = 1 << 20  # that the thread of a rank takes to unpack a unit
TEXT_BYTES = 2048  # of the message of an error, for each rank
NO_ERROR, OTHER_ERROR = 0, 1  # instead of an exit code
ERRORS: Mapping[int, type[UserError]] = {kind.exit_code: kind for kind in (UserError, DataError, StorageError)}


class Plan(NamedTuple):
    """The division of memory among the units of a data set.

    Args:
        borders: the first row of each unit, and the number of rows.
        columns: the form of each column.
        slots: number of slots; as many as units, if all are held.
    """

    borders: Array
    columns: dict[str, StoredForm]
    slots: int

    @classmethod
    def of(cls, data: Dataset, borders: Array, memory: int, readers: int = 0) -> Plan:
        """Return the division of a number of bytes.

        Args:
            data: the data set.
            borders: the first row of each unit, and the number of rows.
            memory: the bytes.
            readers: ranks whose threads take some of it for themselves, if not all rows are held: at most a tenth.
        """
        units = len(borders) - 1
        all_held = cls(borders, stored_forms(data, borders), units)
        if all_held.total_bytes <= memory:
            return all_held
        memory -= min(readers * READER_BYTES, memory // 10)
        return all_held._replace(slots=min(memory // all_held.slot_bytes, units - 1))

    @property
    def holds_all(self) -> bool:
        """Return True if each unit has a slot for good."""
        return self.slots == len(self.borders) - 1

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all rows."""
        return sum(form.total * form.element_bytes for form in self.columns.values())

    @property
    def slot_bytes(self) -> int:
        """Return the bytes of a slot."""
        return sum(form.of_slot * form.element_bytes for form in self.columns.values())

    def collected_rows(self, ranks: int) -> int:
        """Return how many single rows there is memory for, beside a slot of each rank; 0 if none.

        What a rank needs to find them in their units is a part of this memory.
        """
        slots = max(0, self.slots - ranks)
        rows = min(slots * form.of_slot // form.of_row for form in self.columns.values())
        row_bytes = sum(form.of_row * form.element_bytes for form in self.columns.values())
        return min(rows, slots * self.slot_bytes // (row_bytes + ranks * CollectedRows.ROW_BYTES))

    def sizes(self, ranks: int) -> list[int]:
        """Return the bytes of each part of the memory: words and texts of each rank, words of slots, columns."""
        columns = [self._elements(form) * form.element_bytes for form in self.columns.values()]
        words = [*[ranks * LINE_BYTES] * 3, ranks * TEXT_BYTES, self.slots * 8]
        return [-(-size // LINE_BYTES) * LINE_BYTES for size in (*words, *columns)]

    def _elements(self, form: StoredForm) -> int:
        return form.total if self.holds_all else self.slots * form.of_slot

    def stores(self, parts: list[Array]) -> dict[str, ColumnStore]:
        """Return the memory for each column, given its bytes."""
        found = {}
        for part, (name, form) in zip(parts, self.columns.items(), strict=True):
            count = self._elements(form)
            elements = part[: count * form.element_bytes].view(form.dtype).reshape(count, *form.shape)
            found[name] = ColumnStore(form, elements, not self.holds_all)
        return found


class NodeCache:
    """The units that the ranks of a node share.

    Attributes:
        ready: for each slot the number of its unit plus 1, or 0; 1 for any unit, if all are held.
        done: for each rank of the node, the first number that it still needs.
        loaded: for each rank of the node, the first number that its thread may still load.

    Args:
        data: the data set, which is read in units.
        plan: the division of the memory, the same on all ranks that share it.
        comm: the ranks.
        memory: that the ranks of the node share, zero at first.
        is_shared: False for memory of this rank alone.
    """

    def __init__(self, data: Dataset, plan: Plan, comm: Communicator, memory: Any, is_shared: bool = True):
        self.plan, self._data, self._node = plan, data, comm.node
        ranks = comm.nodes.runs[comm.nodes.mine] if is_shared else range(comm.rank, comm.rank + 1)
        self.ranks, self.index = len(ranks), comm.rank - ranks.start
        ends = np.cumsum(plan.sizes(self.ranks)).tolist()
        parts = [memory.bytes[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]
        self.done, self.loaded, self._codes = (part.view(np.int64)[:: LINE_BYTES // 8] for part in parts[:3])
        self._texts, self.ready = parts[3].reshape(self.ranks, -1), parts[4].view(np.int64)[: plan.slots]
        self._stores = plan.stores(parts[5:])
        self._in_own_slot = -1  # the unit that this rank's slot holds

    @classmethod
    def allocate(cls, data: Dataset, plan: Plan, comm: Communicator) -> NodeCache | None:
        """Return a cache, or None on all ranks if a node has too little memory to share; collective."""
        size = sum(plan.sizes(len(comm.nodes.runs[comm.nodes.mine])))
        memory = comm.node.allocate(size)
        return None if memory is None else cls(data, plan, comm, memory)

    @classmethod
    def private(cls, data: Dataset, plan: Plan, comm: Communicator) -> NodeCache:
        """Return a cache of this rank alone."""
        return cls(data, plan, comm, SharedMemory(np.zeros(sum(plan.sizes(1)), np.uint8)), is_shared=False)

    # --- units --------------------------------------------------------------------------------------

    @property
    def shared_slots(self) -> int:
        """Return the number of slots besides those that ranks have of their own; 0 if there is none for each rank."""
        return max(0, self.plan.slots - self.ranks)

    @property
    def _own_slot(self) -> int:
        return self.plan.slots - 1 - self.index

    def units_of(self, rows: Array) -> Array:
        """Return the units that rows lie in."""
        return np.searchsorted(self.plan.borders, rows, side="right") - 1

    def load(self, unit: int, number: int) -> None:
        """Read a unit into its slot; any thread of the rank may do so, and of several ranks one at a time.

        Args:
            unit: the unit.
            number: its number, if not all units are held.
        """
        slot = unit if self.plan.holds_all else number % self.plan.slots
        self._read(unit, slot)
        self._node.memory_barrier()
        self.ready[slot] = 1 if self.plan.holds_all else number + 1

    def _read(self, unit: int, slot: int) -> None:
        first, stop = (int(row) for row in self.plan.borders[unit : unit + 2])
        into = {name: store.unit(unit, slot) for name, store in self._stores.items()}
        if hasattr(self._data, "read_into"):
            self._data.read_into(range(first, stop), into)
        else:
            for name, values in self._data.read(slice(first, stop)).items():
                into[name][...] = values

    def collect(self, unit: int, wanted: CollectedRows) -> None:
        """Copy the rows of a unit that are wanted to their indices, by way of this rank's own slot."""
        first, stop = (int(row) for row in self.plan.borders[unit : unit + 2])
        rows, indices = wanted.between(first, stop)
        if len(rows):
            self._read(unit, self._own_slot)
            for store in self._stores.values():
                store.collect(rows, indices, unit, self._own_slot)
        self._node.memory_barrier()

    def are_ready(self, units: Array, numbers: Array) -> bool:
        """Return True if units are in their slots under these numbers; their rows may be read then."""
        if self.plan.holds_all:
            found = bool(self.ready[units].all())
        else:
            found = bool((self.ready[numbers % self.plan.slots] == numbers + 1).all())
        if found:
            self._node.memory_barrier()
        return found

    def is_ready(self, unit: int, number: int) -> bool:
        """Return True if a unit is in its slot under this number."""
        return bool(self.ready[unit] if self.plan.holds_all else self.ready[number % self.plan.slots] == number + 1)

    def are_collected(self, stop: int) -> bool:
        """Return True if all loads before a number are done, so that rows which they collect may be read."""
        if found := bool(self.loaded.min() >= stop):
            self._node.memory_barrier()
        return found

    def take(self, rows: Array, units: Array, numbers: Array) -> Examples:
        """Return a copy of rows, whose units with these numbers are ready."""
        slots = numbers % self.plan.slots
        return self._examples(rows, {name: store.take(rows, units, slots) for name, store in self._stores.items()})

    def take_collected(self, rows: Array, indices: Array) -> Examples:
        """Return a copy of rows that are collected at these indices."""
        return self._examples(rows, {name: s.take_collected(rows, indices) for name, s in self._stores.items()})

    def take_before_use(self, rows: Array, unit: int, number: int | None) -> Examples:
        """Return a copy of rows of a unit before the slots are used in turn; other ranks may do the same.

        Args:
            rows: the rows.
            unit: the unit.
            number: the number that it will have in a shared slot; None if it will have none there soon.
        """
        slot = self._own_slot if number is None else number
        if number is None and self._in_own_slot != unit:
            self._read(unit, slot)
            self._in_own_slot = unit
        elif number is not None and not self.is_ready(unit, number):
            self.load(unit, number)
        units, slots = np.full(len(rows), unit), np.full(len(rows), slot)
        return self._examples(rows, {name: store.take(rows, units, slots) for name, store in self._stores.items()})

    def _examples(self, rows: Array, found: dict[str, Array]) -> Examples:
        """Return examples with what follows from rows of unequal length."""
        columns: Any = getattr(self._data, "columns", {})
        return Examples(with_masks(columns, found, rows))

    def finish(self, number: int) -> None:
        """Note that this rank needs no units before this number any more."""
        self._node.memory_barrier()
        self.done[self.index] = number

    def note_loaded(self, number: int) -> None:
        """Note that the thread of this rank has done all its loads before this number."""
        self.loaded[self.index] = number

    def is_free(self, number: int) -> bool:
        """Return True if no rank needs, or still loads, what lies in the memory of units before a number."""
        return self.plan.holds_all or number <= int(min(self.done.min(), self.loaded.min()))

    def begin(self, keeps_units: bool) -> None:
        """Begin with number 0; collective among the ranks of all nodes, whose threads rest.

        Args:
            keeps_units: whether units remain that were loaded before; those that have a slot for good always do.
        """
        self._node.barrier()
        self.done[self.index] = self.loaded[self.index] = 0
        if self.index == 0 and not self.plan.holds_all and not keeps_units:
            self.ready[:] = 0
        self._node.barrier()

    # --- errors -------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """Tell all ranks of the node an error of this rank's reader."""
        is_known = isinstance(error, UserError) and error.exit_code in ERRORS
        text = str(error) if is_known else f"reading data ahead failed with {type(error).__name__}: {error}"
        found = np.frombuffer(text.encode()[: TEXT_BYTES - 1], np.uint8)
        self._texts[self.index, : len(found)] = found
        self._node.memory_barrier()
        self._codes[self.index] = error.exit_code if isinstance(error, UserError) and is_known else OTHER_ERROR

    def check(self) -> None:
        """Raise the error of a reader of the node, if one has failed."""
        failed = np.flatnonzero(self._codes)
        if len(failed):
            self._node.memory_barrier()
            code, text = int(self._codes[failed[0]]), self._texts[failed[0]].tobytes().rstrip(b"\0")
            raise ERRORS.get(code, RuntimeError)(text.decode(errors="replace"))
