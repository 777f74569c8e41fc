"""The environment variables of launchers: how many ranks they start, and the number of this one."""

from __future__ import annotations

import os
from pathlib import Path

from dbp.terminal import LAUNCHERS

# Variables of launchers of MPI: mpirun and mpiexec, jsrun (JSM) and PALS, set before main().
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS", "PALS_SIZE", "JSM_NAMESPACE_SIZE")
RANKS = ("PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "JSM_NAMESPACE_RANK")
# Variables of srun and flux, which start any program. A Slurm script has a SLURM_PROCID too, but no step.
STEP = "SLURM_STEP_ID"
TASKS = (("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", STEP), ("FLUX_JOB_SIZE", "FLUX_TASK_RANK", "FLUX_TASK_RANK"))
VARIABLES = tuple(dict.fromkeys([*SIZES, *RANKS, *(name for names in TASKS for name in names)]))
# The command with which each of them starts ranks of an MPI, where it can.
WITH_SRUN = {"Open MPI": "srun --mpi=pmix", "MPICH": "srun --mpi=pmi2", "Intel MPI": "srun --mpi=pmi2"}
WITH_FLUX = {"Open MPI": "flux run -o pmi=pmix"}


def launched_by_mpi() -> bool:
    """Return True if a launcher started this process as one rank of a job."""
    return _first(RANKS) is not None or any(of in os.environ for _, _, of in TASKS)


def launched_by_open_mpi() -> bool:
    """Return True if mpirun of Open MPI started this process as one rank of a job."""
    return "OMPI_COMM_WORLD_SIZE" in os.environ


def launched_size() -> int:
    """Return how many ranks the launcher started; 1 without a launcher.

    The variables of an MPI launcher take precedence over those of srun: mpirun starts its daemons by srun, and the
    variables of the daemons reach the ranks.
    """
    if any(name in os.environ for name in SIZES):
        return max(int(os.environ.get(name, "1")) for name in SIZES)
    return max(int(os.environ.get(size, "1")) if of in os.environ else 1 for size, _, of in TASKS)


def launched_rank() -> int:
    """Return the rank that the launcher gave this process; 0 without a launcher."""
    rank = _first(RANKS)
    return rank if rank is not None else _first([name for _, name, of in TASKS if of in os.environ]) or 0


def launched_here() -> int:
    """Return how many ranks the launcher started on this node; 0 if it does not say so."""
    return int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", os.environ.get("MPI_LOCALNRANKS", "0")))


def rank_above() -> int | None:
    """Return the process of a rank with MPI loaded that has started this process; None if there is none (Linux).

    Such a process has the variables of that rank, but is not the rank itself: MPI would wait in it forever.
    """
    process = os.getppid()
    try:
        while process > 1:
            folder = Path(f"/proc/{process}")
            if (folder / "comm").read_text().strip() in LAUNCHERS:
                return None
            if "libmpi" in (folder / "maps").read_text() and _has_our_variables(folder / "environ"):
                return process
            process = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _has_our_variables(file: Path) -> bool:
    variables = dict(line.split(b"=", 1) for line in file.read_bytes().split(b"\0") if b"=" in line)
    ours = {name: os.environ[name] for name in (*RANKS, "PMIX_NAMESPACE") if name in os.environ}
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


def _first(names: tuple[str, ...] | list[str]) -> int | None:
    return next((int(os.environ[name]) for name in names if name in os.environ), None)
