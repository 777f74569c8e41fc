"""How many bytes the weights, the optimizer's vectors and the gradients of a run take on a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dbp.config.settings import TOP_K, Settings
from dbp.nn import RunningMoments
from dbp.parallel import Communicator, Layout, Shards


class MemoryNeeded(NamedTuple):
    """The bytes that the vectors of a run take.

    Args:
        once: those that the ranks of a node share.
        each: those that each rank needs in addition.
    """

    once: int
    each: int


def memory_needed(
    settings: Settings,
    comm: Communicator,
    layout: Layout,
    frozen: Layout,
    shards: Shards,
    running: Mapping[str, RunningMoments],
) -> MemoryNeeded:
    """Return the bytes that the vectors of a run take on this rank's node.

    Args:
        settings: of the run.
        comm: the ranks.
        layout: of the parameters.
        frozen: of those that are not trained.
        shards: of a mini-batch.
        running: the running moments.
    """
    method, itemsize, nodes = settings.optimizer, settings.numpy_dtype.itemsize, comm.nodes
    state = len(method.vectors) + len(method.scratch)
    held = -(-state // nodes.count) if settings.divide_state else state
    copied = 1 + len(method.vectors) if settings.out and nodes.mine == 0 else 0  # for checkpoints
    best = settings.early_stopping.keeps_best
    # A table is whole on each node, and its gradients are those of a few rows.
    tables = (1 + state + copied + best) * (layout.size - layout.dense.size)
    if settings.messages == TOP_K and nodes.count > 1:  # error feedback, before and after a step
        held += 2
        copied += nodes.count if copied else 0
    # A node holds the weights and the sum over nodes once; each rank holds a gradient of its own, or of each of its
    # shards if these are computed at once.
    shared = 1 + (nodes.count > 1) + held + copied + best
    at_once = any(moments.over_shards for moments in running.values())
    gradients = -(-shards.count // comm.size) if at_once else 1
    once = shared * layout.dense.size + tables + frozen.size
    return MemoryNeeded(once * itemsize, gradients * layout.dense.size * itemsize)
