"""Kinds of faults: how cases of each are drawn, carried out and judged. Add a new kind to KINDS."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dbp.checkpoint import checkpoints_of, opened
from tests.fault_injection import folder_events, injector, outside_events, train_jobs
from tests.fault_injection.hostile import HOSTILE
from tests.fault_injection.injector import ALWAYS, FAULTS
from tests.fault_injection.train_jobs import DEATHS, STAGES, STOPS, Bench
from tests.launcher import LAUNCHER_SETTINGS
from tests.processes import output_of

HERE = Path(__file__).parent
CALLS_OF_A_SAVE, CALLS_OF_A_TRAINING, CALLS_OF_A_JOB = 90, 650, 2500  # about; later ones are not met
LIMIT = 900  # seconds for a program that carries out many cases


@dataclass(frozen=True)
class Case:
    """A fault and its consequence.

    Args:
        words: what it was.
        wrong: what was wrong afterwards, from one of loss, hang, wrong bits, crash, leftovers on; "" if nothing was.
        met: whether anything has met the fault.
    """

    words: str
    wrong: str
    met: bool = True


@dataclass
class FaultContext:
    """Where faults are injected, and what they are drawn from.

    Args:
        folder: for files.
        bench: for jobs.
        rng: draws the cases.
        ranks: of jobs, of which one is drawn.
        disks: whether small disks can be mounted.
    """

    folder: Path
    bench: Bench
    rng: random.Random
    ranks: Sequence[int] = (2, 3)
    disks: bool = True
    _names: list[str] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        """Return the last checkpoint of the reference run."""
        return checkpoints_of(self.bench.folder / "whole" / "run").files()[-1]

    def again(self) -> int:
        """Draw the number of ranks of a job that resumes; mostly one without mpirun."""
        return self.rng.choice([0, 0, 1, *self.ranks])

    def fresh(self, name: str) -> Path:
        """Return an empty folder."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def hostile(self) -> str:
        """Draw the name of a hostile file, each once before any comes again."""
        if not self._names:
            self._names = sorted(HOSTILE)
            self.rng.shuffle(self._names)
        return self._names.pop()


