"""The setup of reading ahead: the division of the memory, and what the user should know of it."""

from __future__ import annotations

import math

import numpy as np

from dbp.data import Dataset
from dbp.parallel import Communicator, free_memory
from dbp.reading.epoch_loads import EpochLoads
from dbp.reading.node_cache import NodeCache, Plan
from dbp.reading.order import ChunkOrder, RowOrder
from dbp.reading.read_ahead import Orders, ReadAhead
from dbp.reading.subset import Subset, whole_of
from dbp.types import Array

LEAST_SLOTS = 2  # with fewer, nothing can be read ahead
FREE_PART, SHARED_PART = 0.5, 0.8  # of the free memory, and of what can be shared of it, that data takes by default


def read_ahead(
    comm: Communicator, train: Dataset, orders: Orders, epochs: int, memory: int | None
) -> tuple[ReadAhead | None, tuple[str, ...]]:
    """Return the data set that reads training examples ahead, or None if it cannot, and warnings; collective.

    Args:
        comm: the ranks.
        train: the examples: all of a data set in units, or a Subset of it.
        orders: returns the order of an epoch; may be called by another thread.
        epochs: of the run.
        memory: bytes that unpacked rows may take on a node; by default a part of what is free.
    """
    whole = whole_of(train)
    borders, order = getattr(whole, "borders", None), orders(0)
    assert borders is not None
    used = np.ones(len(borders) - 1, bool)
    if isinstance(train, Subset) and train.borders is not None:
        used = np.diff(train.borders) > 0
    cache, warnings = _cache(comm, whole, borders, _largest_window(order), memory)
    if cache is None:
        return None, warnings
    rows_of_whole = train.rows_of_whole if isinstance(train, Subset) else np.asarray
    stream = ReadAhead(comm, whole, cache, used, orders, epochs, rows_of_whole)
    return stream, (*warnings, *_too_small(cache, order))


def _cache(
    comm: Communicator, data: Dataset, borders: Array, window: float, memory: int | None
) -> tuple[NodeCache | None, tuple[str, ...]]:
    """Return memory for units, if there is enough for what the order needs, and warnings; collective.

    The ranks of a node share it. If little can be shared, as in some containers, each rank has memory of its own.
    """
    free, can_share = free_memory(comm)
    limit, ranks = int(FREE_PART * free) if memory is None else memory, comm.nodes.sizes[comm.nodes.mine]
    plan = Plan.of(data, borders, limit, ranks)
    if not all(comm.gather(_is_useful(plan, window))):
        return None, (_too_little(plan),)
    if (cache := NodeCache.allocate(data, plan, comm)) is not None:
        return cache, ()
    reason = f"{comm.node.refusal} to share unpacked data, so that each rank unpacks what it needs for itself"
    plan = Plan.of(data, borders, min(limit, int(SHARED_PART * can_share)), ranks)
    is_enough = plan.holds_all or window <= plan.slots
    if all(comm.gather(is_enough)) and (cache := NodeCache.allocate(data, plan, comm)) is not None:
        return cache, ()
    plan = Plan.of(data, borders, limit // ranks, 1)
    if not all(comm.gather(_is_useful(plan, window))):
        return None, (reason, _too_little(plan))
    return NodeCache.private(data, plan, comm), (reason,)


def _is_useful(plan: Plan, window: float) -> bool:
    return plan.holds_all or (window < math.inf and plan.slots >= LEAST_SLOTS)


def _largest_window(order: RowOrder) -> float:
    """Return the most units of a window of an epoch; infinity if rows are drawn one by one, from all units."""
    return int(order.unit_counts.max()) if isinstance(order, ChunkOrder) else math.inf


def _too_little(plan: Plan) -> str:
    chunks, all_rows = LEAST_SLOTS * plan.slot_bytes / 1e6, plan.total_bytes / 1e6
    return (
        "data.memory is too little to read ahead, so that each rank unpacks chunks for itself, again and again; raise "
        f"it: {LEAST_SLOTS} chunks take {chunks:,.3g} MB, and all of them, where rows are drawn one by one, "
        f"{all_rows:,.3g} MB"
    )


def _too_small(cache: NodeCache, order: RowOrder) -> tuple[str, ...]:
    """Return a warning if a window takes more than half of the memory, so that the next one cannot be read ahead."""
    plan, largest = cache.plan, _largest_window(order)
    if plan.holds_all or 2 * largest <= plan.slots:
        return ()
    assert isinstance(order, ChunkOrder)
    size, held = (count * plan.slot_bytes / 1e6 for count in (largest, plan.slots))
    loads = EpochLoads(order, len(plan.borders) - 1, plan.slots, plan.collected_rows(cache.ranks))
    if loads.left_out:
        which = (
            "it is"
            if order.windows == 1
            else f"{loads.left_out} of {order.windows} windows " + ("is" if loads.left_out == 1 else "are")
        )
        slow = f"{which} unpacked anew for each mini-batch, which is slow"
    elif loads.reads.max() > 1:
        slow = f"its chunks are unpacked up to {loads.reads.max()} times an epoch"
    else:
        slow = "the next is read late"
    return (
        f"a window of the order takes {size:,.3g} MB, and data.memory holds {held:,.3g} MB, so that {slow}; raise "
        "data.memory to twice the window, or lower data.window, which changes the order",
    )
