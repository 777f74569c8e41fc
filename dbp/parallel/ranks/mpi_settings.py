"""Settings of Open MPI that must be in the environment before it starts."""

from __future__ import annotations

import os

from dbp.parallel.machine.cores import available_cores
from dbp.process.launcher import launched_here

YIELD = "OMPI_MCA_mpi_yield_when_idle"  # has Open MPI yield the core in its own blocking calls
FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"  # set by mpirun --with-ft ulfm
COLLECTIVES = (
    "OMPI_MCA_coll"  # the modules that Open MPI takes collectives from, or, after ^, those that it must not use
)


def set_for_crowded_node() -> None:
    """Have Open MPI yield where mpirun has started more ranks on this node than there are cores."""
    if launched_here() > available_cores():
        os.environ.setdefault(YIELD, "1")


def set_for_survival() -> bool:
    """Return True if mpirun lets ranks outlive others; if so, make the settings without which they would hang."""
    if os.environ.get(FAULT_TOLERANT, "0").lower() not in ("1", "t", "true", "y", "yes", "enabled"):
        return False
    os.environ[COLLECTIVES] = _without_han(os.environ.get(COLLECTIVES, ""))
    os.environ.setdefault("OMPI_MCA_mpi_add_procs_cutoff", "100000")  # connects all ranks at the start
    os.environ.setdefault("OMPI_MCA_async_mpi_finalize", "1")  # does not wait for the dead
    return True


def _without_han(modules: str) -> str:
    """Return a choice of modules without han, whose sums are wrong after a rank of another node has died."""
    names = [name for name in modules.removeprefix("^").split(",") if name and name != "han"]
    return "^" + ",".join([*names, "han"]) if modules.startswith("^") or not names else ",".join(names)
