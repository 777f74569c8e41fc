"""Start a command on several ranks of this machine, or of the batch job's nodes (dbp run).

It finds the launcher that belongs to the MPI library of mpi4py, and binds each rank to its own cores and BLAS threads.
What the launcher prints about the end of the job is left out, as dbp reports errors itself.
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
from dbp.process_note import ProcessNote
from dbp.saving.stopping import LAUNCHER_SIGNAL, SIGNALS
from dbp.terminal import TERMINAL, terminal_of

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
FAULT_TOLERANCE = ("--with-ft", "ulfm")  # options of Open MPI: a dead rank does not end the others, who are notified


def library_vendor() -> tuple[str | None, int]:
    """Return the name and major version of the MPI library that mpi4py loads; None and 0 without one.

    Another process loads it, so that MPI is not initialized in this one.
    """
    code = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py.MPI import get_vendor"
    code += "; name, version = get_vendor(); print(version[0], name)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    version, _, vendor = found.stdout.strip().partition(" ")
    return vendor or None, int(version or 0)


def _matches(launcher: Path, vendor: str) -> bool:
    """Return True if a launcher belongs to this MPI, as its --version says."""
    try:
        outcome = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    marks = {"Open MPI": ("Open MPI", "OpenRTE"), "MPICH": ("HYDRA", "MPICH"), "Intel MPI": ("Intel",)}
    return any(mark in outcome.stdout + outcome.stderr for mark in marks.get(vendor, (vendor,)))


def find_launcher(vendor: str) -> Path:
    """Return the launcher of an MPI library: this environment's own, else the first on the PATH that belongs to it.

    Raises:
        UserError: there is none.
    """
    own = Path(sys.executable).parent
    folders = [own, *map(Path, os.environ.get("PATH", "").split(os.pathsep))]
    candidates = [folder / name for folder in folders for name in ("mpirun", "mpiexec", "mpiexec.hydra")]
    for candidate in dict.fromkeys(candidates):
        if candidate.is_file() and os.access(candidate, os.X_OK) and _matches(candidate, vendor):
            return candidate
    raise UserError(f"mpi4py loads {vendor}, but no mpirun of {vendor} is on the PATH; load its module or install it")


def _open_mpi_options(ranks: int, cores: int, threads: int) -> list[str]:
    """Return options that bind each rank to its own cores, if there are enough of them.

    In a batch job the launcher learns nodes and cores from the scheduler, and gets no such option.
    """
    options = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    if job_here() is not None:
        return options
    if ranks * threads <= cores:
        return [*options, "--map-by", f"slot:PE={cores // ranks}:OVERSUBSCRIBE", "--bind-to", "core"]
    return [*options, "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]


def _environment(vendor: str, oversubscribed: bool, threads: int) -> dict[str, str]:
    """Return the environment of the launcher; variables that the user has set keep their values."""
    defaults = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if vendor == "Open MPI" and job_here() is None:
        # One machine needs no network; without these, some builds search for networks for a second.
        defaults |= {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^ofi", "OMPI_MCA_osc": "^ucx"}
    if vendor == "Open MPI" and oversubscribed:
        defaults["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return defaults | os.environ | {TERMINAL: terminal_of(sys.stderr) or ""}


def launch(command: list[str], ranks: int | None, threads: int, survive: bool, variables: dict[str, str]) -> int:
    """Start a command on several ranks, wait for it and return its exit code.

    Args:
        command: what each rank executes.
        ranks: number of ranks; by default one a core.
        threads: BLAS threads of a rank, outside of training.
        survive: let the other ranks continue when a rank dies.
        variables: environment variables of the ranks.

    Raises:
        UserError: the number of ranks or the MPI library does not allow it.
    """
    cores = usable_cores()
    if ranks is not None:
        check_at_least(1, **{"-n": ranks})
    ranks, (vendor, version) = ranks or cores, library_vendor()
    if survive and (vendor != "Open MPI" or version < 5):
        found = f"{vendor} {version}" if vendor else "none"
        raise UserError(
            f"--survive needs Open MPI 5 or later, but mpi4py loads {found}; leave it out, or install Open MPI 5"
        )
    if vendor is None:
        sys.stderr.write(f"dbp: no MPI library was found, so this runs as one rank; {HOW_TO_GET_MPI}\n")
        return _wait(command, dict.fromkeys(THREAD_VARIABLES, str(threads)) | os.environ | variables)
    launcher = find_launcher(vendor)
    options = _open_mpi_options(ranks, cores, threads) if vendor == "Open MPI" else []
    options += [word for name in variables if vendor == "Open MPI" for word in ("-x", name)]
    environment = _environment(vendor, ranks * threads > cores, threads) | variables
    if survive:
        return _wait_for_survivors([str(launcher), *FAULT_TOLERANCE, "-n", str(ranks), *options, *command], environment)
    return _wait([str(launcher), "-n", str(ranks), *options, *command], environment)


def _wait_for_survivors(command: list[str], environment: dict[str, str]) -> int:
    """Run a launcher that lets ranks die, like _wait(), and return NOT_FINISHED if all of them died.

    Such a launcher returns 0 even then. So each rank that is not killed leaves a file at its end.
    """
    with tempfile.TemporaryDirectory(prefix="dbp-") as folder:
        ended = Path(folder) / "ended"
        code = _wait(command, environment | {ENDED: str(ended)})
        if code == 0 and not ended.exists():
            sys.stderr.write("dbp: all ranks have died; the same command resumes from the last checkpoint\n")
            return NOT_FINISHED
        return code


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """Run the launcher and return its exit code; forward signals to it, and its error output to ours."""
    # It gets a process group of its own: the terminal would interrupt it, and it would leave ranks no time to save.
    stdin = subprocess.DEVNULL if sys.stdin is not None and sys.stdin.isatty() else None
    note = ProcessNote("dbp signal")
    environment = environment | {LAUNCHER_SIGNAL: note.path}
    process = subprocess.Popen(command, env=environment, stdin=stdin, stderr=subprocess.PIPE, process_group=0)
    interrupts = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            interrupts.append(number)
        note.write(str(int(number)))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_forwarded(number, len(interrupts)))

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has SIGHUP ignored
            signal.signal(number, forward)
    assert process.stderr is not None
    copy_without_banners(process.stderr.fileno(), sys.stderr.buffer)
    code = process.wait()
    if interrupts and code not in (0, NOT_FINISHED):
        sys.stderr.write("\ndbp: interrupted\n")
        return 130
    return 128 - code if code < 0 else code


def _forwarded(number: int, interrupts: int) -> int:
    """Return the signal for the launcher when this process gets one.

    It is SIGUSR1, which every launcher forwards to the ranks, and which asks a training to save and stop. The second
    interrupt ends the ranks at once, the third kills the launcher.

    Args:
        number: the signal that this process got.
        interrupts: how many interrupts it has got by now.
    """
    if number == signal.SIGINT and interrupts > 1:
        return signal.SIGTERM if interrupts == 2 else signal.SIGKILL
    return signal.SIGUSR1


# --- the launcher's own output -------------------------------------------------------------------------

BANNER = b"-" * 50
UNREACHED_RANK = re.compile(rb"^\[[^\]\n]*\] PMIX ERROR: PMIX_ERR_UNREACH .*\n", re.MULTILINE)  # about an ended rank
END_OF_JOB = (b"MPI_ABORT was invoked", b"prterun", b"mpirun", b"mpiexec", b"MPI_Abort", b"non-zero", b"orterun")


def copy_without_banners(source: int, target: BinaryIO) -> None:
    """Copy a stream without Open MPI's banners about the end of a job, which stand between two dashed lines."""
    pending = b""
    while chunk := os.read(source, 65536):
        pending = _copy_complete(pending + chunk.replace(b"\0", b""), target)  # Open MPI ends some banners with a zero
    target.write(pending)  # a banner that was never closed
    target.flush()


def _copy_complete(text: bytes, target: BinaryIO) -> bytes:
    """Write what is known to lie outside of such banners; return the rest, which may be the beginning of one."""
    while (start := text.find(BANNER)) >= 0:
        target.write(UNREACHED_RANK.sub(b"", text[:start]))
        text = text[start:]
        inside = text.find(b"\n")
        closing = text.find(BANNER, inside) if inside >= 0 else -1
        end = text.find(b"\n", closing) if closing >= 0 else -1
        if end < 0:  # the banner is not complete
            target.flush()
            return text
        if not any(mark in text[:end] for mark in END_OF_JOB):
            target.write(text[: end + 1])
        text = text[end + 1 :]
    certain = len(text.rstrip(b"-"))  # dashes at the end may be the beginning of a banner
    target.write(UNREACHED_RANK.sub(b"", text[:certain]))
    target.flush()
    return text[certain:]
