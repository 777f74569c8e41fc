"""How a run begins: anew, or from the newest whole checkpoint, if that is one of the same run."""

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
from dbp.parallel import Node, threads_for
from dbp.run.progress import invalid_attribute
from dbp.run.snapshot import RESIDUALS_WEIGHT
from dbp.saving.stopping import signals
from dbp.text import AUTO as WHAT_IS_LEFT

if TYPE_CHECKING:
    from dbp.checkpoint import Opened

LARGE = ("model/", "optimizer/")  # arrays whose shapes the model says
MOST_SMALL = 1 << 26  # bytes of all others
SPARE = 10.0  # seconds before the end of a batch job in which its script must come to its own
# What may differ between a checkpoint and the settings that go on from it.
FREE = ("epochs", "out", "checkpoint", "watch", "divide_state", "early_stopping", "not_finite")


@dataclass(frozen=True)
class Start:
    """How a run is to begin.

    Args:
        fresh: anew; the checkpoints of an earlier run in its folder are moved aside.
        overwrite: with fresh, delete those checkpoints instead.
        quiet: print nothing.
        retry: although it has ended before its next checkpoint again and again.
        accept: keys of settings that may differ from those of the checkpoint, besides those that always may.
        time_limit: seconds after the start of the process, until which the run is to have stopped; "auto" for what the
            scheduler leaves; None for no limit.
        told: of the batch job, in lines.
        ranks: how many there were when the job began, if some have died since.
    """

    fresh: bool = False
    overwrite: bool = False
    quiet: bool = False
    retry: bool = False
    accept: tuple[str, ...] = ()
    time_limit: float | str | None = None
    told: tuple[str, ...] = ()
    ranks: int = 0

    @property
    def limit(self) -> float | None:
        """The time limit in seconds, which must be settled by now."""
        assert not isinstance(self.time_limit, str)
        return self.time_limit


def in_job(settings: Settings, start: Start, job: Job | None, left: float | None) -> tuple[Settings, Start]:
    """Settings and start as they are in a batch job, which may end, and may be one of an array.

    Args:
        settings: as the user gave them.
        start: likewise.
        job: that this process runs in, if any.
        left: seconds that it may still run, if that is known.
    """
    ends = "" if left is None else f", {timedelta(seconds=int(left))} left"
    told, limit = [] if job is None else [f"{job}{ends}"], start.time_limit
    if job is not None and job.task is not None and settings.out is not None:
        settings = replace(settings, out=f"{settings.out}-{job.task}")
        told.append(f"task {job.task} of an array: its folder is {settings.out}")
    if job is not None and (job.ranks or 1) > start.ranks == settings.threads == 1:
        told.append(
            f"warning: the job was given {job.ranks} ranks, but this is one alone; start it with srun or mpirun"
        )
    if limit == WHAT_IS_LEFT:
        limit = None if left is None else time.monotonic() - signals.since + left - SPARE
        if job is None:
            told.append("no scheduler, so no time limit")
        elif left is None:
            told.append(f"{job.scheduler} tells no end of this job, so there is no time limit")
    return settings, replace(start, told=tuple(told), time_limit=limit)


@dataclass(frozen=True)
class CheckpointInfo:
    """What is known of a checkpoint without its arrays; the same on every rank."""

    path: Path
    settings: Mapping[str, Any]
    progress: Mapping[str, Any]
    provenance: Mapping[str, Any]
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]  # types and shapes

    @classmethod
    def of(cls, found: Opened) -> CheckpointInfo:
        """That of an open checkpoint; DataError if it lacks what every checkpoint has."""
        arrays = {name: (entry.dtype, entry.shape) for name, entry in found.entries.items()}
        try:
            settings = table_of(found.config)
        except DataError as error:
            raise DataError(f"checkpoint {found.path} was not made by a run: {error}") from None
        if reason := _not_of_a_run(settings, found.progress, arrays):
            raise DataError(f"checkpoint {found.path} was not made by a run: {reason}")
        return cls(found.path, settings, found.progress, found.provenance, arrays)


