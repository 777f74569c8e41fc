"""The resources that the ranks of one node share: memory, and a barrier that orders what they write to it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory, memory_barrier


class NodeGroup(ABC):
    """The ranks of this rank's node. Methods are collective among the ranks of all nodes, unless they say otherwise."""

    refusal: str = ""  # why shared memory could not be had, the last time that it was asked for

    @abstractmethod
    def allocate(self, length: int) -> SharedMemory | None:
        """Return shared memory for the ranks of each node, or None, on all ranks, if one node has too little.

        Args:
            length: bytes, which may differ between nodes.
        """

    @abstractmethod
    def barrier(self) -> None:
        """Wait for the ranks of this node. After it each sees what any of them wrote to shared memory before it."""

    def memory_barrier(self) -> None:
        """Order what this rank reads from and writes to shared memory before and after it; not collective."""
        memory_barrier()


class SingleRank(NodeGroup):
    """A node of one rank."""

    def allocate(self, length: int) -> SharedMemory | None:
        """Return memory of this process."""
        return SharedMemory(np.zeros(length, np.uint8))

    def barrier(self) -> None:
        """Return: there is nobody to wait for."""
