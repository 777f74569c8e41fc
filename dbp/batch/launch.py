"""dbp run: start a command on several ranks of this machine (or of the job's nodes), quietly and fast.

It finds the MPI library that mpi4py loads and the launcher that belongs to it, gives each rank its cores
and one BLAS thread, and leaves out what launchers print about a job that has ended by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from dbp.checks import check_at_least
from dbp.errors import ENDED, NOT_FINISHED, UserError
from dbp.job import job_here
from dbp.parallel import HOW_TO_GET_MPI, usable_cores
from dbp.terminal import TERMINAL, terminal_of

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
SURVIVE = ("--with-ft", "ulfm")  # has Open MPI's launcher let ranks die, and tell the others


def library_vendor() -> tuple[str | None, int]:
    """Name and major version of the MPI that mpi4py loads, found in another process so that none is set up in this."""
    code = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py.MPI import get_vendor"
    code += "; name, version = get_vendor(); print(version[0], name)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    version, _, vendor = found.stdout.strip().partition(" ")
    return vendor or None, int(version or 0)


def _matches(launcher: Path, vendor: str) -> bool:
    try:
        told = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    marks = {"Open MPI": ("Open MPI", "OpenRTE"), "MPICH": ("HYDRA", "MPICH"), "Intel MPI": ("Intel",)}
    return any(mark in told.stdout + told.stderr for mark in marks.get(vendor, (vendor,)))


def find_launcher(vendor: str) -> Path:
    """The mpirun of that MPI: this environment's own, else the first on the PATH that belongs to it."""
    own = Path(sys.executable).parent
    folders = [own, *map(Path, os.environ.get("PATH", "").split(os.pathsep))]
    candidates = [folder / name for folder in folders for name in ("mpirun", "mpiexec", "mpiexec.hydra")]
    for candidate in dict.fromkeys(candidates):
        if candidate.is_file() and os.access(candidate, os.X_OK) and _matches(candidate, vendor):
            return candidate
    raise UserError(f"mpi4py loads {vendor}, but no mpirun of {vendor} is on the PATH; load its module or install it")


