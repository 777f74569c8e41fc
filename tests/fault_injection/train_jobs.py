"""Real jobs under mpirun whose ranks get a signal or end at a stage, and checks of what they leave."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT
from types import TracebackType

from dbp.checkpoint import checkpoints_of, step_of
from dbp.saving.stopping import STOP_FILE_SECONDS
from tests.fault_injection import injector
from tests.fault_injection.injector import DELAY, SYNCING, Fault
from tests.fault_injection.reference_run import CONFIG, ReferenceRun, wrong_in
from tests.launcher import LAUNCHER_SETTINGS, ONCE_MORE
from tests.processes import LIMIT, ProcessTree, TimeLimitError
from tests.shared_memory import GONE_SECONDS, left_in_shared_memory, shared_memory

PROGRAM = Path(__file__).with_name("disturbed_command.py")
ALONE = {"MPI4PY_LIBMPI": "/nonexistent"}  # one rank that starts without an MPI
SLOW, SLOW_CALLS = Fault("slow disk", DELAY, 150, SYNCING), 40
EPOCHS = 6
LONGER = CONFIG.replace("epochs = 2", f"epochs = {EPOCHS}").replace("every_steps = 10", "every_steps = 7")
GO_ON = "go-on"  # the file that a rank waits for
STAGES = ("import", "start", "steps", "save")
DEATHS = (signal.SIGKILL, signal.SIGSEGV)
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Job:
    """`dbp train` on some ranks, or in one process without mpirun; a with statement ends all of its processes.

    Args:
        folder: holds config.toml, gets run/ and log.
        ranks: how many; 0 for one that is started directly.
        words: of the command line, besides.
        more: environment variables.
        happens: what is to happen to a rank by itself: the first words of disturbed_command.py.
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
        self.folder, self.ranks = folder, ranks
        program = [str(PROGRAM), *happens] if happens else ["-m", "dbp"]
        train = [*program, "train", str(folder / "config.toml"), "--out", str(folder / "run")]
        environment = os.environ | LAUNCHER_SETTINGS | (ALONE if not ranks else {}) | dict(more or {})
        self._tree = ProcessTree(*_start(ranks, survive), *train, *words, env=environment, stderr=STDOUT)
        self.process, self.processes = self._tree.process, self._tree.processes

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tree.__exit__(kind, error, trace)

    @property
    def text(self) -> str:
        """Return its output so far."""
        return self._tree.out

    def rank(self, number: int) -> int | None:
        """Return the process of a rank; None before its start and after its end."""
        if not self.ranks:
            return self.process.pid if self.process.poll() is None else None
        return self._tree.rank(number)

    def wait(self, limit: float = LIMIT) -> int | None:
        """Return its exit code; None if it does not end within the limit."""
        with contextlib.suppress(TimeLimitError):
            return self._tree.wait(limit)
        return None

    def go_on(self) -> None:
        """Let a rank go on that waits; see Bench.waits."""
        (self.folder / GO_ON).touch()

    def at(self, stage: str, rank: int) -> int | None:
        """Wait for a stage of STAGES, seen from outside; return the rank's process, None if the job ends first."""
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
        if stage == "steps":
            return any((run / "checkpoints").glob("step-*.h5"))
        writer = self.rank(0)
        return writer is not None and _is_writing(writer, run / "checkpoints")


def _is_writing(pid: int, folder: Path) -> bool:
    """Return True if a process has a file open in a folder that has no name, or a temporary one, as Linux tells."""
    files: list[str] = []
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                files.append(os.path.realpath(link))
    return any(file.startswith((f"{folder}/#", f"{folder}/.step-")) for file in files)


def _start(ranks: int, survive: bool) -> list[str]:
    """Return the command that starts so many ranks of a Python program."""
    if survive:
        return [sys.executable, "-m", "dbp", "run", "--survive", "-n", str(ranks), "--", sys.executable]
    launcher = [*ONCE_MORE, str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)] if ranks else []
    return [*launcher, sys.executable]


@dataclass
class Bench:
    """A folder for jobs, with the reference run that they must equal.

    Args:
        folder: for jobs.
        reference: what they must come to.
    """

    folder: Path
    reference: ReferenceRun

    @classmethod
    def prepare(cls, folder: Path) -> Bench:
        """Train the reference run on one rank."""
        (folder / "whole").mkdir(parents=True)
        (folder / "whole" / "config.toml").write_text(LONGER)
        with Job(folder / "whole", 0, "--set", "checkpoint.keep=10000") as job:
            assert job.wait() == 0, job.text
        return cls(folder, ReferenceRun.of(folder / "whole" / "run", folder / "none"))

    @property
    def run(self) -> Path:
        """Return the folder of the job's run."""
        return self.folder / "job" / "run"

    @property
    def waits(self) -> tuple[str, ...]:
        """Return what makes rank 0 of a job wait in step 60 until Job.go_on(), and longer than to the next look."""
        return "0", "step", "60", f"until:../{GO_ON},wait{2 * STOP_FILE_SECONDS}"

    def job(
        self,
        ranks: int,
        *words: str,
        more: Mapping[str, str] | None = None,
        happens: tuple[str, ...] = (),
        fresh: bool = True,
        survive: bool = False,
    ) -> Job:
        """Start a job, whose run begins anew if `fresh`."""
        if fresh:
            shutil.rmtree(self.folder / "job", ignore_errors=True)
            (self.folder / "job").mkdir()
        (self.folder / "job" / "config.toml").write_text(LONGER)
        return Job(self.folder / "job", ranks, *words, more=more, happens=happens, survive=survive)

    def resume(self, ranks: int, *words: str) -> str:
        """Start the job again without a fault; return what differs from the reference run, or ""."""
        with self.job(ranks, *words, fresh=False) as job:
            code = job.wait()
        if code is None:
            return f"hang: going on, {job.text[-300:]}"
        if code != 0:
            return f"loss: going on ended with {code}: {job.text[-300:]}"
        return wrong_in(self.run, self.reference, finished=True, clean=True)


