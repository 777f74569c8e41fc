"""The ranks of a node under MPI: files in memory that all of them map, and a barrier by counters in such a file."""

from __future__ import annotations

from collections.abc import Callable

from dbp.parallel.machine.shared_memory import SharedFile, SharedMemory
from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.connections import Connections
from dbp.parallel.ranks.mpi_calls import MPICalls
from dbp.parallel.ranks.node_barrier import NodeBarrier
from dbp.parallel.ranks.node_group import NodeGroup


class MPINode(NodeGroup):
    """The ranks of this rank's node.

    Args:
        comm: all ranks.
        calls: of this rank to MPI.
        connections: MPI's communicators.
        name: of the node's files in memory, where they need one; unique on the machine.
    """

    def __init__(self, comm: Communicator, calls: MPICalls, connections: Connections, name: str):
        self._comm, self._calls, self._ranks = comm, calls, connections.node
        self._name, self._files = name, 0
        self._counters: NodeBarrier | None = None  # as soon as the ranks of a node share memory
        self._sleep: Callable[[float], None] | None = None

    def allocate(self, length: int) -> SharedMemory | None:
        """Map a file that a node's first rank creates; its pages lie near the rank that writes to them first."""
        self._comm.barrier()  # all have freed what they had to free, so the free memory is known
        memory = self._shared(length)
        if memory is not None and self._counters is None:
            ranks = self._ranks.Get_size()
            if counters := self._shared(NodeBarrier.length(ranks)):
                self._counters = NodeBarrier(counters, ranks, self._ranks.Get_rank())
                if self._counters.can_sleep and self._comm.nodes.count == 1:  # else messages wait for this rank too
                    self._sleep = self._counters.sleep
        return memory

    def _shared(self, length: int) -> SharedMemory | None:
        """Return the memory of a file, without a name if the others can open it without."""
        self._files += 1
        return self._mapped(SharedFile(length)) or self._mapped(SharedFile(length, f"{self._name}-{self._files}"))

    def _mapped(self, file: SharedFile) -> SharedMemory | None:
        """Return the memory of a file, if all ranks of all nodes have theirs."""
        try:
            created = self._comm.gather(file.create() if self._ranks.Get_rank() == 0 else None)
            problems = [where.problem for where in created if where is not None]
            if not any(problems):
                nodes = self._comm.nodes
                problems = self._comm.gather(file.map(created[nodes.runs[nodes.mine][0]]))
        finally:
            file.close()
        if short := [text for text in problems if text]:
            self.refusal = short[0]
            return None
        return file.memory

    def barrier(self) -> None:
        """Wait at the counters, between two memory barriers; by MPI_Ibarrier where no memory is shared."""
        self.memory_barrier()
        if self._counters is None:
            self._calls.complete(self._ranks.Ibarrier)
        else:
            self._counters.arrive()
            self._calls.wait_until(self._have_all_arrived, sleep=self._sleep)
        self.memory_barrier()

    def _have_all_arrived(self) -> bool:
        """Look at the counters; let MPI progress messages to other nodes meanwhile."""
        assert self._counters is not None
        if self._counters.has_passed():
            return True
        if self._comm.nodes.count > 1:
            self._calls.probe()
        return False
