"""Real jobs under mpirun whose ranks are signalled or ended at a stage, and what must be true of them afterwards."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from dbp.checkpoint import checkpoints_of, step_of
from tests.faults import injector
from tests.faults.injector import DELAY, SYNCING, Fault
from tests.faults.runs import CONFIG, Whole, wrong_in

SETTINGS = {  # what a launcher needs to start more ranks than cores, as root, without searching for networks
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "^ofi",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
PROGRAM = Path(__file__).with_name("program.py")
ALONE = {"MPI4PY_LIBMPI": "/nonexistent"}  # one rank that starts without an MPI
NOT_BEGUN = 213  # the exit code of Open MPI's launcher if it could not start
LIMIT, GONE = 60.0, 5.0  # seconds for a job, and for all of it to be gone when a rank has died
SLOW, SLOW_CALLS = Fault("slow disk", DELAY, 150, SYNCING), 40
EPOCHS = 12
LONGER = CONFIG.replace("epochs = 2", f"epochs = {EPOCHS}").replace("every_steps = 10", "every_steps = 7")
P = ParamSpec("P")
STAGES = ("import", "start", "steps", "save")
DEATHS = (signal.SIGKILL, signal.SIGSEGV)
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Job:
    """`dbp train` on some ranks, or on one without mpirun, in a with statement at whose end nothing of it is left.

    Args:
        folder: holds config.toml, gets run/ and log.
        ranks: how many; 0 for one that is started directly.
        words: of the command line, besides.
        more: environment variables.
        happens: what is to happen to a rank by itself: the first words of program.py.
        survive: whether ranks are to outlive others.
    """

    def __init__(
        self,
        folder: Path,
        ranks: int,
        *words: str,
        more: Mapping[str, str] | None = None,
        happens: tuple[str, ...] = (),
        survive: bool = False,
    ):
        self.folder, self.ranks, self._mark = folder, ranks, f"BREAK_JOB={uuid.uuid4().hex}"
        program = [str(PROGRAM), *happens] if happens else ["-m", "dbp"]
        train = [*program, "train", str(folder / "config.toml"), "--out", str(folder / "run")]
        environment = os.environ | SETTINGS | dict([self._mark.split("=")]) | (ALONE if not ranks else {})
        self.log = folder / f"log-{uuid.uuid4().hex[:8]}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*_start(ranks, survive), *train, *words],
                env=environment | dict(more or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_error: object) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def processes(self) -> dict[int, bytes]:
        """Its processes that still run, with their environments."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (path / "environ").read_bytes()
                if self._mark.encode() in environment and b") Z " not in (path / "stat").read_bytes():
                    found[int(path.name)] = environment
        return found

    def rank(self, number: int) -> int | None:
        """The process of a rank; None before its start and after its end."""
        if not self.ranks:
            return self.process.pid if self.process.poll() is None else None
        wanted = f"\0OMPI_COMM_WORLD_RANK={number}\0".encode()
        return next((pid for pid, environment in self.processes().items() if wanted in b"\0" + environment), None)

    def wait(self, limit: float = LIMIT) -> int | None:
        """Its exit code; None if it has not ended by then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(limit)
        return None

    def at(self, stage: str, rank: int) -> int | None:
        """Wait for a stage of STAGES, seen from outside; gives the rank's process, None if the job ends before."""
        ends, pid = time.monotonic() + LIMIT, None
        while time.monotonic() < ends and self.process.poll() is None:
            pid = pid or self.rank(rank)
            if pid and self._is_at(stage, pid):
                return pid
            time.sleep(0.005)
        return None

    def _is_at(self, stage: str, pid: int) -> bool:
        run = self.folder / "run"
        if stage == "import":
            with contextlib.suppress(OSError):
                return "_multiarray_umath" in Path(f"/proc/{pid}/maps").read_text()
            return False
        if stage == "start":
            return (run / ".lock").exists()
        pattern = "step-*.h5" if stage == "steps" else ".step-*.partial"
        return any((run / "checkpoints").glob(pattern))


