"""The kinds of faults: how cases of each are drawn, carried out and judged. A new kind is a function in KINDS."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dbp.checkpoint import checkpoints_of, opened
from tests.faults import folders, injector, jobs
from tests.faults.hostile import HOSTILE
from tests.faults.injector import ALWAYS, FAULTS
from tests.faults.jobs import DEATHS, STAGES, STOPS, Bench

HERE = Path(__file__).parent
CALLS_OF_A_SAVE, CALLS_OF_A_TRAINING, CALLS_OF_A_JOB = 90, 650, 5000  # about; later ones are not met
LIMIT = 900  # seconds for a program that carries out many cases


@dataclass(frozen=True)
class Case:
    """A fault.

    Args:
        words: what it was.
        wrong: what was wrong afterwards, from one of loss, hang, wrong bits, crash, leftovers on; "" if nothing was.
        met: whether anything has met the fault.
    """

    words: str
    wrong: str
    met: bool = True


@dataclass
class Place:
    """Where faults are injected.

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
        """The last one of the run that nothing has broken."""
        return checkpoints_of(self.bench.folder / "whole" / "run").files()[-1]

    def again(self) -> int:
        """Ranks of a job that goes on; one, without mpirun, most of the time."""
        return self.rng.choice([0, 0, 1, *self.ranks])

    def fresh(self, name: str) -> Path:
        """A new folder for files."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def hostile(self) -> str:
        """The name of a hostile file: each comes before one comes again."""
        if not self._names:
            self._names = sorted(HOSTILE)
            self.rng.shuffle(self._names)
        return self._names.pop()


def program(name: str, *words: str, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What a program of this folder prints."""
    path = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | jobs.SETTINGS | jobs.ALONE | {"PYTHONPATH": path} | environment
    command = [sys.executable, str(HERE / name), *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{name} failed: {ended.stderr[-2000:]}")
    return map(json.loads, ended.stdout.splitlines())


def _counts(count: int) -> str:
    return "from then on" if count == ALWAYS else f"{count} calls" if count > 1 else "once"


def _drawn(place: Place, calls: int) -> tuple[str, int, int]:
    """A fault, how many calls meet it, and from which on."""
    return place.rng.choice(sorted(FAULTS)), place.rng.choice([1, 1, ALWAYS, 20]), place.rng.randint(1, calls)


# --- on one rank --------------------------------------------------------------------------------------


def saves(place: Place, count: int) -> Iterator[Case]:
    """File calls of a save."""
    folder = place.fresh("saves")
    drawn = [(*_drawn(place, CALLS_OF_A_SAVE), 10_000) for _ in range(count)]
    told = program("saves.py", str(folder), json.dumps(drawn), environment=injector.environment(folder / "run"))
    for x in told:
        yield Case(f"{x['fault']} {_counts(x['count'])}, call {x['at']}", x["wrong"])


def trainings(place: Place, count: int) -> Iterator[Case]:
    """File calls of a training on one rank, from its start or from a checkpoint."""
    folder = place.fresh("trainings")
    drawn = [(*_drawn(place, CALLS_OF_A_TRAINING), place.rng.randint(0, 1)) for _ in range(count)]
    told = program("trainings.py", str(folder), json.dumps(drawn), environment=injector.environment(folder / "run"))
    for x in told:
        words = f"{x['fault']} {_counts(x['count'])}, call {x['at']}, {'resumed' if x['later'] else 'new'}"
        yield Case(words, x["wrong"], met=x["met"] != 0)


def images(place: Place, count: int) -> Iterator[Case]:
    """Bytes of a checkpoint that have changed or are missing: those of metadata mostly."""
    rng, size = place.rng, place.checkpoint.stat().st_size
    with opened(place.checkpoint) as found:
        arrays = [range(entry.offset, entry.offset + entry.size) for entry in found.entries.values()]
    metadata = [offset for offset in range(size) if not any(offset in array for array in arrays)]

    def draw() -> tuple[str, int, int]:
        how = rng.choice(["flip", "flip", "flip", "cut", "zero"])
        offset = rng.choice(metadata) if rng.random() < 0.8 else rng.randrange(size)
        return how, offset, {"flip": 1 << rng.randrange(8), "cut": 0, "zero": rng.choice([1, 8, 512, 4096])}[how]

    cases = json.dumps([draw() for _ in range(count)])
    for x in program("images.py", str(place.checkpoint), str(place.fresh("images")), cases, environment={}):
        yield Case(" ".join(map(str, x["case"])), x["wrong"])


def hostile(place: Place, count: int) -> Iterator[Case]:
    """Files that are made to do harm."""
    folder, names = place.fresh("hostile"), [place.hostile() for _ in range(count)]
    files = [folder / f"{number:04d}.h5" for number in range(count)]
    for path, name in zip(files, names, strict=True):
        shutil.copy(place.checkpoint, path)
        HOSTILE[name](path)
    log = folder / "log"
    environment = injector.environment(folder / "none", log=log)
    told = list(program("opens.py", str(place.checkpoint), *map(str, files), environment=environment))
    others = other_files(log, files)
    for name, path, x in zip(names, files, told, strict=True):
        yield Case(name, others.get(path.name) or wrong_refusal(x, path))


def wrong_refusal(told: dict[str, Any], path: Path) -> str:
    """What is wrong with how a hostile file was refused, as opens.py tells it."""
    reason, length = told["refused"], path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    if not reason:
        return "wrong bits: it was taken for a checkpoint"
    if "\n" in reason or len(reason) > 1000:
        return f"crash: its reason is not one line: {reason[:200]}"
    if told["seconds"] > 1:
        return f"hang: refused after {told['seconds']:.1f} s"
    most = 100 + 3 * min(length, 1 << 30) / 1e6
    return f"crash: it took {told['grown_mb']:.0f} MB" if told["grown_mb"] > most else ""


def other_files(log: Path, files: list[Path]) -> dict[str, str]:
    """Which files were opened besides that which should be, by that one's name; see opens.py."""
    allowed, found, current = {str(path) for path in files}, {}, ""
    for _, _, path in injector.calls_in(log):
        if path.startswith("/nowhere/"):
            current = path.removeprefix("/nowhere/")
        elif current and path not in allowed and not path.startswith(("/proc/", "/sys/", sys.prefix, sys.base_prefix)):
            found[current] = f"loss: it had {path} opened"
    return found


# --- jobs ---------------------------------------------------------------------------------------------


def each(place: Place, count: int, draw: Callable[[Place], Case]) -> Iterator[Case]:
    """Cases that are drawn and carried out one by one."""
    for _ in range(count):
        yield draw(place)


def disk_of_a_job(place: Place) -> Case:
    """File calls of a job."""
    ranks, (name, count, at) = place.rng.choice(place.ranks), _drawn(place, CALLS_OF_A_JOB)
    wrong, met = jobs.with_disk(place.bench, ranks, FAULTS[name], at, count, place.again())
    return Case(f"{ranks} ranks, {name} {_counts(count)}, call {at}", wrong, met)


def signals(place: Place) -> Case:
    """Signals that ask a job to stop, to one rank or to all, from outside at a stage or in a certain step."""
    rng, bench, ranks = place.rng, place.bench, place.rng.choice([*place.ranks, 5])  # of 5 ranks one has no shard
    number = rng.choice(STOPS)
    if rng.random() < 0.5:
        victims, stage = rng.choice([[0], [ranks - 1], list(range(ranks))]), rng.choice(STAGES)
        twice = number != signal.SIGINT and rng.random() < 0.3
        told = jobs.sent(bench, ranks, victims, stage, [number] * (1 + twice))
        words = f"{number.name}{' twice' * twice} to {victims} of {ranks} at {stage}"
    else:
        rank, last = rng.choice(["all", *range(ranks)]), bench.whole.last
        steps = [("step", at) for at in (1, rng.randint(2, last), last)]
        where, at = rng.choice([*steps, ("finish", 1), ("import", 1)])
        told = jobs.happened(bench, ranks, rank, where, at, number.name)
        words = f"{number.name} to {rank} of {ranks} at {where} {at}"
    return Case(words, jobs.wrong_stop(bench, told, place.again()), told.met)


def deaths(place: Place) -> Case:
    """A rank is killed, raises or leaves at a stage or in a certain step; a second SIGINT too ends all."""
    rng, bench, ranks = place.rng, place.bench, place.rng.choice(place.ranks)
    rank = rng.randrange(ranks)
    if rng.random() < 0.4:
        stage, number = rng.choice(STAGES), rng.choice(DEATHS)
        told, words = jobs.sent(bench, ranks, [rank], stage, [number]), f"{number.name} to {rank} of {ranks} at {stage}"
    else:
        ways = ["raise", "user", "exit0", "exit3", "SIGKILL", "SIGSEGV", "SIGINT,wait0.2,SIGINT"]
        where = rng.choice(["begin", "step", "save", "evaluate", "finish"])
        at, way = rng.randint(1, {"step": bench.whole.last, "save": 40, "evaluate": 12}.get(where, 1)), rng.choice(ways)
        told = jobs.happened(bench, ranks, rank, where, at, way)
        words = f"{way} on {rank} of {ranks} at {where} {at}"
    return Case(words, jobs.wrong_death(bench, told, place.again()), told.met)


def survivals(place: Place) -> Case:
    """One rank or two are killed, and the others go on without them, where the MPI library lets them."""
    rng, bench, ranks = place.rng, place.bench, place.rng.choice([2, 3, 4])
    victims = rng.sample(range(ranks), rng.choice([1, 1, 2]) if ranks > 2 else 1)
    if rng.random() < 0.3:
        stage = rng.choice(STAGES[1:])  # before that there is no MPI yet that could tell of it
        told = jobs.sent(bench, ranks, victims, stage, [signal.SIGKILL], survive=True)
        words = f"SIGKILL to {victims} of {ranks} at {stage}"
    else:
        most = bench.whole.last
        times = {"step": most, "sum": most, "update": most, "forward": most, "save": 40, "copy": 40, "evaluate": 12}
        where = rng.choice([*times, "begin", "finish"])
        at = rng.randint(1, times.get(where, 1))
        told = jobs.happened(bench, ranks, ",".join(map(str, victims)), where, at, "SIGKILL", survive=True)
        words = f"SIGKILL on {victims} of {ranks} at {where} {at}"
    met = "they go on from " in told.text or told.code != 0
    return Case(words, jobs.wrong_survival(bench, told, place.again()), met)


def others(place: Place) -> Case:
    """A stop file, a time limit, a second job, starts that come to nothing, hostile files in the run's folder."""
    names = {
        "a stop file": folders.by_stop_file,
        "a time limit": folders.by_time_limit,
        "two jobs": folders.by_two_jobs,
        "starts that come to nothing": folders.by_dying_again,
        "bad files": None,
    }
    name, ranks = place.rng.choice(sorted(names)), place.rng.choice(place.ranks)
    if name == "bad files":
        bad = [place.hostile() for _ in range(3)]
        bad = [name for name in bad if name not in ANOTHER_RUN]
        return Case(f"bad files: {bad}", folders.by_bad_files(place.bench, ranks, place.again(), bad))
    return Case(name, names[name](place.bench, ranks, place.again()))


def disks(place: Place) -> Case:
    """Real small disks that are full, for a while or for good, or read-only."""
    name, ranks = place.rng.choice(["full", "full for a while", "read-only"]), place.rng.choice(place.ranks)
    if name == "read-only":
        return Case(name, folders.by_read_only(place.bench, ranks))
    return Case(name, folders.by_full_disk(place.bench, ranks, place.again(), heals=name != "full"))


# Sound files that are checkpoints of another run as far as anyone can tell: the start is refused, nothing is touched.
ANOTHER_RUN = ("arrays in arrays", "contents {}", "4 TiB of weights in a sparse file")

# Kinds of faults with their parts of all: unit level, then real jobs.
KINDS: dict[str, tuple[int, Callable[[Place, int], Iterator[Case]]]] = {
    "file calls of a save": (8, saves),
    "file calls of a training": (8, trainings),
    "changed bytes": (6, images),
    "hostile files": (4, hostile),
    "file calls of a job": (4, partial(each, draw=disk_of_a_job)),
    "signals": (5, partial(each, draw=signals)),
    "dying ranks": (6, partial(each, draw=deaths)),
    "survived deaths": (6, partial(each, draw=survivals)),
    "files and other jobs": (2, partial(each, draw=others)),
    "full disks": (1, partial(each, draw=disks)),
}


def shares(count: int, kinds: Sequence[str]) -> dict[str, int]:
    """How many of so many faults are of each kind: at least one."""
    whole = sum(KINDS[kind][0] for kind in kinds)
    return {kind: -(-count * KINDS[kind][0] // whole) for kind in kinds}


def made(folder: Path, seed: int) -> Place:
    """A place in a folder, with what nothing has broken."""
    bench = Bench.made(folder / "jobs")
    probe = folder / "probe"
    probe.mkdir()
    return Place(folder, bench, random.Random(seed), disks=folders.why_no_disks(probe) is None)
