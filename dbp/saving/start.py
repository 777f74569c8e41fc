"""How a run starts: what the user asks for, the limits of its batch job, and what its checkpoint decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from dbp.config.settings import AUTO_THREADS, Settings
from dbp.errors import INTERRUPTED, NOT_FINISHED, Interrupted, PassStoppedError, Stopped
from dbp.job import Job
from dbp.parallel import Communicator, Node, threads_per_rank
from dbp.saving.checkpoint_info import CheckpointInfo
from dbp.saving.stopping import INTERRUPT, signals
from dbp.text import TIME_OF_JOB

SPARE_SECONDS = 10.0  # at the end of a batch job, left for its script


@dataclass(frozen=True)
class Start:
    """The way in which a run starts.

    Args:
        fresh: start over; the checkpoints of an earlier run in its folder are moved aside.
        overwrite: with fresh, delete those checkpoints instead.
        quiet: print nothing.
        retry: start even if the run has ended several times before its next checkpoint.
        accept: keys of settings that may differ from those of the checkpoint, besides those that always may.
        time_limit: seconds from the start of the process by which the run must have stopped; "auto" for the time that
            the batch job has left; None for no limit.
        job_lines: lines about the batch job.
        ranks: ranks at the start of the job, of which some may have died since.
        listeners: Listeners that rank 0 calls with the events of the run.
        trace: the first and the last of the steps that are recorded for trace.json; None for none.
    """

    fresh: bool = False
    overwrite: bool = False
    quiet: bool = False
    retry: bool = False
    accept: tuple[str, ...] = ()
    time_limit: float | str | None = None
    job_lines: tuple[str, ...] = ()
    ranks: int = 0
    listeners: tuple[Any, ...] = ()
    trace: tuple[int, int] | None = None

    @property
    def limit(self) -> float | None:
        """Return the time limit in seconds; "auto" must have been replaced by now."""
        assert not isinstance(self.time_limit, str)
        return self.time_limit


def in_job(settings: Settings, start: Start, job: Job | None, left: float | None) -> tuple[Settings, Start]:
    """Return settings and start as they are in a batch job, which may have a time limit and be a task of an array.

    Args:
        settings: the settings that the user gave.
        start: the start that the user asked for.
        job: the batch job of this process, if any.
        left: seconds until the job ends, if known.
    """
    ends = "" if left is None else f", {timedelta(seconds=int(left))} left"
    lines, limit = [] if job is None else [f"{job}{ends}"], start.time_limit
    if job is not None and job.task is not None and settings.out is not None:
        settings = replace(settings, out=f"{settings.out}-{job.task}")
        lines.append(f"task {job.task} of an array: its folder is {settings.out}")
    is_alone = start.ranks == 1 and settings.threads == 1
    if job is not None and is_alone and (job.ranks or 1) > 1:
        lines.append(
            f"warning: the job was given {job.ranks} ranks, but this is one alone; start it with srun or mpirun"
        )
    if limit == TIME_OF_JOB:
        limit = None
        if left is not None:
            since_start = time.monotonic() - signals.since
            limit = since_start + left - SPARE_SECONDS
        if job is None:
            lines.append("no scheduler, so no time limit")
        elif left is None:
            lines.append(f"{job.scheduler} reports no end of this job, so there is no time limit")
    return settings, replace(start, job_lines=tuple(lines), time_limit=limit)


def who_asked(comm: Communicator, reason: str) -> tuple[str, bool]:
    """Return who has asked a run to stop, as text, and whether by Ctrl-C; collective.

    Args:
        comm: the ranks, of which one at least has a reason.
        reason: of this rank; empty if it has none.
    """
    reasons = comm.gather(reason)
    found = INTERRUPT if INTERRUPT in reasons else next(filter(None, reasons))
    where = f" (rank {reasons.index(found)})" * (comm.size > 1)
    return f"stop requested by {found}{where}", found == INTERRUPT


def asked_ending(comm: Communicator, has_folder: bool, result: object) -> Stopped | Interrupted | None:
    """Return what a run that has finished raises if a rank was asked to stop in its last step, else None; collective.

    Args:
        comm: the ranks.
        has_folder: whether the run has a folder, and is saved there.
        result: of the run.
    """
    if not any(comm.gather(bool(signals.received))):
        return None
    why, is_interrupted = who_asked(comm, signals.name if signals.received else "")
    return _ending(f"{why}, and the run had finished", is_interrupted, has_folder, result)


def _ending(text: str, is_interrupted: bool, has_folder: bool, result: object = None) -> Stopped | Interrupted:
    code = NOT_FINISHED if has_folder else INTERRUPTED if is_interrupted else 1
    return Interrupted(text, code, result) if is_interrupted else Stopped(code)


@contextmanager
def stoppable_start(comm: Communicator, has_folder: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Have long parts of a start end soon after a signal; what they raise then becomes the end of the run.

    Args:
        comm: the ranks.
        has_folder: whether the run has a folder, to start from again.
        say: prints a line.

    Raises:
        Interrupted: Ctrl-C stopped the start, on some rank.
        Stopped: another signal did.
    """
    comm.asks_to_stop = lambda: bool(signals.received)
    try:
        yield
    except PassStoppedError:
        why, is_interrupted = who_asked(comm, signals.name if signals.received else "")
        text = f"{why} before the first step of this start" + "; the same command starts again" * has_folder
        say(text)
        raise _ending(text, is_interrupted, has_folder) from None
    finally:
        comm.__dict__.pop("asks_to_stop", None)


def with_threads_and_shards(
    settings: Settings, info: CheckpointInfo | None, nodes: Sequence[Node], ranks: int
) -> Settings:
    """Return the settings with the numbers of threads and shards filled in where the user left them open.

    They come from the checkpoint; without one, a rank has a thread per core and one shard.
    """
    if settings.threads == AUTO_THREADS:
        settings = replace(settings, threads=int(info.settings["threads"]) if info else threads_per_rank(nodes))
    if settings.shards is None:
        settings = replace(settings, shards=int(info.progress["shards"]) if info else ranks)
    return settings