def program(name: str, *words: str, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Run a program of this folder, and return the lines of JSON that it prints."""
    path = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | LAUNCHER_SETTINGS | train_jobs.ALONE | {"PYTHONPATH": path} | environment
    command = [sys.executable, str(HERE / name), *words]
    return map(json.loads, output_of(*command, env=environment, timeout=LIMIT).splitlines())


def _counts(count: int) -> str:
    return "from then on" if count == ALWAYS else f"{count} calls" if count > 1 else "once"


def _drawn(context: FaultContext, calls: int) -> tuple[str, int, int]:
    """Draw a fault, how many calls meet it, and from which call on."""
    return context.rng.choice(sorted(FAULTS)), context.rng.choice([1, 1, ALWAYS, 20]), context.rng.randint(1, calls)


# --- on one rank --------------------------------------------------------------------------------------


def saves(context: FaultContext, count: int) -> Iterator[Case]:
    """Let file calls of a save fail."""
    folder = context.fresh("saves")
    drawn = [(*_drawn(context, CALLS_OF_A_SAVE), 10_000) for _ in range(count)]
    result = program("fail_saves.py", str(folder), json.dumps(drawn), environment=injector.environment(folder / "run"))
    for x in result:
        yield Case(f"{x['fault']} {_counts(x['count'])}, call {x['at']}", x["wrong"])


def trainings(context: FaultContext, count: int) -> Iterator[Case]:
    """Let file calls of a training on one rank fail, from its start or from a checkpoint."""
    folder = context.fresh("trainings")
    drawn = [(*_drawn(context, CALLS_OF_A_TRAINING), context.rng.randint(0, 1)) for _ in range(count)]
    result = program(
        "fail_trainings.py", str(folder), json.dumps(drawn), environment=injector.environment(folder / "run")
    )
    for x in result:
        words = f"{x['fault']} {_counts(x['count'])}, call {x['at']}, {'resumed' if x['later'] else 'new'}"
        yield Case(words, x["wrong"], met=x["met"] != 0)


def images(context: FaultContext, count: int) -> Iterator[Case]:
    """Change or cut off bytes of a checkpoint, mostly of its metadata."""
    rng, size = context.rng, context.checkpoint.stat().st_size
    with opened(context.checkpoint) as found:
        arrays = [range(entry.offset, entry.offset + entry.size) for entry in found.entries.values()]
    metadata = [offset for offset in range(size) if not any(offset in array for array in arrays)]

    def draw() -> tuple[str, int, int]:
        how = rng.choice(["flip", "flip", "flip", "cut", "zero"])
        offset = rng.choice(metadata) if rng.random() < 0.8 else rng.randrange(size)
        return how, offset, {"flip": 1 << rng.randrange(8), "cut": 0, "zero": rng.choice([1, 8, 512, 4096])}[how]

    cases = json.dumps([draw() for _ in range(count)])
    for x in program("change_bytes.py", str(context.checkpoint), str(context.fresh("images")), cases, environment={}):
        yield Case(" ".join(map(str, x["case"])), x["wrong"])


def hostile(context: FaultContext, count: int) -> Iterator[Case]:
    """Read files that are made to do harm."""
    folder, names = context.fresh("hostile"), [context.hostile() for _ in range(count)]
    files = [folder / f"{number:04d}.h5" for number in range(count)]
    for path, name in zip(files, names, strict=True):
        shutil.copy(context.checkpoint, path)
        HOSTILE[name](path)
    log = folder / "log"
    environment = injector.environment(folder / "none", log=log)
    result = list(program("open_files.py", str(context.checkpoint), *map(str, files), environment=environment))
    others = other_files(log, files)
    for name, path, x in zip(names, files, result, strict=True):
        yield Case(name, others.get(path.name) or wrong_refusal(x, path))


def wrong_refusal(result: dict[str, Any], path: Path) -> str:
    """Return what is wrong with how open_files.py refused a hostile file, or ""."""
    reason, length = result["refused"], path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    if not reason:
        return "wrong bits: it was taken for a checkpoint"
    if "\n" in reason or len(reason) > 1000:
        return f"crash: its reason is not one line: {reason[:200]}"
    if result["seconds"] > 1:
        return f"hang: refused after {result['seconds']:.1f} CPU s"
    most = 100 + 3 * min(length, 1 << 30) / 1e6
    return f"crash: it took {result['grown_mb']:.0f} MB" if result["grown_mb"] > most else ""


def other_files(log: Path, files: list[Path]) -> dict[str, str]:
    """Return, by the name of the hostile file, which other files it had opened; see open_files.py."""
    allowed, found, current = {str(path) for path in files}, {}, ""
    for _, _, path in injector.calls_in(log):
        if path.startswith("/nowhere/"):
            current = path.removeprefix("/nowhere/")
        elif current and path not in allowed and not path.startswith(("/proc/", "/sys/", sys.prefix, sys.base_prefix)):
            found[current] = f"loss: it had {path} opened"
    return found


# --- jobs ---------------------------------------------------------------------------------------------


def each(context: FaultContext, count: int, draw: Callable[[FaultContext], Case]) -> Iterator[Case]:
    """Draw and carry out cases one by one."""
    for _ in range(count):
        yield draw(context)


def disk_of_a_job(context: FaultContext) -> Case:
    """Let file calls of a job fail."""
    ranks, (name, count, at) = context.rng.choice(context.ranks), _drawn(context, CALLS_OF_A_JOB)
    wrong, met = train_jobs.with_disk(context.bench, ranks, FAULTS[name], at, count, context.again())
    return Case(f"{ranks} ranks, {name} {_counts(count)}, call {at}", wrong, met)


def signals(context: FaultContext) -> Case:
    """Send one rank or all a signal that asks them to stop, at a stage or in a certain step."""
    rng, bench, ranks = (
        context.rng,
        context.bench,
        context.rng.choice([*context.ranks, 5]),
    )  # of 5 ranks one has no shard
    number = rng.choice(STOPS)
    if rng.random() < 0.5:
        victims, stage = rng.choice([[0], [ranks - 1], list(range(ranks))]), rng.choice(STAGES)
        twice = number != signal.SIGINT and rng.random() < 0.3
        result = train_jobs.with_signals(bench, ranks, victims, stage, [number] * (1 + twice))
        words = f"{number.name}{' twice' * twice} to {victims} of {ranks} at {stage}"
    else:
        rank, last = rng.choice(["all", *range(ranks)]), bench.reference.last
        steps = [("step", at) for at in (1, rng.randint(2, last), last)]
        where, at = rng.choice([*steps, ("finish", 1), ("import", 1)])
        result = train_jobs.with_event(bench, ranks, rank, where, at, number.name)
        words = f"{number.name} to {rank} of {ranks} at {where} {at}"
    return Case(words, train_jobs.wrong_stop(bench, result, context.again()), result.met)


def deaths(context: FaultContext) -> Case:
    """Let a rank be killed, raise or leave, at a stage or in a certain step; a second SIGINT ends the job too."""
    rng, bench, ranks = context.rng, context.bench, context.rng.choice(context.ranks)
    rank = rng.randrange(ranks)
    if rng.random() < 0.4:
        stage, number = rng.choice(STAGES), rng.choice(DEATHS)
        result, words = (
            train_jobs.with_signals(bench, ranks, [rank], stage, [number]),
            f"{number.name} to {rank} of {ranks} at {stage}",
        )
    else:
        ways = ["raise", "user", "exit0", "exit3", "SIGKILL", "SIGSEGV", "SIGINT,wait0.2,SIGINT"]
        where = rng.choice(["begin", "step", "save", "evaluate", "finish"])
        at, way = (
            rng.randint(1, {"step": bench.reference.last, "save": 20, "evaluate": 6}.get(where, 1)),
            rng.choice(ways),
        )
        result = train_jobs.with_event(bench, ranks, rank, where, at, way)
        words = f"{way} on {rank} of {ranks} at {where} {at}"
    return Case(words, train_jobs.wrong_death(bench, result, context.again()), result.met)


def survivals(context: FaultContext) -> Case:
    """Kill one rank or two of a job with fault tolerance, which continues without them."""
    rng, bench, ranks = context.rng, context.bench, context.rng.choice([2, 3, 4])
    victims = rng.sample(range(ranks), rng.choice([1, 1, 2]) if ranks > 2 else 1)
    if rng.random() < 0.3:
        stage = rng.choice(STAGES[1:])  # before that there is no MPI yet that could tell of it
        result = train_jobs.with_signals(bench, ranks, victims, stage, [signal.SIGKILL], survive=True)
        words = f"SIGKILL to {victims} of {ranks} at {stage}"
    else:
        most = bench.reference.last
        times = {"step": most, "sum": most, "update": most, "forward": most, "save": 20, "copy": 20, "evaluate": 6}
        where = rng.choice([*times, "begin", "finish"])
        at = rng.randint(1, times.get(where, 1))
        result = train_jobs.with_event(bench, ranks, ",".join(map(str, victims)), where, at, "SIGKILL", survive=True)
        words = f"SIGKILL on {victims} of {ranks} at {where} {at}"
    met = "they resume from " in result.text or result.code != 0
    return Case(words, train_jobs.wrong_survival(bench, result, context.again()), met)


def others(context: FaultContext) -> Case:
    """Carry out one of: stop file, time limit, second job, starts that die, hostile files in the run's folder."""
    names = {
        "a stop file": folder_events.by_stop_file,
        "a time limit": folder_events.by_time_limit,
        "two jobs": folder_events.by_two_jobs,
        "starts that come to nothing": folder_events.by_dying_again,
        "bad files": None,
    }
    name, ranks = context.rng.choice(sorted(names)), context.rng.choice(context.ranks)
    if name == "bad files":
        bad = [context.hostile() for _ in range(3)]
        bad = [name for name in bad if name not in ANOTHER_RUN]
        return Case(f"bad files: {bad}", folder_events.by_bad_files(context.bench, ranks, context.again(), bad))
    return Case(name, names[name](context.bench, ranks, context.again()))


def outside(context: FaultContext) -> Case:
    """Carry out one of: two runs at once, links in the folder, data cut off, streams gone, dbp run killed."""
    bench, ranks, again = context.bench, context.rng.choice(context.ranks), context.again()
    names = {
        "two runs at once": outside_events.by_two_runs,
        "links": outside_events.by_links,
        "data cut off": outside_events.by_cut_data,
        "dbp run killed": outside_events.by_killed_launcher,
    }
    name = context.rng.choice(sorted([*names, "streams"]))
    if name == "streams":
        how = context.rng.choice(sorted(outside_events.GONE))
        return Case(f"streams: {how}", outside_events.by_gone_streams(bench, how, again))
    return Case(f"{name}, {ranks} ranks", names[name](bench, ranks, again))


def disks(context: FaultContext) -> Case:
    """Use a real small disk that is full, for a while or for good, or read-only."""
    name, ranks = context.rng.choice(["full", "full for a while", "read-only"]), context.rng.choice(context.ranks)
    if name == "read-only":
        return Case(name, folder_events.by_read_only(context.bench, ranks))
    return Case(name, folder_events.by_full_disk(context.bench, ranks, context.again(), heals=name != "full"))


# Sound files that are checkpoints of another run as far as anyone can tell: the start is refused, nothing is touched.
ANOTHER_RUN = ("contents {}", "4 TiB of weights in a sparse file")

# Kinds of faults with their parts of all: unit level, then real jobs.
KINDS: dict[str, tuple[int, Callable[[FaultContext, int], Iterator[Case]]]] = {
    "file calls of a save": (8, saves),
    "file calls of a training": (8, trainings),
    "changed bytes": (6, images),
    "hostile files": (4, hostile),
    "file calls of a job": (4, partial(each, draw=disk_of_a_job)),
    "signals": (5, partial(each, draw=signals)),
    "dying ranks": (6, partial(each, draw=deaths)),
    "survived deaths": (6, partial(each, draw=survivals)),
    "files and other jobs": (2, partial(each, draw=others)),
    "events from outside": (3, partial(each, draw=outside)),
    "full disks": (1, partial(each, draw=disks)),
}


def shares(count: int, kinds: Sequence[str]) -> dict[str, int]:
    """Divide faults among kinds by weight, at least one each."""
    total = sum(KINDS[kind][0] for kind in kinds)
    return {kind: -(-count * KINDS[kind][0] // total) for kind in kinds}


def prepare(folder: Path, seed: int) -> FaultContext:
    """Return a context in a folder, with its reference run."""
    bench = Bench.prepare(folder / "jobs")
    probe = folder / "probe"
    probe.mkdir()
    return FaultContext(folder, bench, random.Random(seed), disks=folder_events.why_no_disks(probe) is None)
