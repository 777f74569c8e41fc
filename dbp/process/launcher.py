"""The environment variables of launchers: how many ranks they start, and the number of this one."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable
from pathlib import Path

from dbp.process_tree import LAUNCHERS, name_of, parent_of

# Variables of launchers of MPI: mpirun and mpiexec, jsrun (JSM) and PALS, set before main().
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS", "PALS_SIZE", "JSM_NAMESPACE_SIZE")
RANKS = ("PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "JSM_NAMESPACE_RANK")
# Variables of srun and flux, which start any program. A Slurm script has a SLURM_PROCID too, but no step.
STEP = "SLURM_STEP_ID"
TASKS = (("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", STEP), ("FLUX_JOB_SIZE", "FLUX_TASK_RANK", "FLUX_TASK_RANK"))
VARIABLES = tuple(dict.fromkeys([*SIZES, *RANKS, *(name for names in TASKS for name in names)]))
# Variables by which a rank, and all processes that it starts, differ from other ranks and other jobs.
OF_ONE_RANK = (*RANKS, *(rank for _, rank, _ in TASKS), "PMIX_NAMESPACE")
STARTERS = (*LAUNCHERS, "prted", "orted", "hydra_pmi_proxy", "slurmstepd")  # programs that start the ranks of a node
# The command with which each of them starts ranks of an MPI, where it can.
WITH_SRUN = {"Open MPI": "srun --mpi=pmix", "MPICH": "srun --mpi=pmi2", "Intel MPI": "srun --mpi=pmi2"}
WITH_FLUX = {"Open MPI": "flux run -o pmi=pmix"}


def launched_by_mpi() -> bool:
    """Return True if a launcher started this process as one rank of a job."""
    return bool(_numbers(RANKS)) or any(of in os.environ for _, _, of in TASKS)


def launched_by_open_mpi() -> bool:
    """Return True if mpirun of Open MPI started this process as one rank of a job."""
    return "OMPI_COMM_WORLD_SIZE" in os.environ


def launched_size() -> int:
    """Return how many ranks the launcher started; 1 without a launcher.

    The variables of an MPI launcher take precedence over those of srun: mpirun starts its daemons by srun, and the
    variables of the daemons reach the ranks.
    """
    if found := _numbers(SIZES):
        return max(found)
    return max(_numbers([size for size, _, of in TASKS if of in os.environ]), default=1)


def launched_rank() -> int:
    """Return the rank that the launcher gave this process; 0 without a launcher."""
    found = _numbers(RANKS) or _numbers([name for _, name, of in TASKS if of in os.environ])
    return found[0] if found else 0


def launched_here() -> int:
    """Return how many ranks the launcher started on this node; 0 if it does not say so."""
    found = _numbers(("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"))
    return found[0] if found else 0


def rank_above() -> int | None:
    """Return the process of a rank with MPI loaded that has started this process; None if there is none (Linux).

    Such a process has the variables of that rank, but is not the rank itself: MPI would wait in it forever.
    """
    with contextlib.suppress(OSError):
        for process in _above()[:-1]:
            if "libmpi" in Path(f"/proc/{process}/maps").read_text():
                return process
    return None


@functools.cache
def process_of_launcher() -> int:
    """Return the process that has started all ranks of this job on this node, whatever lies between (Linux).

    On other systems return the process that has started this one.
    """
    return _above()[-1]


def _above() -> list[int]:
    """Return the processes that have started this one, the nearest first, up to the one that has started its rank."""
    found = [os.getppid()]
    with contextlib.suppress(OSError, ValueError, IndexError):
        while _is_of_this_rank(found[-1]):
            found.append(parent_of(found[-1]))
    return found


def _is_of_this_rank(process: int) -> bool:
    """Return True if a process has the variables of this rank, and is none that starts ranks."""
    if name_of(process) in STARTERS:
        return False
    environment = Path(f"/proc/{process}/environ").read_bytes()
    variables = dict(line.split(b"=", 1) for line in environment.split(b"\0") if b"=" in line)
    ours = {name: os.environ[name] for name in OF_ONE_RANK if name in os.environ}
    return bool(ours) and all(variables.get(name.encode()) == value.encode() for name, value in ours.items())


def mismatch_message(description: str) -> str:
    """Return why ranks of an MPI, such as "Open MPI 5.0.11", do not see each other, and how to start them."""
    vendor = next((name for name in WITH_SRUN if description.startswith(name)), "")
    mpirun = "with the mpirun of that MPI, or use: dbp run -n RANKS -- ..."
    apart = f"and mpi4py's MPI ({description}) do not understand each other in this way; start with"
    if _by_srun():
        return f"srun {apart} {WITH_SRUN.get(vendor, 'another --mpi')}, if srun --mpi=list has that, or {mpirun}"
    if "FLUX_TASK_RANK" in os.environ and vendor in WITH_FLUX:
        return f"flux {apart} {WITH_FLUX[vendor]}, if Flux has its plugin for that, or {mpirun}"
    return f"mpi4py found another MPI ({description}) than the launcher's; start {mpirun}"


def _by_srun() -> bool:
    """Return True if srun started this process directly, not through mpirun."""
    return STEP in os.environ and not launched_by_open_mpi() and "MPI_LOCALNRANKS" not in os.environ


def _numbers(names: Iterable[str]) -> list[int]:
    """Return the values of these environment variables, without those that are not set or are no numbers."""
    return [int(text) for name in names if (text := os.environ.get(name, "")).isdecimal()]
