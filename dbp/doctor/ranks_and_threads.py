"""Time a config's training step with all ways to divide the cores of this machine among ranks and their threads."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dbp import kernels
from dbp.batch.launch import launch
from dbp.config.from_table import read_settings
from dbp.doctor.collective_work import time_text
from dbp.doctor.findings import GOOD, WARNING, Finding
from dbp.doctor.timed_step import FIRST_STEPS, Request
from dbp.errors import UserError
from dbp.parallel import hardware_threads, usable_cores
from dbp.text import count_text

CLEARLY_FASTER = 0.95  # of the time with one thread each: less is worth a change
MOST_BUSY = 0.1  # the largest share of the cores that other programs may take


@dataclass(frozen=True)
class Timed:
    """A step with some ranks of some threads each.

    Args:
        ranks: number of ranks.
        threads: of each.
        repeats: seconds of a step, in each repetition of the measurement.
        digest: of the weights after the first steps.
        busy: how many processors other programs kept busy meanwhile; None if that is not known.
    """

    ranks: int
    threads: int
    repeats: list[float]
    digest: str
    busy: float | None = None

    @property
    def seconds(self) -> float:
        """Return the median."""
        return statistics.median(self.repeats)

    def __str__(self) -> str:
        return f"{count_text(self.ranks, 'rank')} of {count_text(self.threads, 'thread')}"


def divisions(cores: int, shards: int) -> list[tuple[int, int]]:
    """Return numbers of ranks and of their threads, a power of two, that use the cores: those with one thread first."""
    threads = [1 << power for power in range(cores.bit_length())]
    return [(min(cores // count, shards), count) for count in threads]


def step_findings(config: Path, changes: Sequence[str], results: dict[str, Any]) -> list[Finding]:
    """Time the steps, in a job each; raise UserError for a mistake in the config.

    Args:
        config: the config file.
        changes: of its keys.
        results: facts, to which the times are added.
    """
    cores, settings = usable_cores(), read_settings(config, list(changes))
    shards = settings.shards or cores
    with tempfile.TemporaryDirectory(prefix="dbp-") as folder:
        found = list(_timed(config, changes, cores, shards, Path(folder)))
    results["shards"] = shards
    results["steps"] = [{**asdict(timed), "seconds": timed.seconds} for timed in found]
    steps = [_step(timed, shards) for timed in found]
    return [*steps, _busy(found, cores) or _best(found, config, shards), *_bits(found)]


def _timed(config: Path, changes: Sequence[str], cores: int, shards: int, folder: Path) -> Iterator[Timed]:
    variables = kernels.variables(kernels.configured(config, list(changes)))
    for ranks, threads in divisions(cores, shards):
        answer, request = folder / f"{threads}.answer", folder / f"{threads}.json"
        out = str(folder / f"run-{threads}")
        given = str(config.absolute()), list(changes), out, shards, threads, str(answer), sorted(hardware_threads())
        Request(*given).write(request)
        command = [sys.executable, "-m", "dbp.doctor.timed_step", str(request)]
        code = launch(command, ranks, threads, survive=False, variables=variables)
        if code or not answer.exists():
            raise UserError(f"{config} does not train on {count_text(ranks, 'rank')}, see above; try dbp train")
        yield Timed(ranks, threads, **json.loads(answer.read_text()))


def _step(timed: Timed, shards: int) -> Finding:
    found = f"{time_text(timed.seconds)} on {timed}, of {count_text(shards, 'shard')}"
    return Finding("step", GOOD, found)


def _busy(found: Sequence[Timed], cores: int) -> Finding | None:
    """Report that other programs took so much time that no way can be recommended; None if not."""
    busy = max((timed.busy or 0.0) for timed in found)
    if busy <= MOST_BUSY * cores:
        return None
    text = f"no recommendation: other programs kept {busy:.1f} of {count_text(cores, 'core')} busy meanwhile"
    return Finding("ranks", WARNING, text, "time the steps again when these programs have ended")


def _best(found: Sequence[Timed], config: Path, shards: int) -> Finding:
    """Report the fastest way, and how to start it if it is not that of one thread each.

    Nothing is recommended where the repetitions of the two ways overlap, as the difference may be chance.
    """
    plain, best = found[0], min(found, key=lambda timed: timed.seconds)
    if best.seconds > CLEARLY_FASTER * plain.seconds:
        return Finding("ranks", GOOD, f"no other division of the cores is clearly faster than {plain}")
    ratio = plain.seconds / best.seconds
    if max(best.repeats) >= min(plain.repeats):
        spread = max(max(way.repeats) / min(way.repeats) for way in (plain, best))
        text = f"no recommendation: {best} was {ratio:.2f} times as fast as {plain}, but repetitions of one way differ"
        return Finding("ranks", WARNING, f"{text} by {spread - 1:.0%}", "time the steps again on an idle machine")
    change = f"start dbp run -n {best.ranks} --threads {best.threads} -- train {config} "
    change += f"--set threads={best.threads} --set shards={shards}"
    return Finding("ranks", WARNING, f"{best}: {ratio:.2f} times as fast as {plain}", change)


def _bits(found: Sequence[Timed]) -> Iterator[Finding]:
    """Report whether the number of threads decides the bits of the weights."""
    others = [str(timed.threads) for timed in found[1:] if timed.digest != found[0].digest]
    where = f"after {count_text(FIRST_STEPS, 'step')} of {len(found)} ways"
    if len(found) == 1:
        return
    if others:
        text = f"weights {where} differ with {' and '.join(others)} threads from those with one"
        yield Finding("bits", GOOD, f"{text}: a run keeps its number of threads, in its checkpoint")
    else:
        yield Finding("bits", GOOD, f"weights {where} are the same; with other shapes the number of threads may count")
