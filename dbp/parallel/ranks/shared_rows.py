"""Rows of which each rank computes some and all ranks read all: in memory that they share, or by messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from dbp.parallel.machine.shared_memory import Bytes
from dbp.parallel.ranks.comm import Communicator
from dbp.types import Array, Shape

WORD = 8  # bytes of which messages are multiples


class SharedRows:
    """The rows of all ranks, round after round; collective.

    Args:
        comm: the ranks.
        rows: the most that all ranks compute in one round.
        shape: of a row.
        dtype: of its numbers.
        name: of these rows; objects of one name have the same memory, so that they must not be used in turn.
    """

    def __init__(self, comm: Communicator, rows: int, shape: Shape, dtype: np.dtype[Any], name: str = ""):
        self._comm, self._shape, self._dtype = comm, shape, dtype
        length = rows * math.prod(shape) * dtype.itemsize
        # Two take turns, so that a fast rank does not overwrite what a slow one reads.
        memory = _shared_memory(comm, name, 2 * length)
        halves = [] if memory is None else [memory[:length], memory[length : 2 * length]]
        self._memory = [half.view(dtype).reshape(-1, *shape) for half in halves]

    def all(self, mine: Sequence[Array], counts: Sequence[int]) -> Array:
        """Return the rows of all ranks in the order of ranks, valid until the next call.

        Args:
            mine: arrays of this rank's rows, in their order.
            counts: how many rows each rank has.
        """
        if self._comm.size == len(mine) == 1:
            return mine[0]
        borders = [0, *accumulate(counts)]
        if not self._memory:
            return self._gathered(mine, borders)
        self._memory.reverse()
        found, start = self._memory[0][: borders[-1]], borders[self._comm.rank]
        for array in mine:
            found[start : start + len(array)] = array
            start += len(array)
        self._comm.node.barrier()
        return found

    def _gathered(self, mine: Sequence[Array], borders: Sequence[int]) -> Array:
        """Return the rows of all ranks, which have come in messages."""
        row_bytes = math.prod(self._shape) * self._dtype.itemsize
        sizes = [(stop - start) * row_bytes for start, stop in pairwise(borders)]
        counts = [-(-size // WORD) * WORD for size in sizes]
        sent, everyones = np.zeros(counts[self._comm.rank], np.uint8), np.empty(sum(counts), np.uint8)
        own = sent[: sizes[self._comm.rank]].view(self._dtype).reshape(-1, *self._shape)
        np.concatenate([own[:0], *mine], out=own)
        self._comm.gather_bytes(sent, everyones, counts)
        starts = [0, *accumulate(counts)]
        pieces = [everyones[start : start + size] for start, size in zip(starts, sizes, strict=False)]
        return np.concatenate(pieces).view(self._dtype).reshape(-1, *self._shape)


# By name, as fetching new pages takes longer than using them.
_kept: WeakKeyDictionary[Communicator, dict[str, Bytes]] = WeakKeyDictionary()


def _shared_memory(comm: Communicator, name: str, length: int) -> Bytes | None:
    """Return so many bytes that all ranks share, again the same; None if they are on several nodes; collective."""
    if comm.size == 1 or comm.nodes.count > 1:
        return None
    kept = _kept.setdefault(comm, {})
    if name not in kept or len(kept[name]) < length:
        if (memory := comm.node.allocate(length)) is None:
            return None
        kept[name] = memory.bytes
    return kept[name]
