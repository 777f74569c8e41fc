"""The setup of reading ahead: the division of the memory, and what the user should know of it."""

from __future__ import annotations

import numpy as np

from dbp.data import Dataset
from dbp.parallel import Communicator, memory_to_share
from dbp.reading.node_cache import NodeCache, Plan
from dbp.reading.order import ChunkOrder, RowOrder
from dbp.reading.read_ahead import EpochUnits, Orders, ReadAhead
from dbp.reading.subset import Subset

LEAST_SLOTS = 2  # with fewer, nothing can be read ahead


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
    whole = train.whole if isinstance(train, Subset) else train
    borders = getattr(whole, "borders", None)
    assert borders is not None
    plan = Plan.of(whole, borders, memory_to_share(comm) if memory is None else memory)
    order = orders(0)
    is_useful = plan.holds_all or (isinstance(order, ChunkOrder) and plan.slots >= LEAST_SLOTS)
    if not all(comm.gather(is_useful)):
        return None, (_too_little(plan),)
    cache = NodeCache.allocate(whole, plan, comm)
    if cache is None:
        reason = f"{comm.node.refusal}: chunks are not read ahead, and unpacked by each rank that needs rows of them"
        return None, (reason,)
    used = np.ones(len(borders) - 1, bool)
    if isinstance(train, Subset) and train.borders is not None:
        used = np.diff(train.borders) > 0
    stream = ReadAhead(comm, whole, cache, used, orders, epochs)
    return stream, _too_small(plan, order, used)


def _too_little(plan: Plan) -> str:
    chunks, all_rows = (rows * plan.row_bytes / 1e6 for rows in (LEAST_SLOTS * plan.slot_rows, plan.borders[-1]))
    return (
        "data.memory is too little to read ahead, so that each rank unpacks chunks for itself, again and again; raise "
        f"it: {LEAST_SLOTS} chunks take {chunks:,.3g} MB, and all of them, where rows are drawn one by one, "
        f"{all_rows:,.3g} MB"
    )


def _too_small(plan: Plan, order: RowOrder, used: np.ndarray) -> tuple[str, ...]:
    """Return a warning if a window takes more than half of the memory, so that the next one cannot be read ahead."""
    if plan.holds_all or not isinstance(order, ChunkOrder):
        return ()
    largest = max(len(order.units_in(window)) for window in range(order.windows))
    if 2 * largest <= plan.slots:
        return ()
    size, held = (count * plan.slot_rows * plan.row_bytes / 1e6 for count in (largest, plan.slots))
    left_out = EpochUnits(order, used, plan.slots).left_out
    all_windows = f"{left_out} of {order.windows} windows"
    slow = (
        f"{all_windows} are unpacked anew for each mini-batch, which is slow" if left_out else "the next is read late"
    )
    return (
        f"a window of the order takes {size:,.3g} MB, and data.memory holds {held:,.3g} MB, so that {slow}; raise "
        "data.memory to twice the window, or lower data.window, which changes the order",
    )
