"""Events in a run's folder: a stop file, a second job, disks that are full or read-only, bad files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from dbp.checkpoint import checkpoints_of
from tests.fault_injection.hostile import HOSTILE
from tests.fault_injection.reference_run import wrong_in
from tests.fault_injection.train_jobs import Bench, Job, JobResult, newest_step, wait_for_end, wrong_stop
from tests.processes import LIMIT, output_of, run
from tests.shared_memory import shared_memory

HOST = socket.gethostname()
ROOM = "600k"  # of a small disk: some checkpoints


def by_stop_file(bench: Bench, ranks: int, again: int) -> str:
    """Ask a job to stop by a file."""
    with bench.job(ranks, happens=bench.waits) as job:
        job.at("steps", 0)
        (bench.run / "stop").touch()
        job.go_on()
        result = wait_for_end(job, shared_memory())
    if result.code != 75 or "stop requested by the file" not in result.text or (bench.run / "stop").exists():
        return f"loss: {result.end}"
    return wrong_stop(bench, result, again)


def by_time_limit(bench: Bench, ranks: int, again: int) -> str:
    """Give a job a time limit that it would miss if it continued after a long step."""
    with bench.job(ranks, "--time-limit", "120", happens=("0", "step", "60", "wait0.5")) as job:
        result = wait_for_end(job, shared_memory())
    if result.code != 0:
        return f"loss: it stopped long before its time limit: {result.end}"
    with bench.job(ranks, "--time-limit", "6", happens=("0", "step", "60", "wait2")) as job:
        result = wait_for_end(job, shared_memory())
    if result.code != 75 or "stop requested by the time limit of 6 s" not in result.text:
        return f"loss: {result.end}"
    return wrong_stop(bench, result, again)


def by_two_jobs(bench: Bench, ranks: int, again: int) -> str:
    """Start a second job in a running one's folder, which is refused; then kill the first, which leaves no lock."""
    with bench.job(ranks, happens=("0", "step", "60", "wait30")) as job:
        owner = job.at("steps", 0)
        with bench.job(0, fresh=False) as second:
            code = second.wait()
            if code != 2 or f"belongs to a run that is still running (host {HOST}, process {owner})" not in second.text:
                return f"loss: the second job ended with {code}: {second.text[-300:]}"
        if owner is not None:
            os.kill(owner, signal.SIGKILL)
        result = wait_for_end(job, shared_memory())
    return f"hang: {result.left}" if result.code is None or result.left else bench.resume(again)


def by_dying_again(bench: Bench, ranks: int, again: int) -> str:
    """Let a job die before its first checkpoint: it is started three times, then only on request."""
    watched = ("--set", "watch.most_starts=3")
    for start in range(4):
        with bench.job(ranks, *watched, happens=("0", "step", "3", "SIGKILL"), fresh=start == 0) as job:
            result = wait_for_end(job, shared_memory())
        refused = result.code == 2 and "was started 3 times from step 0" in result.text
        if refused != (start == 3) or result.left:
            return f"loss: start {start + 1}: {result.left}, {result.end}"
    return bench.resume(again, *watched, "--retry")


def by_bad_files(bench: Bench, ranks: int, again: int, names: list[str]) -> str:
    """Replace a run's newest checkpoints by hostile files: it uses an older one, and keeps the files."""
    with bench.job(ranks, happens=("0", "step", "100", "SIGKILL")) as job:
        result = wait_for_end(job, shared_memory())
    good = checkpoints_of(bench.run).files()
    if not good:
        return f"loss: {result.end}"
    bad = [checkpoints_of(bench.run).path_of(10_000 + number) for number in range(len(names))]
    for path, name in zip(bad, names, strict=True):
        shutil.copy(good[-1], path)
        HOSTILE[name](path)
    with bench.job(again, fresh=False) as job:
        result = wait_for_end(job, shared_memory())
    warned = result.text.count("an older one is used, and this one kept with another name")
    if result.code != 0 or f"resumed from {good[-1]}" not in result.text or warned != len(bad):
        return f"loss: {result.end}"
    if not all(os.path.lexists(f"{path}.damaged") for path in bad):
        return "loss: a bad file was not kept"
    return wrong_in(bench.run, bench.reference, finished=True, clean=True)


# --- real disks -----------------------------------------------------------------------------------------


def _mount(folder: Path, *options: str) -> None:
    output_of("mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder)


def _unmount(folder: Path) -> None:
    run("umount", "-l", folder)


def why_no_disks(folder: Path) -> str | None:
    """Return the reason why this machine cannot mount small disks; None if it can."""
    if os.geteuid() != 0:
        return "mounting a small disk needs root"
    try:
        _mount(folder, f"size={ROOM}")
    except (OSError, RuntimeError):
        return "mounting a small disk is not permitted here"
    _unmount(folder)
    return None


@contextlib.contextmanager
def small_disk(bench: Bench, *options: str) -> Iterator[Path]:
    """Mount a small disk as the run's folder."""
    shutil.rmtree(bench.folder / "job", ignore_errors=True)
    bench.run.mkdir(parents=True)
    _mount(bench.run, f"size={ROOM}", *options)
    try:
        yield bench.run
    finally:
        _unmount(bench.run)


def fill(folder: Path) -> Path:
    """Fill a disk, and return the file that takes the room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1024)):
            pass
    return filler


def _wait_for(job: Job, text: str) -> None:
    ends = time.monotonic() + LIMIT
    while text not in job.text and job.process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)


def by_full_disk(bench: Bench, ranks: int, again: int, heals: bool) -> str:
    """Fill the disk after the first checkpoints; make room again in the middle of the run, or not."""
    with small_disk(bench):
        with bench.job(ranks, "--set", "checkpoint.keep=2", happens=bench.waits, fresh=False) as job:
            job.at("steps", 0)
            filler = fill(bench.run)
            job.go_on()
            _wait_for(job, "training continues")
            before = {path: path.read_bytes() for path in checkpoints_of(bench.run).files()}
            if heals:
                filler.unlink()
            result = wait_for_end(job, shared_memory())
        return _wrong_disk(bench, result, before, heals) or _with_room(bench, filler, again)


def _with_room(bench: Bench, filler: Path, again: int) -> str:
    filler.unlink(missing_ok=True)
    return bench.resume(again, "--set", "checkpoint.keep=2")


def _wrong_disk(bench: Bench, result: JobResult, before: dict[Path, bytes], heals: bool) -> str:
    if result.code is None or result.left:
        return f"hang: {result.left}, {result.end}"
    if (
        result.code != (0 if heals else 74)
        or result.text.count("training continues") != 1
        or "Traceback" in result.text
    ):
        return f"crash: {result.end}"
    if ("checkpoints are written again" in result.text) != heals:
        return f"loss: {result.end}"
    if not heals and (not before or any(path.read_bytes() != data for path, data in before.items())):
        return "loss: an older checkpoint has changed"
    return wrong_in(bench.run, bench.reference, finished=heals)


def by_read_only(bench: Bench, ranks: int) -> str:
    """Start in a folder that cannot be written to, which is reported before the first step."""
    with small_disk(bench, "ro"), bench.job(ranks, fresh=False) as job:
        result = wait_for_end(job, shared_memory())
    if result.code != 74 or "Read-only file system" not in result.text or " 1/" in result.text or result.left:
        return f"loss: {result.end}"
    return "loss: it has saved something" if newest_step(bench.run) >= 0 else ""
