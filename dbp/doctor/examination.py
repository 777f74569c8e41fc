"""The examination from its first message to its last line."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from dbp.doctor import trials
from dbp.doctor.findings import Report
from dbp.doctor.job import job_findings
from dbp.doctor.messages import message_findings
from dbp.doctor.places import node_facts, place_findings
from dbp.doctor.software import Facts, environment_findings, mpi_file, mpi_findings
from dbp.doctor.storage import storage_findings
from dbp.errors import UsageError, UserError
from dbp.parallel import (
    Communicator,
    blas_threads,
    communicator_for_errors,
    nodes_of,
    threads_for,
    together,
    world,
)
from dbp.parallel.ranks.faults import ALONE
from dbp.parallel.ranks.placement import counted
from dbp.terminal import terminal_of

AUTO = "auto"


def doctor(threads: str, out: str, as_json: bool = False) -> int:
    """Examine the ranks of this job, print what was found, and give the exit code, 1 if anything is bad; collective.

    Args:
        threads: of a rank, a number or "auto", as in the settings of a run.
        out: the folder of a run, which need not be there yet.
        as_json: print findings and facts for programs.
    """
    number = _number(threads)
    comm, mistake = _ranks()
    with together(comm):
        report = _examine(comm, number, out, mistake)
        if comm.rank == 0:
            sys.stdout.write((report.json() if as_json else report.text(_colours())) + "\n")
            sys.stdout.flush()
        comm.gather(None)  # a launcher may end the others as soon as one has left
    if mistake is not None and comm.rank > 0:
        time.sleep(ALONE)  # for the same reason, where ranks do not know of each other
    return report.exit_code


def _number(threads: str) -> int | None:
    """None for as many as there are cores for."""
    if threads == AUTO:
        return None
    if not threads.isdecimal() or int(threads) < 1:
        raise UsageError(f"--threads must be a whole number from 1, or {AUTO}, but is {threads!r}")
    return int(threads)


def _ranks() -> tuple[Communicator, UserError | None]:
    """The ranks, or this process alone and why it cannot be one of them."""
    try:
        return world(), None
    except UserError as error:
        return communicator_for_errors(), error


def _colours() -> bool:
    return terminal_of(sys.stdout) is not None and not os.environ.get("NO_COLOR")


def _examine(comm: Communicator, threads: int | None, out: str, mistake: UserError | None) -> Report:
    with trials.in_time(comm, "a first message"):
        nodes = nodes_of(comm)
    threads = threads or threads_for(nodes)
    told: dict[str, Any] = {}
    with blas_threads(threads) as blas:
        facts = comm.gather(Facts.here(blas))
        told |= {**facts[0].versions, "MPI": comm.description, "library": mpi_file()}
        told["thread_level"] = comm.thread_level
        told |= {"ranks": comm.size, "threads": threads, "nodes": node_facts(nodes, facts)}
        parts = [
            [*mpi_findings(comm, mistake), *job_findings(comm, told)],
            [*environment_findings(facts), *place_findings(nodes, facts, threads)],
        ]
        if mistake is None:  # else there is nothing to be tried
            parts.append(list(message_findings(comm, nodes, facts, threads, told)))
            parts.append(storage_findings(comm, out, told))
    where = f"{counted(comm.size, 'rank')} on {counted(len(nodes), 'node')}"
    title = f"dbp {facts[0].versions['dbp']}, Python {facts[0].versions['Python']}: {where}"
    return Report(title, parts, told)