def _start(ranks: int, survive: bool) -> list[str]:
    """What starts so many ranks of a Python program."""
    if survive:
        return [sys.executable, "-m", "dbp", "run", "--survive", "-n", str(ranks), "--", sys.executable]
    launcher = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)] if ranks else []
    return [*launcher, sys.executable]


@dataclass
class Bench:
    """A folder for jobs, and the run that nothing has broken.

    Args:
        folder: for jobs.
        whole: what they must come to.
    """

    folder: Path
    whole: Whole

    @classmethod
    def made(cls, folder: Path) -> Bench:
        """Train the run that nothing breaks, on one rank."""
        (folder / "whole").mkdir(parents=True)
        (folder / "whole" / "config.toml").write_text(LONGER)
        with Job(folder / "whole", 0, "--set", "checkpoint.keep=10000") as job:
            assert job.wait() == 0, job.text
        return cls(folder, Whole.of(folder / "whole" / "run", folder / "none"))

    @property
    def run(self) -> Path:
        """The folder of the job's run."""
        return self.folder / "job" / "run"

    def job(
        self,
        ranks: int,
        *words: str,
        more: Mapping[str, str] | None = None,
        happens: tuple[str, ...] = (),
        fresh: bool = True,
        survive: bool = False,
    ) -> Job:
        """A job, whose run begins anew unless it is to go on."""
        if fresh:
            shutil.rmtree(self.folder / "job", ignore_errors=True)
            (self.folder / "job").mkdir()
        (self.folder / "job" / "config.toml").write_text(LONGER)
        return Job(self.folder / "job", ranks, *words, more=more, happens=happens, survive=survive)

    def goes_on(self, ranks: int, *words: str) -> str:
        """Start the job again, without a fault, and compare what it comes to; gives what is wrong."""
        for _ in range(2):
            with self.job(ranks, *words, fresh=False) as job:
                code = job.wait()
            if code != NOT_BEGUN:
                break
        if code is None:
            return f"hang: going on, {job.text[-300:]}"
        if code != 0:
            return f"loss: going on ended with {code}: {job.text[-300:]}"
        return wrong_in(self.run, self.whole, finished=True, clean=True)


def slow_disk(folder: Path) -> dict[str, str]:
    """Variables of a job whose first checkpoints take a while, but whose start does not."""
    return injector.environment(folder, SLOW, at=13, count=SLOW_CALLS)


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint; -1 if there is none."""
    files = checkpoints_of(run).files() if run.exists() else []
    return step_of(files[-1]) if files else -1


def shared_memory() -> set[str]:
    """What lies in shared memory, but for the segments of the MPI libraries' own messages."""
    names = {path.name for path in Path("/dev/shm").glob("*")}
    return {name for name in names if not name.startswith(("sm_segment.", "mpich_shm_"))}


def left_in_shared_memory(before: set[str]) -> set[str]:
    """What has come there since, and stays: what other jobs hold for a moment does not count."""
    ends, left = time.monotonic() + GONE, shared_memory() - before
    while left and time.monotonic() < ends:
        time.sleep(0.02)
        left &= shared_memory()
    return left


@dataclass(frozen=True)
class Told:
    """How a job has ended.

    Args:
        code: its exit code; None if it had to be ended.
        text: what it printed.
        seconds: from what happened to it to its end, if that is known.
        before: the newest step that was saved when that happened.
        left: processes and shared memory that are left, in words.
        met: whether it has met what was to happen.
    """

    code: int | None
    text: str
    seconds: float = 0.0
    before: int = -1
    left: str = ""
    met: bool = True

    @property
    def end(self) -> str:
        """The code and the last words."""
        return f"it ended with {self.code}: {self.text[-500:]}"


def ended(job: Job, shared: set[str], began: float | None = None, before: int = -1, met: bool = True) -> Told:
    """Wait for a job's end, and look at what is left."""
    code = job.wait()
    seconds = 0.0 if began is None else time.monotonic() - began
    ends = time.monotonic() + GONE
    while (left := job.processes()) and code is not None and time.monotonic() < ends:
        time.sleep(0.02)
    words = [f"{len(left)} processes"] * bool(left) + sorted(left_in_shared_memory(shared))
    return Told(code, job.text, seconds, before, ", ".join(words), met)


