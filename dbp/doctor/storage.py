"""Examine the folder of a run: whether it can be written, how fast, and whether its locks work."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dbp.doctor import trials
from dbp.doctor.collective_work import rate_text, time_text
from dbp.doctor.findings import BAD, GOOD, WARNING, Finding
from dbp.errors import StorageError, UserError
from dbp.files import write_file, writing_to
from dbp.parallel import Communicator, from_rank_0
from dbp.text import size

TRIAL_BYTES = 1 << 23  # written to measure the disk
LITTLE_SPACE = 1e9  # bytes free on a disk, too few for checkpoints of larger models
SLOW_DISK = 20e6  # bytes per second
OTHER_FOLDER = "choose another folder with --out, or check its permissions"
# Results of another process that tries to get a lock which is held.
KEPT_OUT, LET_IN, UNKNOWN, NOT_SEEN = "kept out", "let in", "no locks", "not seen"
TRY_LOCK = f"""
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error:
    print({KEPT_OUT!r} if isinstance(error, BlockingIOError) else {UNKNOWN!r})
else:
    print({LET_IN!r})
"""


def folder_of(out: str) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    path = Path(out).absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def storage_findings(comm: Communicator, out: str, results: dict[str, Any]) -> list[Finding]:
    """Try the disk in a temporary folder: rank 0 writes to it, others look at it from their nodes; collective."""
    with trials.in_time(comm, f"writing to {out}"):
        folder = comm.broadcast(folder_of(out) if comm.rank == 0 else None)
        try:
            scratch = from_rank_0(comm, _scratch, folder)
        except UserError as error:
            return [Finding("folder", BAD, str(error), OTHER_FOLDER)]
        try:
            found = from_rank_0(comm, _written, folder, scratch, results)
            return [*found, *_lock_findings(comm, scratch)]
        finally:
            if comm.rank == 0:
                shutil.rmtree(scratch, ignore_errors=True)


def _scratch(folder: Path) -> Path:
    with writing_to(folder):
        return Path(tempfile.mkdtemp(prefix=".dbp-doctor-", dir=folder))


# --- what is written --------------------------------------------------------------------------------


def _written(folder: Path, scratch: Path, results: dict[str, Any]) -> list[Finding]:
    """On rank 0."""
    free = shutil.disk_usage(folder).free
    results["folder"] = {"path": str(folder), "free": free}
    space = f"{folder}, {size(free)} free"
    if free < LITTLE_SPACE:
        return [
            Finding("folder", WARNING, space, "free some space, or choose another folder with --out"),
            _disk(scratch, results),
        ]
    return [Finding("folder", GOOD, space), _disk(scratch, results), _checkpoint(scratch, results)]


def _disk(scratch: Path, results: dict[str, Any]) -> Finding:
    """Measure how fast bytes are written to the disk."""
    piece = os.urandom(1 << 16) * (TRIAL_BYTES >> 16)
    try:
        began = time.perf_counter()
        write_file(scratch / "piece", piece)
        speed = TRIAL_BYTES / (time.perf_counter() - began)
    except StorageError as error:
        return Finding("disk", BAD, f"{TRIAL_BYTES >> 20} MiB cannot be written: {error.reason}", OTHER_FOLDER)
    results["folder"]["speed"] = speed
    found = f"{TRIAL_BYTES >> 20} MiB written and flushed at {rate_text(speed)}"
    if speed < SLOW_DISK:
        return Finding(
            "disk", WARNING, found, "choose a faster disk with --out, or save less often (checkpoint.every_steps)"
        )
    return Finding("disk", GOOD, found)


def _checkpoint(scratch: Path, results: dict[str, Any]) -> Finding:
    """Write a small checkpoint as a run does, read it, and open it by HDF5."""
    try:
        from dbp.checkpoint import StoredCheckpoint, read, write
        from dbp.data.hdf5 import open_hdf5
    except ImportError:
        return Finding("checkpoint", BAD, "cannot be tried without h5py", "pip install h5py")
    path = scratch / "checkpoint.h5"
    try:
        began = time.perf_counter()
        write(path, StoredCheckpoint({"dense/weight": np.zeros(1000, np.float32)}))
        took = time.perf_counter() - began
        read(path)
        open_hdf5(path).close()
    except (UserError, OSError) as error:
        remedy = "if HDF5 cannot lock there, set HDF5_USE_FILE_LOCKING=FALSE; else choose another folder with --out"
        return Finding("checkpoint", BAD, str(error), remedy)
    results["folder"]["checkpoint"] = took
    return Finding("checkpoint", GOOD, f"a small one written, renamed, verified in {time_text(took)}")


# --- locks ------------------------------------------------------------------------------------------


def _lock_findings(comm: Communicator, scratch: Path) -> Iterator[Finding]:
    """Report whether a lock keeps out other processes, on its node and on other nodes."""
    path, firsts = scratch / "lock", [ranks.start for ranks in comm.nodes.runs]
    answer: str | bool = ""
    with contextlib.ExitStack() as stack:
        if comm.rank == 0:
            held = _hold(stack, path)
        comm.barrier()
        if comm.rank == 0:
            answer = held and _another_process(path)
        elif comm.rank in firsts:
            answer = _try(path)
        answers = comm.gather(answer)
    yield _own_node(answers[0])
    if comm.nodes.count > 1:
        yield _other_nodes([str(answers[rank]) for rank in firsts[1:]])


def _hold(stack: contextlib.ExitStack, path: Path) -> bool:
    """Take a lock; return False if the file system has none."""
    try:
        fcntl.flock(stack.enter_context(path.open("a")), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _try(path: Path) -> str:
    """Try to get a lock that rank 0 holds, and return the result."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return NOT_SEEN
    except OSError as error:
        return KEPT_OUT if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else UNKNOWN
    return LET_IN


def _another_process(path: Path) -> str:
    """Try the same in another process of this node: a process that holds a lock may get it twice."""
    command = [sys.executable, "-S", "-c", TRY_LOCK, str(path)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603  our own
    return outcome.stdout.strip() or UNKNOWN


def _own_node(answer: str | bool) -> Finding:
    if answer == KEPT_OUT:
        return Finding("locks", GOOD, "a run keeps other runs out of its folder")
    remedy = "never start two runs in one folder, or choose a folder of another file system with --out"
    if answer == LET_IN:
        return Finding("locks", BAD, "two processes get the same lock, so that two runs can destroy one folder", remedy)
    return Finding("locks", WARNING, "this file system has none, so that two runs can destroy one folder", remedy)


def _other_nodes(answers: Sequence[str]) -> Finding:
    """Report whether the other nodes see the folder and its locks."""
    if count := answers.count(NOT_SEEN):
        found = f"{count} of {len(answers) + 1} nodes {'does' if count == 1 else 'do'} not see the folder"
        remedy = "choose a folder of a shared disk with --out, or a start on other nodes finds no checkpoint"
        return Finding("on all nodes", WARNING, found, remedy)
    if LET_IN in answers or UNKNOWN in answers:
        remedy = "mount it with locks (flock), or never start two runs in one folder"
        return Finding("on all nodes", WARNING, "locks do not keep out other nodes", remedy)
    return Finding("on all nodes", GOOD, "the folder is seen, and its locks keep out other nodes")
