"""How a run starts: anew, or from its newest whole checkpoint, whose settings and data must be the same."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbp.checkpoint import size_of, table_of
from dbp.config import toml
from dbp.config.settings import AUTO, Settings
from dbp.errors import DataError, UserError
from dbp.job import Job
from dbp.parallel import Node, threads_per_rank
from dbp.run.progress import invalid_attribute
from dbp.run.snapshot import RESIDUALS_WEIGHT
from dbp.saving.stopping import signals
from dbp.text import AUTO as WHAT_IS_LEFT

if TYPE_CHECKING:
    from dbp.checkpoint import Opened

LARGE = ("model/", "optimizer/")  # groups of arrays whose shapes follow from the model
MOST_SMALL_BYTES = 1 << 26  # for all other arrays together
SPARE_SECONDS = 10.0  # at the end of a batch job, left for its script
# Keys and sections that may differ between a checkpoint and the settings that continue from it.
FREE = ("epochs", "out", "checkpoint", "watch", "divide_state", "early_stopping", "not_finite")


@dataclass(frozen=True)
class Start:
    """How a run starts.

    Args:
        fresh: start anew; the checkpoints of an earlier run in its folder are moved aside.
        overwrite: with fresh, delete those checkpoints instead.
        quiet: print nothing.
        retry: start even if the run has ended several times before its next checkpoint.
        accept: keys of settings that may differ from those of the checkpoint, besides those that always may.
        time_limit: seconds from the start of the process by which the run must have stopped; "auto" for the time that
            the batch job has left; None for no limit.
        job_lines: lines about the batch job.
        ranks: ranks at the start of the job, of which some may have died since.
    """

    fresh: bool = False
    overwrite: bool = False
    quiet: bool = False
    retry: bool = False
    accept: tuple[str, ...] = ()
    time_limit: float | str | None = None
    job_lines: tuple[str, ...] = ()
    ranks: int = 0

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
    if job is not None and (job.ranks or 1) > start.ranks == settings.threads == 1:
        lines.append(
            f"warning: the job was given {job.ranks} ranks, but this is one alone; start it with srun or mpirun"
        )
    if limit == WHAT_IS_LEFT:
        limit = None if left is None else time.monotonic() - signals.since + left - SPARE_SECONDS
        if job is None:
            lines.append("no scheduler, so no time limit")
        elif left is None:
            lines.append(f"{job.scheduler} tells no end of this job, so there is no time limit")
    return settings, replace(start, job_lines=tuple(lines), time_limit=limit)


@dataclass(frozen=True)
class CheckpointInfo:
    """What is known of a checkpoint without its arrays; the same on every rank.

    Args:
        path: the file.
        settings: the table of its config.
        progress: its counts and sums, by name.
        provenance: what it was made with.
        arrays: types and shapes of its arrays, by name.
    """

    path: Path
    settings: Mapping[str, Any]
    progress: Mapping[str, Any]
    provenance: Mapping[str, Any]
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]

    @classmethod
    def of(cls, found: Opened) -> CheckpointInfo:
        """Return that of an open checkpoint; raise DataError if no run has written it."""
        arrays = {name: (entry.dtype, entry.shape) for name, entry in found.entries.items()}
        try:
            settings = table_of(found.config)
        except DataError as error:
            raise DataError(f"checkpoint {found.path} was not made by a run: {error}") from None
        if reason := _not_of_a_run(settings, found.progress, arrays):
            raise DataError(f"checkpoint {found.path} was not made by a run: {reason}")
        return cls(found.path, settings, found.progress, found.provenance, arrays)


def peek(settings: Settings) -> CheckpointInfo | None:
    """Return what is known of the run's newest sound checkpoint, without reading arrays; None if there is none.

    Raises:
        DataError: there are checkpoints, but none is sound.
    """
    if settings.out is None:
        return None
    from dbp.checkpoint import CheckpointFolder, Keep

    passed_over: list[str] = []
    folder = CheckpointFolder(Path(settings.out) / "checkpoints", Keep(1))
    with folder.newest(_unsound, verify=False) as newest:
        if newest.found is not None:
            return CheckpointInfo.of(newest.found)
        passed_over += newest.passed_over.values()
    if passed_over:
        raise none_whole(settings, passed_over)
    return None


def _unsound(found: Opened) -> None:
    """Raise DataError if no run has written a checkpoint."""
    CheckpointInfo.of(found)


def none_whole(settings: Settings, passed_over: Sequence[str]) -> DataError:
    """Return the error for checkpoints none of which can be used."""
    return DataError(
        f"{settings.out} holds checkpoints, but none of them is whole; start anew with --fresh "
        f"({'; '.join(passed_over)})"
    )


def settled(settings: Settings, info: CheckpointInfo | None, nodes: Sequence[Node], ranks: int) -> Settings:
    """Return the settings with numbers of threads and shards.

    If the user left them open, they come from the checkpoint; without one, a rank has a thread per core and one shard.
    """
    if settings.threads == AUTO:
        settings = replace(settings, threads=int(info.settings["threads"]) if info else threads_per_rank(nodes))
    if settings.shards is None:
        settings = replace(settings, shards=int(info.progress["shards"]) if info else ranks)
    return settings


@dataclass(frozen=True)
class Comparison:
    """How a run differs from the one that wrote a checkpoint.

    Args:
        wrong: differences that are not allowed: a line for each key.
        free: differences that are allowed.
    """

    wrong: Mapping[str, str]
    free: Mapping[str, str]

    @classmethod
    def between(cls, info: CheckpointInfo, settings: Settings, shards: int, digests: Mapping[str, str]) -> Comparison:
        """Compare a checkpoint with settings and data."""
        now = _without_files(toml.table_from(settings)) | {"shards": shards}
        then = _without_files(info.settings) | {"shards": info.progress["shards"]}
        differences = toml.differences(then, now)
        for purpose in ("train", "validation"):
            if info.progress.get(f"data_{purpose}") != digests.get(purpose):
                key, other = f"data.{purpose}", f"{purpose} data: other examples now than in the checkpoint"
                differences[key] = f"{differences[key]}; {other}" if key in differences else other
        free = {key: text for key, text in differences.items() if covered(key, FREE)}
        return cls({key: text for key, text in differences.items() if key not in free}, free)


def covered(key: str, names: Sequence[str]) -> bool:
    """Return True if a key, or a section that it lies in, is among the names."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def check_same_run(info: CheckpointInfo, found: Comparison, accept: Sequence[str]) -> None:
    """Raise UserError if the settings describe another run than the checkpoint's, except for accepted keys."""
    wrong = {key: text for key, text in found.wrong.items() if not covered(key, accept)}
    if wrong:
        keys = " ".join(f"--accept {key}" for key in wrong)
        raise UserError(
            f"checkpoint {info.path} is of another run ({'; '.join(wrong.values())}); start anew with --fresh, "
            f"choose another folder with --out, or go on nevertheless with {keys}"
        )


