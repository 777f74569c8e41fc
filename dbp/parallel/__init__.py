"""The ranks of a run, the shards they compute, and the sum over all of them."""

from dbp.parallel.arena import Layout
from dbp.parallel.comm import Communicator, MPICommunicator, OneProcess
from dbp.parallel.faults import agree, from_rank_0, tell, together
from dbp.parallel.reduce import Reduction, Sums, TreeSum
from dbp.parallel.shards import Shards, parts
from dbp.parallel.threads import blas_threads
from dbp.parallel.world import HOW_TO_GET_MPI, communicator_for_errors, world

__all__ = [
    "HOW_TO_GET_MPI",
    "Communicator",
    "Layout",
    "MPICommunicator",
    "OneProcess",
    "Reduction",
    "Shards",
    "Sums",
    "TreeSum",
    "agree",
    "blas_threads",
    "communicator_for_errors",
    "from_rank_0",
    "parts",
    "tell",
    "together",
    "world",
]
