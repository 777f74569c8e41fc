"""The ranks of a run, the shards they compute, and the sum over all of them."""

from dbp.parallel.agreement import differing, must_be_alike
from dbp.parallel.arena import Arena
from dbp.parallel.comm import Communicator, OneProcess, RankLostError
from dbp.parallel.copies import Copies
from dbp.parallel.cores import Place, processor, usable_cores
from dbp.parallel.deal import Nodes
from dbp.parallel.faults import agree, all_leave, from_rank_0, tell, together
from dbp.parallel.guard import difference
from dbp.parallel.launcher import launched_by_mpi
from dbp.parallel.layout import Layout
from dbp.parallel.memory import keep_freed_memory, must_fit
from dbp.parallel.nodes import Node, complaints, hints, nodes_of, threads_for
from dbp.parallel.reduce import Arriving, Reduction, Sums, Total
from dbp.parallel.reduce_shared import SharedReduction, reduction_for
from dbp.parallel.shards import Shards, parts
from dbp.parallel.stages import Stages
from dbp.parallel.threads import blas_threads
from dbp.parallel.top_k import wire_for
from dbp.parallel.tree import TreeSum
from dbp.parallel.unsent import Unsent
from dbp.parallel.vectors import Vectors
from dbp.parallel.watch import Watch
from dbp.parallel.world import HOW_TO_GET_MPI, communicator_for_errors, survivors, world

__all__ = [
    "HOW_TO_GET_MPI",
    "Arena",
    "Arriving",
    "Communicator",
    "Copies",
    "Layout",
    "Node",
    "Nodes",
    "OneProcess",
    "Place",
    "RankLostError",
    "Reduction",
    "Shards",
    "SharedReduction",
    "Stages",
    "Sums",
    "Total",
    "TreeSum",
    "Unsent",
    "Vectors",
    "Watch",
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
    "reduction_for",
    "survivors",
    "tell",
    "threads_for",
    "together",
    "usable_cores",
    "wire_for",
    "world",
]
