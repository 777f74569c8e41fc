"""The interface of sums over all shards: what goes in, what comes out, and what every such sum can do."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.parallel.machine.shared_memory import private_memory
from dbp.parallel.sums.summation_tree import TreeSum
from dbp.types import Array


class SumBuffer:
    """What is summed over shards: a vector in the run's precision, and a few scalars in float64.

    Both lie in one block of bytes, so that one message carries them.

    Args:
        size: length of the vector.
        dtype: type of the vector.
        scalars: number of scalars.
        memory: where they lie; by default in new memory.

    Attributes:
        bytes: all of the memory.
        vector: its first part, in the run's precision.
        scalars: its last part, in float64.
    """

    def __init__(self, size: int, dtype: Any, scalars: int, memory: np.ndarray[Any, Any] | None = None):
        self.bytes = private_memory(self.length(size, dtype, scalars)) if memory is None else memory
        self.vector = self.bytes[: size * np.dtype(dtype).itemsize].view(dtype)
        self.scalars = self.bytes[len(self.bytes) - 8 * scalars :].view(np.float64)

    @staticmethod
    def length(size: int, dtype: Any, scalars: int) -> int:
        """Return the length in bytes; the scalars begin at a multiple of 8."""
        return -(-size * int(np.dtype(dtype).itemsize) // 8) * 8 + 8 * scalars

    def __iadd__(self, other: SumBuffer) -> SumBuffer:
        self.vector += other.vector
        self.scalars += other.scalars
        return self


class Arriving(Protocol):
    """A vector that is known to be finite before all of it has arrived; it arrives from its end to its beginning.

    The same protocol stands in optim/protocols.py, as parallel/ and optim/ do not import each other.
    """

    def wait_for(self, part: slice) -> None:
        """Return when this part of the vector has arrived."""
        ...

    def complete(self) -> None:
        """Wait for all of it, unless that is done; collective, and to be called before any other collective call."""
        ...


class Total(NamedTuple):
    """The sum over all shards.

    Args:
        vector: the sum, or the mean if a divisor was given.
        scalars: the sums of the scalars.
        finite: True if every element of the vector is finite.
        stop_requested: True if a rank has asked all ranks to stop; see Communicator.asks.
        arriving: the vector on its way; wait for each part before reading it. None if the vector is complete.
    """

    vector: Array
    scalars: Array
    finite: bool
    stop_requested: bool = False
    arriving: Arriving | None = None


class VectorSum(Protocol):
    """A sum over the shards of all ranks, along the fixed tree: start(), one buffer() a shard, total()."""

    def start(self) -> TreeSum[SumBuffer]:
        """Start a new sum; return the sum over this rank's shards, to which each shard pushes its buffer."""
        ...

    def buffer(self) -> SumBuffer:
        """Return a buffer for the next shard's sums; its content is arbitrary."""
        ...

    def total(self, mine: TreeSum[SumBuffer], divisor: int | None = None) -> Total:
        """Return the sum over the shards of all ranks, the same bits on every rank; collective.

        The vector is complete where this rank owns it, and valid until the next sum is started.

        Args:
            mine: the sum over this rank's shards.
            divisor: the index of the scalar by whose sum the vector is divided, unless that sum is zero.
        """
        ...

    def is_total(self, vector: Array) -> bool:
        """Return True if this is the vector of a total, which the next sum overwrites."""
        ...

    def free(self) -> None:
        """Give back memory that ranks share; collective. Totals must not be used any more."""
        ...
