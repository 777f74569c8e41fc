"""How a run begins: anew, or from the newest whole checkpoint, if that is one of the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbp import config
from dbp.checkpoint import size_of
from dbp.errors import DataError, UserError
from dbp.parallel import Node, threads_for
from dbp.progress import complaint
from dbp.settings import AUTO, Settings

if TYPE_CHECKING:
    from dbp.checkpoint import Opened

DEEPEST = 50  # tables and lists within one another in a config
# What may differ between a checkpoint and the settings that go on from it.
FREE = ("epochs", "out", "checkpoint", "watch", "divide_state", "early_stopping")


@dataclass(frozen=True)
class Start:
    """How a run is to begin.

    Args:
        fresh: anew; the checkpoints of an earlier run in its folder are moved aside.
        overwrite: with fresh, delete those checkpoints instead.
        quiet: print nothing.
        retry: although it has ended before its next checkpoint again and again.
        accept: keys of settings that may differ from those of the checkpoint, besides those that always may.
        time_limit: seconds after the start of the process, until which the run is to have stopped; None for no limit.
        ranks: how many there were when the job began, if some have died since.
    """

    fresh: bool = False
    overwrite: bool = False
    quiet: bool = False
    retry: bool = False
    accept: tuple[str, ...] = ()
    time_limit: float | None = None
    ranks: int = 0


@dataclass(frozen=True)
class Earlier:
    """What is known of a checkpoint without its arrays; the same on every rank."""

    path: Path
    settings: Mapping[str, Any]
    progress: Mapping[str, Any]
    provenance: Mapping[str, Any]
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]  # types and shapes

    @classmethod
    def of(cls, found: Opened) -> Earlier:
        """That of an open checkpoint; DataError if it lacks what every checkpoint has."""
        import tomllib

        arrays = {name: (entry.dtype, entry.shape) for name, entry in found.entries.items()}
        try:
            settings = tomllib.loads(found.config)
        except (ValueError, RecursionError) as error:
            raise DataError(f"checkpoint {found.path} is damaged: its config is not valid ({error})") from None
        if reason := _not_of_a_run(settings, found.progress, arrays):
            raise DataError(f"checkpoint {found.path} was not made by a run: {reason}")
        return cls(found.path, settings, found.progress, found.provenance, arrays)


def peek(settings: Settings) -> Earlier | None:
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
            return Earlier.of(newest.found)
        passed_over += newest.passed_over.values()
    if passed_over:
        raise none_whole(settings, passed_over)
    return None


def _unsound(found: Opened) -> None:
    """DataError if no run has written a checkpoint."""
    Earlier.of(found)


def none_whole(settings: Settings, passed_over: Sequence[str]) -> DataError:
    """What to say if there are checkpoints, but none can be used."""
    return DataError(
        f"{settings.out} holds checkpoints, but none of them is whole; start anew with --fresh "
        f"({'; '.join(passed_over)})"
    )


def settled(settings: Settings, earlier: Earlier | None, nodes: Sequence[Node], ranks: int) -> Settings:
    """The settings with numbers of threads and shards.

    Where these are left open they are those of the checkpoint, else a thread a core and a shard a rank.
    """
    if settings.threads == AUTO:
        settings = replace(settings, threads=int(earlier.settings["threads"]) if earlier else threads_for(nodes))
    if settings.shards is None:
        settings = replace(settings, shards=int(earlier.progress["shards"]) if earlier else ranks)
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
    def between(cls, earlier: Earlier, settings: Settings, shards: int, digests: Mapping[str, str]) -> Comparison:
        """That of a checkpoint with settings and data."""
        now = _without_files(config.table_from(settings)) | {"shards": shards}
        then = _without_files(earlier.settings) | {"shards": earlier.progress["shards"]}
        told = config.differences(then, now)
        for purpose in ("train", "validation"):
            if earlier.progress.get(f"data_{purpose}") != digests.get(purpose):
                key, other = f"data.{purpose}", f"{purpose} data: other examples now than in the checkpoint"
                told[key] = f"{told[key]}; {other}" if key in told else other
        free = {key: text for key, text in told.items() if covered(key, FREE)}
        return cls({key: text for key, text in told.items() if key not in free}, free)


def covered(key: str, names: Sequence[str]) -> bool:
    """Whether a key, or the section that it lies in, is among some names."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def check_same_run(earlier: Earlier, found: Comparison, accept: Sequence[str]) -> None:
    """UserError if the checkpoint is of another run than the settings describe, but for what is accepted."""
    wrong = {key: text for key, text in found.wrong.items() if not covered(key, accept)}
    if wrong:
        keys = " ".join(f"--accept {key}" for key in wrong)
        raise UserError(
            f"checkpoint {earlier.path} is of another run ({'; '.join(wrong.values())}); start anew with --fresh, "
            f"choose another folder with --out, or go on nevertheless with {keys}"
        )


def check_arrays(earlier: Earlier, expected: Mapping[str, tuple[str, tuple[int, ...]]], most: int) -> str | None:
    """Why the arrays of a checkpoint are not those of a run; None if they are.

    Args:
        earlier: the checkpoint.
        expected: types and shapes that arrays of the model and of the optimizer must have, by name.
        most: bytes of all others.
    """
    rest = 0
    for name, (dtype, shape) in earlier.arrays.items():
        if name.startswith(("model/", "optimizer/")):
            if expected.get(name) != (dtype, shape):
                here = "nothing of that name" if name not in expected else f"{expected[name][0]} {expected[name][1]}"
                return f"{name} is {dtype} {shape} in the checkpoint, but this run has {here}"
        else:
            rest += size_of(dtype, shape)
    if missing := [name for name in expected if name not in earlier.arrays]:
        return f"it lacks {missing[0]}, which this run has"
    return f"its history and numbers take {rest:,} bytes" if rest > most else None


def _not_of_a_run(settings: Mapping[str, Any], progress: Mapping[str, Any], arrays: Mapping[str, Any]) -> str | None:
    """What no run has written there; None if all is as it should be."""
    if _deeper(settings, DEEPEST):
        return f"its config is nested more than {DEEPEST} deep"
    if not isinstance(settings.get("data"), dict) or type(settings.get("threads")) is not int:
        return "its config has no data or no threads"
    if type(shards := progress.get("shards")) is not int or shards < 1:
        return f"its number of shards is {shards!r}"
    if reason := complaint(progress):
        return reason
    wrong = (name for name, (_, shape) in arrays.items() if name.startswith("history/") and len(shape) != 1)
    return next((f"{name} is no column" for name in wrong), None)


def _deeper(table: Any, levels: int) -> bool:
    """Whether tables or lists lie in one another more than so many deep."""
    if not isinstance(table, (dict, list)):
        return False
    return levels == 0 or any(_deeper(x, levels - 1) for x in (table.values() if isinstance(table, dict) else table))


def _without_files(table: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the names of its data, which is compared by content; a part of it, a number, stays."""
    purposes = ("train", "validation", "test")
    data = {k: v for k, v in table["data"].items() if not (k in purposes and isinstance(v, str))}
    return {**table, "data": data}
