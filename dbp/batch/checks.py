"""What would end a job as soon as it starts, found before it waits in a queue; nothing is written."""

from __future__ import annotations

from pathlib import Path

from dbp.batch.launch import find_launcher, library_vendor
from dbp.batch.request import PLAIN, Request
from dbp.batch.status import RUNNING, Standing
from dbp.config.settings import Settings
from dbp.config.toml import read_settings
from dbp.errors import UserError
from dbp.parallel import HOW_TO_GET_MPI
from dbp.saving.folder import RunFolder
from dbp.saving.resume import CheckpointInfo, Comparison, check_same_run, peek, settled
from dbp.saving.stopping import AT_LEAST, RESERVE, took_earlier


def settings_of(request: Request) -> Settings:
    """Those of the run; UserError for what is wrong with the config."""
    settings = read_settings(Path(request.config), request.changes)
    if settings.out is None or not PLAIN.fullmatch(settings.out):
        raise UserError(
            f"the run's folder must have a name without spaces and quotes, which schedulers take as it is, but is "
            f"{settings.out!r}; choose another with --out"
        )
    return settings


def check_run(request: Request, settings: Settings) -> float:
    """UserError if the job could not go on with what its folder holds; gives the seconds that a stop takes.

    Raises:
        UserError: another process is at it, it is finished, it is another run, it has failed again and again, it has
            fewer shards than ranks, or the time limit is too short for a step and a checkpoint.
    """
    folder = RunFolder(Path(str(settings.out)), settings.checkpoint)
    _check_live(folder)
    earlier = peek(settings)
    if earlier is not None:
        settings = settled(settings, earlier, (), request.ranks)
        _check_earlier(request, settings, earlier)
    if not request.retry:
        folder.check_starts(0 if earlier is None else int(earlier.progress["step"]), settings.watch.most_starts)
    _check_shards(request, settings.shards)
    return _check_time(request, folder)


def _check_live(folder: RunFolder) -> None:
    """UserError if a process is at it."""
    if folder.held() or (folder.status() and Standing.of(folder.path).state == RUNNING):
        raise folder.taken("on another machine")


def _check_shards(request: Request, shards: int | None) -> None:
    """UserError if some ranks would have none; where their number is open each rank gets one."""
    if shards is not None and request.ranks > shards:
        raise UserError(
            f"{request.nodes} x {request.ranks_per_node} ranks are more than the {shards} shards of the run, so that "
            f"{request.ranks - shards} would only wait; take at most {shards} ranks, or start a run with more shards"
        )


def _check_time(request: Request, folder: RunFolder) -> float:
    """UserError if the run would have to stop as soon as it starts; gives the seconds that a stop takes."""
    stop_takes = AT_LEAST + RESERVE * sum(took_earlier(folder.status()))
    if request.seconds is not None and request.seconds <= stop_takes:
        raise UserError(
            f"--time {request.time} is shorter than a step and a checkpoint of this run, for which it keeps "
            f"{stop_takes:.0f} s free; ask for more time"
        )
    return stop_takes


def _check_earlier(request: Request, settings: Settings, earlier: CheckpointInfo) -> None:
    """UserError if nothing is left to be done, or the checkpoint is of another run."""
    progress = earlier.progress
    if progress["finished"] and (progress["outcome"] or progress["epoch"] >= settings.epochs):
        raise UserError(
            f"{earlier.path} is finished; raise epochs to go on from it, or choose another folder with --out"
        )
    assert settings.shards is not None
    names = [name for name in ("train", "validation") if f"data_{name}" in progress]
    digests = {name: str(progress[f"data_{name}"]) for name in names}  # of other data the start tells
    found = Comparison.between(earlier, settings, settings.shards, digests)
    check_same_run(earlier, found, request.accept)


def mpi_here() -> tuple[str, str]:
    """The MPI of this environment and its launcher; UserError if there is none, or they do not match."""
    vendor, _ = library_vendor()
    if vendor is None:
        raise UserError(f"no MPI library was found, so that each rank would train alone; {HOW_TO_GET_MPI}")
    return vendor, str(find_launcher(vendor))
