"""Checks before a job is submitted: what would end it as soon as it starts. Nothing is written."""

from __future__ import annotations

from pathlib import Path

from dbp.batch.launch import find_launcher, library_vendor
from dbp.batch.request import PLAIN, Request
from dbp.batch.status import RUNNING, RunStatus
from dbp.config.from_table import read_run_settings
from dbp.config.settings import Settings
from dbp.errors import UserError
from dbp.parallel import HOW_TO_GET_MPI
from dbp.saving.checkpoint_info import CheckpointInfo, peek
from dbp.saving.comparison import Comparison, check_same_run, jump_of_rate, may_go_on
from dbp.saving.folder import RunFolder
from dbp.saving.start import with_threads_and_shards
from dbp.saving.stopping import RESERVE_FACTOR, RESERVE_SECONDS, earlier_durations
from dbp.terminal import write_error
from dbp.text import count_text


def checked_settings(request: Request) -> Settings:
    """Return the settings of the run.

    Raises:
        UserError: the config has a mistake, or the run's folder a name that schedulers do not take.
    """
    settings = read_run_settings(Path(request.config), request.changes, request.out)
    if settings.out is None or not PLAIN.fullmatch(settings.out):
        raise UserError(
            f"the run's folder must have a name without spaces and quotes, as schedulers take none, but is "
            f"{settings.out!r}; choose another with --out"
        )
    return settings


def check_run(request: Request, settings: Settings) -> float:
    """Check that the job could train in the run's folder; return the seconds that saving and stopping take.

    With --dry-run a run that is running or finished is only warned of, as its script can be looked at all the same.

    Raises:
        UserError: the run is running, finished, another run, or failed in its last starts; it has fewer shards than
            the job has ranks; or the time limit is too short for a step and a checkpoint.
    """
    folder = RunFolder(Path(str(settings.out)), settings.checkpoint)
    if folder.is_locked() or (folder.status() and RunStatus.of(folder.path).state == RUNNING):
        _refuse(request, folder.locked_error("on another machine"))
    earlier = peek(settings)
    if earlier is not None:
        settings = with_threads_and_shards(settings, earlier, (), request.ranks)
        _check_earlier(request, settings, earlier)
    if not request.retry:
        folder.check_starts(0 if earlier is None else int(earlier.progress["step"]), settings.watch.most_starts)
    _check_shards(request, settings.shards)
    return _check_time(request, folder)


def _refuse(request: Request, error: UserError) -> None:
    """Raise an error that keeps a job from being submitted; with --dry-run, only warn of it."""
    if not request.dry_run:
        raise error
    write_error(f"warning: {error} (this script would not be submitted)")


def _check_shards(request: Request, shards: int | None) -> None:
    """Raise UserError if there are fewer shards than ranks; where the number of shards is open, each rank gets one."""
    if shards is not None and request.ranks > shards:
        raise UserError(
            f"{request.nodes} x {request.ranks_per_node} ranks are more than the {count_text(shards, 'shard')} of the "
            f"run, so that {request.ranks - shards} would only wait; take at most {count_text(shards, 'rank')}, or "
            "start a run with more shards"
        )


def _check_time(request: Request, folder: RunFolder) -> float:
    """Return the seconds that saving and stopping take; raise UserError if the time limit is not longer."""
    stop_seconds = RESERVE_SECONDS + RESERVE_FACTOR * sum(earlier_durations(folder.status()))
    if request.seconds is not None and request.seconds <= stop_seconds:
        raise UserError(
            f"--time {request.time} is shorter than a step and a checkpoint of this run, which take "
            f"{stop_seconds:.0f} s; ask for more time"
        )
    return stop_seconds


def _check_earlier(request: Request, settings: Settings, earlier: CheckpointInfo) -> None:
    """Refuse a run that is finished; raise UserError if its checkpoint is of another run."""
    progress = earlier.progress
    assert settings.shards is not None
    names = [name for name in ("train", "validation") if f"data_{name}" in progress]
    digests = {name: str(progress[f"data_{name}"]) for name in names}  # other data is found when the job starts
    found = Comparison.between(earlier, settings, settings.shards, digests, earlier.meaning, str(progress.get("order")))
    ended = progress["outcome"] and not may_go_on(earlier, found, settings)
    if progress["finished"] and (ended or progress["epoch"] >= settings.epochs):
        text = f"{earlier.path} is finished; raise epochs to train it further, or choose another folder with --out"
        _refuse(request, UserError(text))
    steps = (progress["step"] - progress["step_in_epoch"]) // max(1, progress["epoch"])
    check_same_run(earlier, found.with_jump(jump_of_rate(earlier, settings, steps)), request.accept)


def find_mpi() -> tuple[str, str]:
    """Return the name of this environment's MPI library and its launcher.

    Raises:
        UserError: there is no MPI library, or no launcher that belongs to it.
    """
    vendor, _ = library_vendor()
    if vendor is None:
        raise UserError(f"no MPI library was found, so that each rank would train alone; {HOW_TO_GET_MPI}")
    return vendor, str(find_launcher(vendor))
