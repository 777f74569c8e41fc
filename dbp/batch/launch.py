"""Start a command on several ranks of this machine, or of the batch job's nodes (dbp run).

It finds the launcher that belongs to the MPI library of mpi4py, and binds each rank to its own cores and BLAS threads.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from dbp.batch.launcher_process import allow_files, run_launcher, run_until_all_died, segment_folder
from dbp.checks import check_at_least
from dbp.errors import UserError
from dbp.job import job_here
from dbp.parallel import HOW_TO_GET_MPI, usable_cores
from dbp.parallel.machine.shared_memory import RESERVED_BYTES, SHARED_MEMORY, free_shared_memory
from dbp.process.left_ranks import LEFT_RANKS, LeftRanks
from dbp.terminal import TERMINAL, terminal_of, write_error

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
# The GNU C library, from 2.35 on, then has arrays in huge pages, which many systems give only on request.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
SEGMENT_BYTES = 1 << 24  # of the memory that a rank of Open MPI shares with the others of its machine
FAULT_TOLERANCE = ("--with-ft", "ulfm")  # options of Open MPI: a dead rank does not end the others, who are notified


def library_vendor() -> tuple[str | None, int]:
    """Return the name and major version of the MPI library that mpi4py loads; None and 0 without one.

    Another process loads it, so that MPI is not initialized in this one.
    """
    code = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py.MPI import get_vendor"
    code += "; name, version = get_vendor(); print('\\ndbp', version[0], name)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    line = re.search(r"^dbp (\d+) (.+)$", found.stdout, re.MULTILINE)  # a library may print lines of its own
    return (line[2], int(line[1])) if line else (None, 0)


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


def _defaults(threads: int) -> dict[str, str]:
    """Return the variables of each rank that the user may set otherwise."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) | HUGE_PAGES


def _environment(vendor: str, oversubscribed: bool, threads: int) -> dict[str, str]:
    """Return the environment of the launcher; variables that the user has set keep their values."""
    defaults = _defaults(threads)
    if vendor == "Open MPI" and oversubscribed:
        defaults["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return defaults | os.environ | {TERMINAL: terminal_of(sys.stderr) or ""}


def _for_one_machine(vendor: str, ranks: int, survive: bool, folder: str) -> dict[str, str]:
    """Return variables of an MPI whose ranks are all on this machine: they need no network, and do not listen to it.

    Args:
        vendor: name of the MPI library.
        ranks: how many there are.
        survive: whether ranks may outlive others.
        folder: for the files through which ranks share memory; empty if there is none.
    """
    if vendor != "Open MPI":
        return {"UCX_NET_DEVICES": "lo", "FI_TCP_IFACE": "lo"} if sys.platform == "linux" else {}
    # Without these, some builds search for networks for a second.
    found = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^ofi", "OMPI_MCA_osc": "^ucx"}
    if folder:
        found["OMPI_MCA_btl_sm_backing_directory"] = folder
    free = free_shared_memory() if folder else None
    if free is not None and free >= ranks * SEGMENT_BYTES + RESERVED_BYTES and not survive:
        found["OMPI_MCA_btl"] = "^ofi,tcp"  # TCP listens on all interfaces, whatever it is told to include
    elif "OMPI_MCA_btl_tcp_if_exclude" not in os.environ:  # Open MPI takes one of them at most
        found["OMPI_MCA_btl_tcp_if_include"] = "127.0.0.0/8"
    return found


def launch(command: list[str], ranks: int | None, threads: int, survive: bool, variables: dict[str, str]) -> int:
    """Start a command on several ranks, wait for it and return its exit code.

    Args:
        command: what each rank executes.
        ranks: number of ranks; by default one a core.
        threads: BLAS threads of a rank, outside of training.
        survive: let the other ranks continue when a rank dies.
        variables: environment variables of the ranks.

    Raises:
        UserError: the number of ranks, the MPI library or a limit of the system does not allow it.
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
        write_error(f"dbp: no MPI library was found, so this runs as one rank; {HOW_TO_GET_MPI}")
        return run_launcher(command, _defaults(threads) | os.environ | variables, None)
    words = [str(find_launcher(vendor)), *(FAULT_TOLERANCE if survive else ()), "-n", str(ranks)]
    if vendor == "Open MPI":
        words += [*_open_mpi_options(ranks, cores, threads), *(word for name in variables for word in ("-x", name))]
    run = run_until_all_died if survive else run_launcher
    environment = _environment(vendor, ranks * threads > cores, threads) | variables
    if job_here() is not None:
        return run([*words, *command], environment | {LEFT_RANKS: ""}, vendor)  # not that of a job around this one
    allow_files(ranks)
    with segment_folder(Path(SHARED_MEMORY), vendor) as folder:
        left = LeftRanks()
        environment = _for_one_machine(vendor, ranks, survive, folder) | environment | left.variables
        return run([*words, *command], environment, vendor)