def _open_mpi_options(ranks: int, cores: int, threads: int) -> list[str]:
    """Each rank its own cores, if there are enough; several nodes of a batch job are left to the launcher."""
    options = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    if job_here() is not None:  # then the launcher knows which nodes it has
        return options
    if ranks * threads <= cores:
        return [*options, "--map-by", f"slot:PE={cores // ranks}:OVERSUBSCRIBE", "--bind-to", "core"]
    return [*options, "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]


def _environment(vendor: str, oversubscribed: bool, threads: int) -> dict[str, str]:
    defaults = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if vendor == "Open MPI" and job_here() is None:
        # On one machine only shared memory is needed; some builds look for networks for a second.
        defaults |= {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^ofi", "OMPI_MCA_osc": "^ucx"}
    if vendor == "Open MPI" and oversubscribed:
        defaults["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return defaults | os.environ | {TERMINAL: terminal_of(sys.stderr) or ""}


def launch(command: list[str], ranks: int | None, threads: int, survive: bool = False) -> int:
    """Start a command on several ranks, wait for it and return its exit code.

    Args:
        command: what each rank executes.
        ranks: how many; by default one a core.
        threads: BLAS threads of a rank, outside of training.
        survive: let the other ranks go on when a rank dies.

    Raises:
        UserError: the number of ranks or the MPI library does not permit it.
    """
    cores = usable_cores()
    if ranks is not None:
        check_at_least(1, **{"-n": ranks})
    ranks, (vendor, version) = ranks or cores, library_vendor()
    if survive and (vendor != "Open MPI" or version < 5):
        found = f"{vendor} {version}" if vendor else "none"
        raise UserError(f"--survive needs Open MPI 5 or later, but mpi4py loads {found}; leave it out, or install that")
    if vendor is None:
        sys.stderr.write(f"dbp: no MPI library was found, so this runs as one rank; {HOW_TO_GET_MPI}\n")
        return _wait(command, dict.fromkeys(THREAD_VARIABLES, str(threads)) | os.environ)
    launcher = find_launcher(vendor)
    options = _open_mpi_options(ranks, cores, threads) if vendor == "Open MPI" else []
    environment = _environment(vendor, ranks * threads > cores, threads)
    if survive:
        return _wait_for_survivors([str(launcher), *SURVIVE, "-n", str(ranks), *options, *command], environment)
    return _wait([str(launcher), "-n", str(ranks), *options, *command], environment)


def _wait_for_survivors(command: list[str], environment: dict[str, str]) -> int:
    """As _wait(); but a launcher that lets ranks die ends well even if all have: so one must have come to its end."""
    with tempfile.TemporaryDirectory(prefix="dbp-") as folder:
        mark = Path(folder) / "ended"
        code = _wait(command, environment | {ENDED: str(mark)})
        if code == 0 and not mark.exists():
            sys.stderr.write("dbp: all ranks have died; the same command goes on from the last checkpoint\n")
            return NOT_FINISHED
        return code


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """Run the launcher, pass on to it what asks the job to stop, and its error output on to ours."""
    # In a group of its own, as the terminal would interrupt the launcher, which leaves ranks no time to save.
    stdin = subprocess.DEVNULL if sys.stdin is not None and sys.stdin.isatty() else None
    process = subprocess.Popen(command, env=environment, stdin=stdin, stderr=subprocess.PIPE, process_group=0)
    interrupts = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            interrupts.append(number)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_passed_on(number, len(interrupts)))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, pass_on)
    assert process.stderr is not None
    copy_without_banners(process.stderr.fileno(), sys.stderr.buffer)
    code = process.wait()
    if interrupts and code not in (0, NOT_FINISHED):
        sys.stderr.write("\ndbp: interrupted\n")
        return 130
    return 128 - code if code < 0 else code


def _passed_on(number: int, interrupts: int) -> int:
    """What the launcher is sent: all launchers pass on SIGUSR1, by which training is asked to save and stop.

    A second interrupt ends the ranks at once, a third the launcher.
    """
    if number == signal.SIGHUP or interrupts == 2:
        return signal.SIGTERM
    return signal.SIGKILL if interrupts > 2 else signal.SIGUSR1


BANNER = b"-" * 50
STRAY = re.compile(rb"^\[[^\]\n]*\] PMIX ERROR: PMIX_ERR_UNREACH .*\n", re.MULTILINE)  # of a rank that has gone already
NOISE = (b"MPI_ABORT was invoked", b"prterun", b"mpirun", b"mpiexec", b"MPI_Abort", b"non-zero", b"orterun")


def copy_without_banners(source: int, target: BinaryIO) -> None:
    """Copy a stream, but for the boxes between dashed lines in which Open MPI says that a job has ended."""
    held = b""
    while chunk := os.read(source, 65536):
        held = _pass_on(held + chunk.replace(b"\0", b""), target)  # Open MPI ends some of its boxes with a zero
    target.write(held)  # a box that was never closed
    target.flush()


def _pass_on(text: bytes, target: BinaryIO) -> bytes:
    """Write what is known not to belong to a box; gives the rest, which may be the beginning of one."""
    while (start := text.find(BANNER)) >= 0:
        target.write(STRAY.sub(b"", text[:start]))
        text = text[start:]
        inside = text.find(b"\n")
        closing = text.find(BANNER, inside) if inside >= 0 else -1
        end = text.find(b"\n", closing) if closing >= 0 else -1
        if end < 0:  # not all of the box is here
            target.flush()
            return text
        if not any(mark in text[:end] for mark in NOISE):
            target.write(text[: end + 1])
        text = text[end + 1 :]
    certain = len(text.rstrip(b"-"))  # dashes at the end may become a banner with the next bytes
    target.write(STRAY.sub(b"", text[:certain]))
    target.flush()
    return text[certain:]
