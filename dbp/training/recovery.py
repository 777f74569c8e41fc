"""When ranks have died and others live: who they are, and the state that they go on from."""

from __future__ import annotations

import sys

from dbp.config.settings import Watching
from dbp.errors import NOT_FINISHED, Stopped
from dbp.log import run_log
from dbp.parallel import Communicator, RankLostError, survivors
from dbp.run.state import Run
from dbp.saving.restore import Memory


def go_on_without(
    watch: Watching, error: RankLostError, run: Run | None, before: Memory | None
) -> tuple[Communicator, Memory | None]:
    """The ranks that live, and the state to go on from, None on rank 0 if it has none; Stopped if they are too few.

    Args:
        watch: how many must live, and how long they may take.
        error: by which this rank has learnt of the death.
        run: what this rank holds of it, if it had begun.
        before: the state from which it was about to begin.
    """
    comm = survivors(watch.recover_within)
    memory: Memory | None = Memory()
    if comm.rank == 0:
        memory = Memory.of(run) if run is not None else before if before is not None and before.held else None
    for free in error.left:
        free()
    enough = comm.size >= watch.least_ranks
    if comm.rank == 0:
        warning = f"warning: {_told(comm, watch.least_ranks, enough, memory is not None)}"
        run_log.tell(warning)
        sys.stderr.write(f"{warning}\n")
        sys.stderr.flush()
    if not enough:
        raise Stopped(NOT_FINISHED)
    return comm, memory


def _told(comm: Communicator, least: int, enough: bool, in_memory: bool) -> str:
    """Who has died, and what happens now."""
    count = len(comm.lost)
    died = f"rank{'s' * (count > 1)} {', '.join(map(str, comm.lost))} died, {comm.size} of {comm.size + count} live"
    if not enough:
        return f"{died}: too few, as watch.least_ranks is {least}; the same command goes on from the last checkpoint"
    return f"{died}: they go on from {'memory' if in_memory else 'the last checkpoint'}"