def check_arrays(info: CheckpointInfo, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> str | None:
    """Return why the arrays of a checkpoint are not those of a run; None if they are.

    Args:
        info: the checkpoint.
        expected: types and shapes that arrays of the model and of the optimizer must have, by name.
    """
    for name, (dtype, shape) in info.arrays.items():
        if name.startswith(LARGE) and expected.get(name) != (dtype, shape):
            here = "nothing of that name" if name not in expected else f"{expected[name][0]} {expected[name][1]}"
            return f"{name} is {dtype} {shape} in the checkpoint, but this run has {here}"
    missing = [name for name in expected if name not in info.arrays]
    return f"it lacks {missing[0]}, which this run has" if missing else None


def _not_of_a_run(settings: Mapping[str, Any], progress: Mapping[str, Any], arrays: Mapping[str, Any]) -> str | None:
    """Return what no run would have written; None if nothing is wrong."""
    if not isinstance(settings.get("data"), dict) or type(settings.get("threads")) is not int:
        return "its config has no data or no threads"
    if type(shards := progress.get("shards")) is not int or shards < 1:
        return f"its number of shards is {shards!r}"
    if reason := invalid_attribute(progress):
        return reason
    if type(weight := progress.get(RESIDUALS_WEIGHT, 1.0)) is not float or not 0 < abs(weight) < math.inf:
        return f"its {RESIDUALS_WEIGHT} is {weight!r}"
    small = {name: array for name, array in arrays.items() if not name.startswith(LARGE)}
    if (size := sum(size_of(*array) for array in small.values())) > MOST_SMALL_BYTES:
        return f"its history and numbers take {size:,} bytes"
    wrong = (name for name, (_, shape) in small.items() if name.startswith("history/") and len(shape) != 1)
    return next((f"{name} is no column" for name in wrong), None)


def _without_files(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the names of data files, as data is compared by content."""
    purposes = ("train", "validation", "test")
    data = {k: v for k, v in table["data"].items() if not (k in purposes and isinstance(v, str))}
    return {**table, "data": data}