def slow_disk(folder: Path) -> dict[str, str]:
    """Return the variables of a job whose first checkpoints take a while, but whose start does not."""
    return injector.environment(folder, SLOW, at=13, count=SLOW_CALLS)


def newest_step(run: Path) -> int:
    """Return the step of the newest checkpoint; -1 if there is none."""
    files = checkpoints_of(run).files() if run.exists() else []
    return step_of(files[-1]) if files else -1


@dataclass(frozen=True)
class JobResult:
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
        """Return the exit code and the last output."""
        return f"it ended with {self.code}: {self.text[-500:]}"


def wait_for_end(
    job: Job, shared: set[str], began: float | None = None, before: int = -1, met: bool = True
) -> JobResult:
    """Wait for a job's end, and look for processes and shared memory that are left."""
    code = job.wait()
    seconds = 0.0 if began is None else time.monotonic() - began
    ends = time.monotonic() + GONE_SECONDS
    while (left := job.processes()) and code is not None and time.monotonic() < ends:
        time.sleep(0.02)
    words = [f"{len(left)} processes"] * bool(left) + sorted(left_in_shared_memory(shared))
    return JobResult(code, job.text, seconds, before, ", ".join(words), met)


def with_signals(
    bench: Bench, ranks: int, victims: list[int], stage: str, numbers: list[int], *, survive: bool = False
) -> JobResult:
    """Run a job, and send some of its ranks signals, one after the other, at a stage of STAGES."""
    shared = shared_memory()
    with bench.job(ranks, more=slow_disk(bench.run) if stage == "save" else None, survive=survive) as job:
        pids = [job.at(stage, victim) for victim in victims]
        before, began = newest_step(bench.run), time.monotonic()
        for number in numbers:
            for pid in filter(None, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.03 * (len(numbers) > 1))
        return wait_for_end(job, shared, began, before, any(pids))


def with_event(
    bench: Bench, ranks: int, rank: int | str, moment: str, number: int, way: str, *, survive: bool = False
) -> JobResult:
    """Run a job in which some ranks meet an event; see disturbed_command.py."""
    shared = shared_memory()
    with bench.job(ranks, happens=(str(rank), moment, str(number), way), survive=survive) as job:
        return wait_for_end(job, shared)


def wrong_stop(bench: Bench, result: JobResult, again: int) -> str:
    """Return what is wrong with a job that was asked to stop, or with the one that resumes it, or ""."""
    if result.code is None or result.left:
        return f"hang: {result.left}, {result.end}"
    if result.code == 0:
        return wrong_in(bench.run, bench.reference, finished=True)
    saved = newest_step(bench.run)
    if result.code != 75 or result.text.count("stop requested by ") != 1 or "Traceback" in result.text:
        return f"loss: {result.end}"
    if f"saved step {saved};" not in result.text or saved <= result.before:
        return f"loss: its newest checkpoint is of step {saved}, before it was of {result.before}: {result.end}"
    return wrong_in(bench.run, bench.reference, finished=False) or bench.resume(again)


def wrong_death(bench: Bench, result: JobResult, again: int) -> str:
    """Return what is wrong with a job of which a rank has died, or with the one that resumes it, or ""."""
    if result.code is None or result.left or (result.code != 0 and result.seconds > GONE_SECONDS):
        return f"hang: {result.left}, after {result.seconds:.1f} s {result.end}"
    if result.text.count("Traceback") > 1:
        return f"crash: result more than once: {result.end}"
    return wrong_in(bench.run, bench.reference, finished=result.code == 0) or bench.resume(again)


def wrong_survival(bench: Bench, result: JobResult, again: int) -> str:
    """Return what is wrong with a job that is to survive deaths of ranks, or with the one that resumes it, or ""."""
    if result.code is None or result.left:
        return f"hang: {result.left}, {result.end}"
    if result.code not in (0, 75) or "Traceback" in result.text:
        return f"loss: {result.end}"
    finished = result.code == 0
    return wrong_in(bench.run, bench.reference, finished=finished, clean=finished) or (
        "" if finished else bench.resume(again)
    )


def with_disk(bench: Bench, ranks: int, fault: Fault, at: int, count: int, again: int) -> tuple[str, bool]:
    """Run a job whose file calls fail; return what is wrong with it or with its resumption, and if any call failed."""
    log, shared = bench.folder / "calls", shared_memory()
    log.write_text("")
    with bench.job(ranks, more=injector.environment(bench.run, fault, at, count, log)) as job:
        result = wait_for_end(job, shared)
    met = " BROKEN\n" in log.read_text()
    if result.code is None or result.left:
        return f"hang: {result.left}, {result.end}", met
    allowed = (0, 74) if fault.what != injector.KILL or not met else range(1, 256)
    if result.code not in allowed or "Traceback" in result.text:
        return f"crash: {result.end}", met
    return wrong_in(bench.run, bench.reference, finished=result.code == 0) or bench.resume(again), met
