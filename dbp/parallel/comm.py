"""The ranks of a run: MPI's, or one process where there is no MPI. The only file that knows mpi4py."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class Communicator(ABC):
    """What the ranks say to each other. All methods but abort are collective: every rank calls them."""

    rank: int
    size: int
    description: str

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Rank 0's value (any object), on every rank."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (any object), in the order of ranks, on every rank."""

    @abstractmethod
    def broadcast_array(self, array: NDArray[Any]) -> None:
        """Rank 0's array, written into that of every rank (same shape and type everywhere)."""

    @abstractmethod
    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """Every rank's bytes one after the other; counts[r] of them from rank r."""

    @abstractmethod
    def finalize(self) -> None:
        """Nothing more will be said; every rank calls this last."""

    @abstractmethod
    def abort(self, code: int) -> None:
        """End all ranks at once."""


class OneProcess(Communicator):
    """One rank, without MPI."""

    size = 1

    def __init__(self, description: str = "one process", rank: int = 0):
        self.description, self.rank = description, rank

    def broadcast(self, value: Any) -> Any:
        """The value."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def broadcast_array(self, array: NDArray[Any]) -> None:
        """Nothing to do."""

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:  # noqa: ARG002
        """A copy."""
        everyones[:] = mine

    def finalize(self) -> None:
        """Nothing to do."""

    def abort(self, code: int) -> None:
        """Leave at once."""
        os._exit(code)


class MPICommunicator(Communicator):
    """The ranks that MPI started together."""

    def __init__(self, mpi: Any):
        self._mpi, self._comm = mpi, mpi.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        vendor, version = mpi.get_vendor()
        self.description = f"{vendor} {'.'.join(map(str, version))}"

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, pickled."""
        return self._comm.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Everyone's values, pickled."""
        return list(self._comm.allgather(value))

    def broadcast_array(self, array: NDArray[Any]) -> None:
        """In pieces, as a message holds at most 2 GiB in some MPI libraries."""
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, 1 << 30):
            self._comm.Bcast(flat[start : start + (1 << 30)])

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """One Allgatherv; counts are in units of 8 bytes there, so that 16 GiB fit."""
        words = [count // 8 for count in counts]
        starts = [sum(words[:r]) for r in range(self.size)]
        receive = [everyones.view(np.uint64), (words, starts), self._mpi.UINT64_T]
        self._comm.Allgatherv([mine.view(np.uint64), self._mpi.UINT64_T], receive)

    def finalize(self) -> None:
        """MPI_Finalize."""
        self._mpi.Finalize()

    def abort(self, code: int) -> None:
        """MPI_Abort: the launcher ends all ranks."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)


def mpi_communicator() -> Communicator:
    """All ranks that MPI knows of; one process where no MPI library is installed."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return OneProcess("one process, no MPI library found")
    return MPICommunicator(MPI)
