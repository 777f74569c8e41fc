"""The part that dbp and its peers share: arguments, times of steps, memory, results.

Uses the standard library only, because a peer may be installed in another environment.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cases import CASES

WARM_UP = 5  # steps
LEAST = 0.3  # seconds of timed steps, so that the clock of /proc/stat, which ticks every 10 ms, says something
MOST = 200_000  # steps at most for that
Step = Callable[[], object]


class Ranks(Protocol):
    """The processes that take steps together."""

    rank: int

    def barrier(self) -> None:
        """Wait until the steps of all ranks are done."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, on every rank."""
        ...


class Alone:
    """One process.

    Args:
        wait: returns when its steps are done, for frameworks that run ahead.
    """

    rank = 0

    def __init__(self, wait: Callable[[], object] = lambda: None):
        self._wait = wait

    def barrier(self) -> None:
        """Wait until the steps are done."""
        self._wait()

    def gather(self, value: Any) -> list[Any]:
        """Return the value alone."""
        return [value]


class Report:
    """Measurements by variant and case, and versions; written by rank 0.

    Args:
        program: what the program is, for its --help.
        case_of: gives what a case's name stands for, with the number of its steps in one repetition.
    """

    def __init__(self, program: str | None, case_of: Callable[[str], Any] = CASES.__getitem__):
        parser = argparse.ArgumentParser(description=(program or "").split("\n")[0])
        parser.add_argument("--cases", default=",".join(CASES), help="names with commas between")
        parser.add_argument("--repeats", type=int, default=3, help="least number of timed repetitions")
        parser.add_argument("--examples", type=int, default=0, help="of all ranks in a step (default: the case's)")
        parser.add_argument("--out", type=Path, help="a JSON file for the results")
        parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
        parser.add_argument("--profile", action="store_true", help="tell where a step's time goes (dbp only)")
        self.args = parser.parse_args()
        self.cases = {name: case_of(name) for name in self.args.cases.split(",")}
        self.versions: dict[str, str] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self._resident = Resident()

    def start_counting_memory(self) -> None:
        """Count memory from now on, without imports and setup so far."""
        self._resident = Resident()

    def add(self, variant: str, name: str, step: Step, ranks: Ranks) -> None:
        """Measure the step of a case; all ranks call this."""
        if self.args.memory:
            take_first_steps(step)
            ranks.barrier()  # all have touched what they share
            per_rank = ranks.gather({"before_mb": self._resident.before, "grown_mb": self._resident.grown()})
            measured = {key: max(rank[key] for rank in per_rank) for key in per_rank[0]}
        else:
            measured = measure(step, self.cases[name].steps, self.args.repeats, ranks)
        self.results.setdefault(variant, {})[name] = measured

    def write(self, ranks: Ranks) -> None:
        """Write the results as JSON on rank 0."""
        if ranks.rank == 0 and self.args.out:
            self.args.out.write_text(json.dumps({"versions": self.versions, "results": self.results}))


def take_first_steps(step: Step) -> None:
    """Take the first steps, in which frameworks load, compile and allocate."""
    for _ in range(WARM_UP):
        step()


def measure(step: Step, steps: int, repeats: int, ranks: Ranks) -> dict[str, Any]:
    """Return the median time of a step over repetitions, and the processor time that others used."""
    take_first_steps(step)
    watch = Watch(ranks)
    first = repetition(step, steps, ranks)
    enough = min(math.ceil(LEAST / (first * steps)), MOST // steps)
    count = ranks.gather(max(repeats, enough))[0]
    seconds = [first, *(repetition(step, steps, ranks) for _ in range(count - 1))]
    return {"ms": statistics.median(seconds) * 1e3, "repetitions": count, "others": watch.others()}


def repetition(step: Step, steps: int, ranks: Ranks) -> float:
    """Return the seconds of a step, averaged over some steps."""
    ranks.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    ranks.barrier()
    return (time.perf_counter() - start) / steps


class Watch:
    """The processor time used by others than the ranks since this object was created; collective."""

    def __init__(self, ranks: Ranks):
        self._ranks, self._start = ranks, time.perf_counter()
        self._busy, self._own = busy_seconds(), time.process_time()

    def others(self) -> float | None:
        """Return the cores that others used, on average; None where the system does not report it."""
        own = sum(self._ranks.gather(time.process_time() - self._own))
        busy, seconds = busy_seconds(), time.perf_counter() - self._start
        if busy is None or self._busy is None:
            return None
        return max(0.0, busy - self._busy - own) / seconds


def busy_seconds() -> float | None:
    """Return the busy seconds of all processors together, other virtual machines included."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, fields[1:9])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


class Resident:
    """The growth of this process's peak memory since this object was created; shared memory counts in equal parts."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
        except OSError:
            highest = _status("VmHWM")
        else:
            highest = _status("VmRSS")
        self.before = highest - _of_others()

    def grown(self) -> float:
        """Return the growth in MB (10^6 bytes), if no less is shared now than at the peak."""
        return _status("VmHWM") - _of_others() - self.before


def _of_others() -> float:
    """Return how much more memory this process shares than its part of that, in MB, if each sharer has the same."""
    return _status("RssShmem") - _status("Pss_Shmem", "smaps_rollup")


def _status(key: str, file: str = "status") -> float:
    """Return a line of a file in /proc/self in MB; NaN where there is none."""
    try:
        lines = Path("/proc/self", file).read_text().splitlines()
    except OSError:
        return math.nan
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key)), math.nan)