def begun(function: Callable[P, Told]) -> Callable[P, Told]:
    """The same, but once more if the launcher could not start anything, as Open MPI's may on a busy machine."""

    @functools.wraps(function)
    def tried(*arguments: P.args, **more: P.kwargs) -> Told:
        told = function(*arguments, **more)
        return function(*arguments, **more) if told.code == NOT_BEGUN else told

    return tried


@begun
def sent(
    bench: Bench, ranks: int, victims: list[int], stage: str, numbers: list[int], *, survive: bool = False
) -> Told:
    """A job some of whose ranks get signals, one after the other, at a stage of STAGES."""
    shared = shared_memory()
    with bench.job(ranks, more=slow_disk(bench.run) if stage == "save" else None, survive=survive) as job:
        pids = [job.at(stage, victim) for victim in victims]
        before, began = newest_step(bench.run), time.monotonic()
        for number in numbers:
            for pid in filter(None, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.03 * (len(numbers) > 1))
        return ended(job, shared, began, before, any(pids))


@begun
def happened(
    bench: Bench, ranks: int, rank: int | str, place: str, number: int, way: str, *, survive: bool = False
) -> Told:
    """A job to one of whose ranks, to some or to all something happens by itself; see program.py."""
    shared = shared_memory()
    with bench.job(ranks, happens=(str(rank), place, str(number), way), survive=survive) as job:
        return ended(job, shared)


def wrong_stop(bench: Bench, told: Told, again: int) -> str:
    """What is wrong with a job that was asked to stop, and with the one of so many ranks that goes on."""
    if told.code is None or told.left:
        return f"hang: {told.left}, {told.end}"
    if told.code == 0:
        return wrong_in(bench.run, bench.whole, finished=True)
    saved = newest_step(bench.run)
    if told.code != 75 or told.text.count("stop requested by ") != 1 or "Traceback" in told.text:
        return f"loss: {told.end}"
    if f"saved step {saved};" not in told.text or saved <= told.before:
        return f"loss: its newest checkpoint is of step {saved}, before it was of {told.before}: {told.end}"
    return wrong_in(bench.run, bench.whole, finished=False) or bench.goes_on(again)


def wrong_death(bench: Bench, told: Told, again: int) -> str:
    """What is wrong with a job of which a rank has died, and with the one of so many ranks that goes on."""
    if told.code is None or told.left or (told.code != 0 and told.seconds > GONE):
        return f"hang: {told.left}, after {told.seconds:.1f} s {told.end}"
    if told.text.count("Traceback") > 1:
        return f"crash: told more than once: {told.end}"
    return wrong_in(bench.run, bench.whole, finished=told.code == 0) or bench.goes_on(again)


def wrong_survival(bench: Bench, told: Told, again: int) -> str:
    """What is wrong with a job that is to outlive some of its ranks; if it has not, with the one that goes on."""
    if told.code is None or told.left:
        return f"hang: {told.left}, {told.end}"
    if told.code not in (0, 75) or "Traceback" in told.text:
        return f"loss: {told.end}"
    whole = told.code == 0
    return wrong_in(bench.run, bench.whole, finished=whole, clean=whole) or ("" if whole else bench.goes_on(again))


def with_disk(bench: Bench, ranks: int, fault: Fault, at: int, count: int, again: int) -> tuple[str, bool]:
    """File calls of a job fail; gives what is wrong with it and with the one that goes on, and whether any failed."""
    log, shared = bench.folder / "calls", shared_memory()
    log.write_text("")
    with bench.job(ranks, more=injector.environment(bench.run, fault, at, count, log)) as job:
        told = ended(job, shared)
    met = " BROKEN\n" in log.read_text()
    if told.code is None or told.left:
        return f"hang: {told.left}, {told.end}", met
    allowed = (0, 74) if fault.what != injector.KILL or not met else range(1, 256)
    if told.code not in allowed or "Traceback" in told.text:
        return f"crash: {told.end}", met
    return wrong_in(bench.run, bench.whole, finished=told.code == 0) or bench.goes_on(again), met
