"""Recovery after ranks die: which ranks live, and the state that they continue from."""

from __future__ import annotations

from dataclasses import replace

from dbp.config.settings import Watch
from dbp.errors import NOT_FINISHED, Stopped
from dbp.log import run_log
from dbp.parallel import Communicator, RankLostError, survivors
from dbp.run.run import Run
from dbp.run.snapshot import Snapshot
from dbp.terminal import write_error


def recover(
    watch: Watch, error: RankLostError, run: Run | None, before: Snapshot | None
) -> tuple[Communicator, Snapshot | None]:
    """Return the communicator of the living ranks and the state to continue from; collective among them.

    The state is empty on other ranks than 0, and None on rank 0 if it is not in memory.

    Args:
        watch: how many ranks must live, and how long they may take to come together.
        error: the error that reported the death.
        run: this rank's part of the run, if it had begun.
        before: the state that the run was about to begin with.

    Raises:
        Stopped: too few ranks live.
    """
    comm = survivors(watch.recover_within)
    snapshot: Snapshot | None = Snapshot()
    if comm.rank == 0:
        if run is not None:
            snapshot = snapshot_in_memory(run)
        else:
            snapshot = before if before is not None and before.is_held else None
    for free in error.left:
        free()
    enough = comm.size >= watch.least_ranks
    if comm.rank == 0:
        warning = f"warning: {_summary(comm, watch.least_ranks, enough, snapshot is not None)}"
        run_log.write(warning)
        write_error(warning)
    if not enough:
        raise Stopped(NOT_FINISHED)
    return comm, snapshot


def snapshot_in_memory(run: Run) -> Snapshot | None:
    """Return the run's state as this rank has it; None if that is not the complete state after a step.

    It is incomplete if a rank died during an update, and if gradients have error feedback, of which each rank holds
    a part.
    """
    if not run.arena.is_consistent or run.objective.gradients.residual_count:
        return None
    snapshot = Snapshot.of(run)
    # A run that had come to its end has not saved that yet.
    return replace(snapshot, progress={**snapshot.progress, "finished": False})


def _summary(comm: Communicator, least: int, enough: bool, in_memory: bool) -> str:
    """Return who has died, and what happens now."""
    lost = comm.survival.lost
    count = len(lost)
    died = f"rank{'s' * (count > 1)} {', '.join(map(str, lost))} died, {comm.size} of {comm.size + count} live"
    if not enough:
        return f"{died}: too few, as watch.least_ranks is {least}; the same command resumes from the last checkpoint"
    return f"{died}: they resume from {'memory' if in_memory else 'the last checkpoint'}"
