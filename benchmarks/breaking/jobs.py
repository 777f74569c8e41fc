"""Real jobs under mpirun whose ranks are signalled or ended at a stage, and what must be true of them afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from breaking import injector
from breaking.injector import ALWAYS, DELAY, SYNCING, Fault
from breaking.runs import CONFIG, Whole, wrong_in
from dbp.checkpoint import checkpoints_of, step_of

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
ALONE = {"MPI4PY_LIBMPI": "/nonexistent"}  # one rank that starts without an MPI
LIMIT, GONE = 60.0, 5.0  # seconds for a job, and for all of it to be gone when a rank has died
SLOW = Fault("slow disk", DELAY, 150, SYNCING)
EPOCHS = 12
LONGER = CONFIG.replace("epochs = 2", f"epochs = {EPOCHS}").replace("every_steps = 10", "every_steps = 7")
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
    """

    def __init__(self, folder: Path, ranks: int, *words: str, more: Mapping[str, str] | None = None):
        self.folder, self.ranks, self._mark = folder, ranks, f"BREAK_JOB={uuid.uuid4().hex}"
        train = [sys.executable, "-m", "dbp", "train", str(folder / "config.toml"), "--out", str(folder / "run")]
        start = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)] if ranks else []
        environment = os.environ | SETTINGS | dict([self._mark.split("=")]) | (ALONE if not ranks else {})
        self.log = folder / f"log-{uuid.uuid4().hex[:8]}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*start, *train, *words],
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
            time.sleep(0.002)
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

    def job(self, ranks: int, *words: str, more: Mapping[str, str] | None = None, name: str = "job") -> Job:
        """A job of that run; under the same name it goes on with it."""
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "config.toml").write_text(LONGER)
        return Job(self.folder / name, ranks, *words, more=more)

    def clear(self, name: str = "job") -> Path:
        """Forget a job's run; gives its folder."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name / "run"

    def goes_on(self, ranks: int, name: str = "job") -> str:
        """Start the job again, without a fault, and compare what it comes to; gives what is wrong."""
        with self.job(ranks, name=name) as job:
            code = job.wait()
            if code is None:
                return f"hang: going on, {job.text[-300:]}"
            if code != 0:
                return f"loss: going on ended with {code}: {job.text[-300:]}"
        return wrong_in(self.folder / name / "run", self.whole, finished=True, clean=True)


def slow_disk(folder: Path) -> dict[str, str]:
    """Variables of a job whose checkpoints take a while, but whose start does not."""
    return injector.environment(folder, SLOW, at=13, count=ALWAYS)


def stopped(bench: Bench, ranks: int, victims: list[int], stage: str, number: int, twice: bool, again: int) -> str:
    """A signal to some ranks at a stage: the job saves and ends, and goes on later; gives what is wrong.

    Args:
        bench: for jobs.
        ranks: of the job.
        victims: which of them get the signal.
        stage: of STAGES.
        number: of the signal.
        twice: whether each gets it twice, which for SIGINT means that the job is to end at once.
        again: ranks of the job that goes on.
    """
    run = bench.clear()
    with bench.job(ranks, more=slow_disk(run) if stage == "save" else None) as job:
        pids = [job.at(stage, victim) for victim in victims]
        before = newest_step(run)
        for _ in range(1 + twice):
            for pid in filter(None, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.03 * twice)
        code = job.wait()
        if code is None:
            return f"hang: {job.text[-300:]}"
        if left := _left(job):
            return left
        if not (twice and number == signal.SIGINT) and (wrong := _wrong_stop(bench, job, code, run, before)):
            return wrong
    return bench.goes_on(again)


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint; -1 if there is none."""
    files = checkpoints_of(run).files() if run.exists() else []
    return step_of(files[-1]) if files else -1


def _wrong_stop(bench: Bench, job: Job, code: int, run: Path, before: int) -> str:
    text = job.text
    if code == 0:
        return wrong_in(run, bench.whole, finished=True)
    saved = newest_step(run)
    if code != 75 or text.count("stop requested by ") != 1 or "Traceback" in text:
        return f"loss: it ended with {code}: {text[-400:]}"
    if f"saved step {saved};" not in text or saved <= before:
        return f"loss: its newest checkpoint is of step {saved}, before it was {before}: {text[-400:]}"
    return wrong_in(run, bench.whole, finished=False)


def _left(job: Job) -> str:
    """What is left of a job that has ended, after at most GONE seconds."""
    ends = time.monotonic() + GONE
    while (left := job.processes()) and time.monotonic() < ends:
        time.sleep(0.02)
    return f"hang: {len(left)} processes are left" if left else ""


def shared_memory() -> set[str]:
    """What lies in shared memory, but for the segments of the MPI libraries' own messages."""
    names = {path.name for path in Path("/dev/shm").glob("*")}
    return {name for name in names if not name.startswith(("sm_segment.", "mpich_shm_"))}


def died(bench: Bench, ranks: int, victim: int, stage: str, number: int, again: int) -> str:
    """A rank dies at a stage: all end, and the job goes on later; gives what is wrong."""
    run, before = bench.clear(), shared_memory()
    with bench.job(ranks, more=slow_disk(run) if stage == "save" else None) as job:
        pid = job.at(stage, victim)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        began = time.monotonic()
        if (code := job.wait()) is None:
            return f"hang: {job.text[-300:]}"
        if left := _left(job):
            return left
        if code != 0 and time.monotonic() - began > GONE:
            return f"hang: the others ended after {time.monotonic() - began:.1f} s"
        if shared_memory() - before:
            return f"leftovers: {shared_memory() - before} in /dev/shm"
        if wrong := wrong_in(run, bench.whole, finished=code == 0):
            return wrong
    return bench.goes_on(again)


def with_disk(bench: Bench, ranks: int, fault: Fault, at: int, count: int, again: int) -> str:
    """File calls of a job fail; gives what is wrong with it, and with the one that goes on."""
    run = bench.clear()
    with bench.job(ranks, more=injector.environment(run, fault, at, count)) as job:
        if (code := job.wait()) is None:
            return f"hang: {job.text[-300:]}"
        if left := _left(job):
            return left
        allowed = (0, 74) if fault.what != injector.KILL else None
        if (allowed and code not in allowed) or "Traceback" in job.text:
            return f"crash: it ended with {code}: {job.text[-400:]}"
        if wrong := wrong_in(run, bench.whole, finished=code == 0):
            return wrong
    return bench.goes_on(again)