def peek(settings: Settings) -> CheckpointInfo | None:
    """The newest checkpoint of the run whose structure is sound; its arrays are not yet read.

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
    """DataError if no run has written a checkpoint."""
    CheckpointInfo.of(found)


def none_whole(settings: Settings, passed_over: Sequence[str]) -> DataError:
    """What to say if there are checkpoints, but none can be used."""
    return DataError(
        f"{settings.out} holds checkpoints, but none of them is whole; start anew with --fresh "
        f"({'; '.join(passed_over)})"
    )


def settled(settings: Settings, info: CheckpointInfo | None, nodes: Sequence[Node], ranks: int) -> Settings:
    """The settings with numbers of threads and shards.

    Where these are left open they are those of the checkpoint, else a thread a core and a shard a rank.
    """
    if settings.threads == AUTO:
        settings = replace(settings, threads=int(info.settings["threads"]) if info else threads_for(nodes))
    if settings.shards is None:
        settings = replace(settings, shards=int(info.progress["shards"]) if info else ranks)
    return settings


@dataclass(frozen=True)
class Comparison:
    """How a run differs from the one that wrote a checkpoint.

    Args:
        wrong: what must not differ, by key, in words.
        free: what may.
    """

    wrong: Mapping[str, str]
    free: Mapping[str, str]

    @classmethod
    def between(cls, info: CheckpointInfo, settings: Settings, shards: int, digests: Mapping[str, str]) -> Comparison:
        """That of a checkpoint with settings and data."""
        now = _without_files(toml.table_from(settings)) | {"shards": shards}
        then = _without_files(info.settings) | {"shards": info.progress["shards"]}
        told = toml.differences(then, now)
        for purpose in ("train", "validation"):
            if info.progress.get(f"data_{purpose}") != digests.get(purpose):
                key, other = f"data.{purpose}", f"{purpose} data: other examples now than in the checkpoint"
                told[key] = f"{told[key]}; {other}" if key in told else other
        free = {key: text for key, text in told.items() if covered(key, FREE)}
        return cls({key: text for key, text in told.items() if key not in free}, free)


def covered(key: str, names: Sequence[str]) -> bool:
    """Whether a key, or the section that it lies in, is among some names."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def check_same_run(info: CheckpointInfo, found: Comparison, accept: Sequence[str]) -> None:
    """UserError if the checkpoint is of another run than the settings describe, but for what is accepted."""
    wrong = {key: text for key, text in found.wrong.items() if not covered(key, accept)}
    if wrong:
        keys = " ".join(f"--accept {key}" for key in wrong)
        raise UserError(
            f"checkpoint {info.path} is of another run ({'; '.join(wrong.values())}); start anew with --fresh, "
            f"choose another folder with --out, or go on nevertheless with {keys}"
        )


def check_arrays(info: CheckpointInfo, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> str | None:
    """Why the arrays of a checkpoint are not those of a run; None if they are.

    Args:
        earlier: the checkpoint.
        expected: types and shapes that arrays of the model and of the optimizer must have, by name.
    """
    for name, (dtype, shape) in info.arrays.items():
        if name.startswith(LARGE) and expected.get(name) != (dtype, shape):
            here = "nothing of that name" if name not in expected else f"{expected[name][0]} {expected[name][1]}"
            return f"{name} is {dtype} {shape} in the checkpoint, but this run has {here}"
    missing = [name for name in expected if name not in info.arrays]
    return f"it lacks {missing[0]}, which this run has" if missing else None


def _not_of_a_run(settings: Mapping[str, Any], progress: Mapping[str, Any], arrays: Mapping[str, Any]) -> str | None:
    """What no run has written there; None if all is as it should be."""
    if not isinstance(settings.get("data"), dict) or type(settings.get("threads")) is not int:
        return "its config has no data or no threads"
    if type(shards := progress.get("shards")) is not int or shards < 1:
        return f"its number of shards is {shards!r}"
    if reason := invalid_attribute(progress):
        return reason
    if type(weight := progress.get(RESIDUALS_WEIGHT, 1.0)) is not float or not 0 < abs(weight) < math.inf:
        return f"its {RESIDUALS_WEIGHT} is {weight!r}"
    small = {name: array for name, array in arrays.items() if not name.startswith(LARGE)}
    if (size := sum(size_of(*array) for array in small.values())) > MOST_SMALL:
        return f"its history and numbers take {size:,} bytes"
    wrong = (name for name, (_, shape) in small.items() if name.startswith("history/") and len(shape) != 1)
    return next((f"{name} is no column" for name in wrong), None)


def _without_files(table: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the names of its data, which is compared by content; a part of it, a number, stays."""
    purposes = ("train", "validation", "test")
    data = {k: v for k, v in table["data"].items() if not (k in purposes and isinstance(v, str))}
    return {**table, "data": data}
