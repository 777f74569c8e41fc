"""The ranks of a run, the shards they compute, and the sum over all of them."""

from dbp.parallel.machine.cores import CpuBinding, hardware_threads, processor, usable_cores
from dbp.parallel.machine.kernels import Kernels
from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.agreement import check_equal_on_ranks, differences
from dbp.parallel.ranks.clock import Stage, StageClock
from dbp.parallel.ranks.comm import Communicator, OneProcess, RankLostError, no_request
from dbp.parallel.ranks.faults import (
    abort_on_error,
    agree,
    agree_and_gather,
    from_rank_0,
    is_on_all_ranks,
    report_failure,
)
from dbp.parallel.ranks.memory import check_memory, free_memory, keep_freed_memory, reuse_freed_memory
from dbp.parallel.ranks.messages import gather_on_rank_0
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.placement import Node, nodes_of, placement_hints, placement_warnings, threads_per_rank
from dbp.parallel.ranks.shared_rows import SharedRows
from dbp.parallel.ranks.shared_value import shared_from_rank_0
from dbp.parallel.ranks.watchdog import END_AFTER, WARN_AFTER
from dbp.parallel.ranks.world import (
    HOW_TO_GET_MPI,
    START_SECONDS,
    LaunchedRank,
    communicator_for_errors,
    end_script,
    is_connected,
    on_one_rank,
    ranks_of_job,
    survivors,
    watched,
    world,
)
from dbp.parallel.shards import Shards, parts
from dbp.parallel.sums.error_feedback import ErrorFeedback, Residuals
from dbp.parallel.sums.gradients import EXAMPLE_WEIGHT, GradientSum
from dbp.parallel.sums.multi_node_sum import MultiNodeSum
from dbp.parallel.sums.plain_sum import PlainSum
from dbp.parallel.sums.row_sum import Rows, RowSum, no_rows
from dbp.parallel.sums.selection import vector_sum_for
from dbp.parallel.sums.shard_allreduce import ShardAllreduce, passes
from dbp.parallel.sums.shared_memory_sum import SharedMemorySum
from dbp.parallel.sums.summation_tree import TreeSum
from dbp.parallel.sums.top_k import wire_for
from dbp.parallel.sums.vector_sum import Arriving, SumBuffer, Total, VectorSum
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.copies import Copies
from dbp.parallel.vectors.layout import Layout, RowTable
from dbp.parallel.vectors.replicas import check_nodes_agree

__all__ = [
    "END_AFTER",
    "EXAMPLE_WEIGHT",
    "HOW_TO_GET_MPI",
    "START_SECONDS",
    "WARN_AFTER",
    "Arena",
    "Arriving",
    "Communicator",
    "Copies",
    "CpuBinding",
    "ErrorFeedback",
    "GradientSum",
    "Kernels",
    "LaunchedRank",
    "Layout",
    "MultiNodeSum",
    "Node",
    "Nodes",
    "OneProcess",
    "PlainSum",
    "RankLostError",
    "Residuals",
    "RowSum",
    "RowTable",
    "Rows",
    "ShardAllreduce",
    "Shards",
    "SharedMemory",
    "SharedMemorySum",
    "SharedRows",
    "Stage",
    "StageClock",
    "SumBuffer",
    "Total",
    "TreeSum",
    "VectorSum",
    "abort_on_error",
    "agree",
    "agree_and_gather",
    "check_equal_on_ranks",
    "check_memory",
    "check_nodes_agree",
    "communicator_for_errors",
    "differences",
    "end_script",
    "free_memory",
    "from_rank_0",
    "gather_on_rank_0",
    "hardware_threads",
    "is_connected",
    "is_on_all_ranks",
    "keep_freed_memory",
    "no_request",
    "no_rows",
    "nodes_of",
    "on_one_rank",
    "parts",
    "passes",
    "placement_hints",
    "placement_warnings",
    "processor",
    "ranks_of_job",
    "report_failure",
    "reuse_freed_memory",
    "shared_from_rank_0",
    "survivors",
    "threads_per_rank",
    "usable_cores",
    "vector_sum_for",
    "watched",
    "wire_for",
    "world",
]
