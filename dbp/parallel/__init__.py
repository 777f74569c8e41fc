"""The ranks of a run, the shards they compute, and the sum over all of them."""

from dbp.parallel.machine.cores import Place, processor, usable_cores
from dbp.parallel.machine.threads import blas_threads
from dbp.parallel.ranks.agreement import differing, must_be_alike
from dbp.parallel.ranks.clock import Stage, StageClock
from dbp.parallel.ranks.comm import Communicator, OneProcess, RankLostError
from dbp.parallel.ranks.faults import agree, all_leave, from_rank_0, tell, together
from dbp.parallel.ranks.launcher import launched_by_mpi
from dbp.parallel.ranks.memory import keep_freed_memory, must_fit
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.placement import Node, complaints, hints, nodes_of, threads_for
from dbp.parallel.ranks.watchdog import Watchdog
from dbp.parallel.ranks.world import HOW_TO_GET_MPI, communicator_for_errors, survivors, world
from dbp.parallel.shards import Shards, parts
from dbp.parallel.sums.error_feedback import ErrorFeedback, Residuals
from dbp.parallel.sums.gradients import GradientSum
from dbp.parallel.sums.multi_node_sum import MultiNodeSum
from dbp.parallel.sums.plain_sum import PlainSum
from dbp.parallel.sums.selection import vector_sum_for
from dbp.parallel.sums.shared_memory_sum import SharedMemorySum
from dbp.parallel.sums.summation_tree import TreeSum
from dbp.parallel.sums.top_k import wire_for
from dbp.parallel.sums.vector_sum import Arriving, SumBuffer, Total, VectorSum
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.copies import Copies
from dbp.parallel.vectors.layout import Layout
from dbp.parallel.vectors.replicas import difference

__all__ = [
    "HOW_TO_GET_MPI",
    "Arena",
    "Arriving",
    "Communicator",
    "Copies",
    "ErrorFeedback",
    "GradientSum",
    "Layout",
    "MultiNodeSum",
    "Node",
    "Nodes",
    "OneProcess",
    "Place",
    "PlainSum",
    "RankLostError",
    "Residuals",
    "Shards",
    "SharedMemorySum",
    "Stage",
    "StageClock",
    "SumBuffer",
    "Total",
    "TreeSum",
    "VectorSum",
    "Watchdog",
    "agree",
    "all_leave",
    "blas_threads",
    "communicator_for_errors",
    "complaints",
    "difference",
    "differing",
    "from_rank_0",
    "hints",
    "keep_freed_memory",
    "launched_by_mpi",
    "must_be_alike",
    "must_fit",
    "nodes_of",
    "parts",
    "processor",
    "survivors",
    "tell",
    "threads_for",
    "together",
    "usable_cores",
    "vector_sum_for",
    "wire_for",
    "world",
]
