"""The division of a table's rows among the ranks that share it: who updates which rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dbp.parallel.vectors.layout import RowTable
from dbp.types import Array

LEAST_ELEMENTS = 2048  # of a chunk: ranks seldom write to one page, and copies of chunks are fast
LEAST_OF_WHOLE_TABLES = 65536  # elements of a chunk of a table that is updated whole, block by block
MOST_CHUNKS = 4096  # of a table


@dataclass(frozen=True)
class RowDeal:
    """A table whose rows are dealt in chunks, to one rank after the other.

    Rows that are used often may lie beside each other, as those of words in the order of their frequency do: in
    chunks all ranks have their share of them. Chunks are the same for any number of ranks.

    Args:
        table: of the rows.
        ranks: how many update the table.
        position: of this rank among them.
    """

    table: RowTable
    ranks: int
    position: int

    @cached_property
    def _rows(self) -> int:
        """Return the number of rows of a chunk."""
        least = LEAST_ELEMENTS if self.table.sparse else LEAST_OF_WHOLE_TABLES
        return max(1, -(-least // self.table.units), -(-self.table.rows // MOST_CHUNKS))

    @property
    def chunks(self) -> int:
        """Return the number of chunks."""
        return -(-self.table.rows // self._rows)

    @cached_property
    def parts(self) -> list[slice]:
        """Return the parts of a flat vector that this rank updates."""
        table, length = self.table, self._rows * self.table.units
        if self.ranks == 1:
            return [table.part]
        starts = range(table.start + self.position * length, table.part.stop, self.ranks * length)
        return [slice(start, min(start + length, table.part.stop)) for start in starts]

    def chunk_of(self, numbers: Array) -> Array:
        """Return the chunks in which rows lie, given their numbers."""
        return numbers // self._rows

    def mine(self, numbers: Array) -> Array:
        """Return which of these rows this rank updates, as booleans."""
        mine: Array = self.chunk_of(numbers) % self.ranks == self.position
        return mine
