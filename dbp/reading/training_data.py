"""The training examples of a run, from memory that a node's ranks fill ahead where the data lies in units."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from dbp.data import ArrayDataset, Dataset
from dbp.parallel import Communicator
from dbp.reading.order import RowOrder
from dbp.reading.subset import whole_of

if TYPE_CHECKING:
    from dbp.reading.read_ahead import ReadAhead

NOTHING_AHEAD = nullcontext()
Orders = Callable[[int], RowOrder]  # returns the order of an epoch


class TrainingData:
    """The training examples of a run.

    Attributes:
        whole: the data set that they are a part of, or all of; rows that are read from it may come from memory.
        warnings: what the user should know of the memory.

    Args:
        train: the training examples.
        stream: by which they are read ahead, if they are.
        warnings: what the user should know of the memory.
    """

    def __init__(self, train: Dataset, stream: ReadAhead | None = None, warnings: tuple[str, ...] = ()):
        self._stream, self.warnings = stream, warnings
        self.whole: Dataset = stream or whole_of(train)

    @classmethod
    def of(
        cls, comm: Communicator, train: Dataset, orders: Orders, epochs: int, memory: int | None = None
    ) -> TrainingData:
        """Return the training examples of a run; collective.

        Args:
            comm: the ranks.
            train: the examples: all of a data set, or a Subset.
            orders: returns the order of an epoch; may be called by another thread.
            epochs: of the run.
            memory: bytes that unpacked rows may take on a node; by default a part of what is free.
        """
        whole = whole_of(train)
        if getattr(whole, "borders", None) is None:
            return cls(train)
        from dbp.reading.setup import read_ahead  # which other data do not need

        stream, warnings = read_ahead(comm, train, orders, epochs, memory)
        return cls(train, stream, warnings)

    def batch(self, order: RowOrder, epoch: int, positions: range) -> AbstractContextManager[None]:
        """Return the context in which a mini-batch is read; see ReadAhead."""
        return NOTHING_AHEAD if self._stream is None else self._stream.batch(order, epoch, positions)

    def advice(self, nodes: int) -> str:
        """Return what makes reading quicker for a run on so many nodes; "" for arrays, which no disk holds up."""
        if isinstance(self.whole, ArrayDataset):
            return ""
        if self._stream is None:
            return "put the data on a quicker disk" + ", or use fewer nodes" * (nodes > 1)
        if self._stream.holds_all:
            return "dbp convert writes the data in one piece, which needs no unpacking"
        return "raise data.memory until it holds all rows, or let dbp convert write the data in one piece"

    def close(self) -> None:
        """Read nothing ahead any more."""
        if self._stream is not None:
            self._stream.close()
