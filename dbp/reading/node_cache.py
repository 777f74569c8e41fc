"""Unpacked rows of a data set, in memory that the ranks of a node share.

The rows lie in units, such as the chunks of a file. Each unit has a number, and each number a slot. If all units fit,
each has a slot for good, and the rows lie in their own order. Else the slots are used in turn, number after number.

Each word of the memory has one writer at a time, and says what may be read once it is set: whoever sets it writes the
rows before, and orders the two by a memory barrier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dbp.data import Dataset, Examples
from dbp.errors import DataError, StorageError, UserError
from dbp.parallel import Communicator, SharedMemory
from dbp.types import Array

LINE_BYTES = 64  # of a cache line; words that different ranks write have one each
TEXT_BYTES = 2048  # of the message of an error, for each rank
NO_ERROR, OTHER_ERROR = 0, 1  # instead of an exit code
ERRORS: Mapping[int, type[UserError]] = {kind.exit_code: kind for kind in (UserError, DataError, StorageError)}


class Plan(NamedTuple):
    """The division of memory among the units of a data set.

    Args:
        borders: the first row of each unit, and the number of rows.
        columns: the type and the shape of a row of each column.
        slots: number of slots; as many as units, if all are held.
        slot_rows: rows of a slot, if not all are held.
    """

    borders: Array
    columns: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
    slots: int
    slot_rows: int

    @classmethod
    def of(cls, data: Dataset, borders: Array, memory: int) -> Plan:
        """Return the division of a number of bytes."""
        row = data.read(slice(0, 1))
        columns = {name: (column.dtype, column.shape[1:]) for name, column in row.items()}
        units, slot_rows = len(borders) - 1, int(np.diff(borders).max())
        all_held = cls(borders, columns, units, slot_rows)
        if all_held.row_bytes * int(borders[-1]) <= memory:
            return all_held
        return all_held._replace(slots=min(memory // (slot_rows * all_held.row_bytes), units - 1))

    @property
    def holds_all(self) -> bool:
        """Return True if each unit has a slot for good."""
        return self.slots == len(self.borders) - 1

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row of all columns."""
        return sum(int(np.prod(shape, dtype=int)) * dtype.itemsize for dtype, shape in self.columns.values())

    @property
    def rows(self) -> int:
        """Return the number of rows that there is memory for."""
        return int(self.borders[-1]) if self.holds_all else self.slots * self.slot_rows

    def sizes(self, ranks: int) -> list[int]:
        """Return the bytes of each part of the memory: words and texts of each rank, words of slots, columns."""
        columns = [
            self.rows * int(np.prod(shape, dtype=int)) * dtype.itemsize for dtype, shape in self.columns.values()
        ]
        words = [ranks * LINE_BYTES, ranks * LINE_BYTES, ranks * TEXT_BYTES, self.slots * 8]
        return [-(-size // LINE_BYTES) * LINE_BYTES for size in (*words, *columns)]


class NodeCache:
    """The units that the ranks of a node share.

    Attributes:
        ready: for each slot the number of its unit plus 1, or 0; 1 for any unit, if all are held.
        done: for each rank of the node, the first number that it still needs.

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
        self.done, self._codes = (part.view(np.int64)[:: LINE_BYTES // 8] for part in parts[:2])
        self._texts, self.ready = parts[2].reshape(self.ranks, -1), parts[3].view(np.int64)[: plan.slots]
        self.columns = {}
        for part, (name, (dtype, shape)) in zip(parts[4:], plan.columns.items(), strict=True):
            size = plan.rows * int(np.prod(shape, dtype=int)) * dtype.itemsize
            self.columns[name] = part[:size].view(dtype).reshape(plan.rows, *shape)

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

    def units_of(self, rows: Array) -> Array:
        """Return the units that rows lie in."""
        return np.searchsorted(self.plan.borders, rows, side="right") - 1

    def load(self, unit: int, number: int) -> None:
        """Read a unit into its slot; any thread of the rank may do so, and of several ranks one at a time.

        Args:
            unit: the unit.
            number: its number, if not all units are held.
        """
        first, stop = (int(row) for row in self.plan.borders[unit : unit + 2])
        slot, at = unit, first
        if not self.plan.holds_all:
            slot = number % self.plan.slots
            at = slot * self.plan.slot_rows
        into = {name: column[at : at + stop - first] for name, column in self.columns.items()}
        if hasattr(self._data, "read_into"):
            self._data.read_into(range(first, stop), into)
        else:
            for name, values in self._data.read(slice(first, stop)).items():
                into[name][...] = values
        self._node.memory_barrier()
        self.ready[slot] = 1 if self.plan.holds_all else number + 1

    def are_ready(self, units: Array, numbers: Array) -> bool:
        """Return True if units are in their slots under these numbers; their rows may be read then."""
        if self.plan.holds_all:
            found = bool(self.ready[units].all())
        else:
            found = bool((self.ready[numbers % self.plan.slots] == numbers + 1).all())
        if found:
            self._node.memory_barrier()
        return found

    def take(self, rows: Array, units: Array, numbers: Array) -> Examples:
        """Return a copy of rows, whose units with these numbers are ready."""
        places = rows
        if not self.plan.holds_all:
            places = rows - self.plan.borders[units] + numbers % self.plan.slots * self.plan.slot_rows
        return Examples({name: column[places] for name, column in self.columns.items()})

    def finish(self, number: int) -> None:
        """Note that this rank needs no units before this number any more."""
        self._node.memory_barrier()
        self.done[self.index] = number

    def is_free(self, number: int) -> bool:
        """Return True if no rank needs what lies in the slot of a number."""
        return self.plan.holds_all or number - self.plan.slots < int(self.done.min())

    def clear(self) -> None:
        """Forget all units, if not all are held; collective among the ranks of all nodes, whose threads rest."""
        self._node.barrier()
        self.done[self.index] = 0
        if self.index == 0 and not self.plan.holds_all:
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
