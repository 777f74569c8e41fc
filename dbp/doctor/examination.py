"""Run the examination from its first message to its last line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dbp.blas import blas_threads
from dbp.doctor import trials
from dbp.doctor.batch_job import job_findings
from dbp.doctor.collective_work import collective_findings
from dbp.doctor.findings import Report
from dbp.doctor.nodes import node_facts, node_findings
from dbp.doctor.software import RankFacts, environment_findings, mpi_file, mpi_findings
from dbp.doctor.storage import storage_findings
from dbp.errors import UsageError, UserError
from dbp.parallel import (
    Communicator,
    abort_on_error,
    communicator_for_errors,
    nodes_of,
    threads_per_rank,
    world,
)
from dbp.parallel.ranks.world import RANK_0_SECONDS
from dbp.process.launcher import launched_size
from dbp.terminal import print_output, terminal_of
from dbp.text import count_text

AUTO_THREADS = "auto"


def doctor(
    threads: str, out: str, as_json: bool = False, config: Path | None = None, changes: Sequence[str] = ()
) -> int:
    """Examine the ranks of this job, print a report, and return the exit code, 1 if a finding is bad; collective.

    Args:
        threads: threads of a rank, a number or "auto", as in the settings of a run.
        out: the folder of a run, which need not exist yet.
        as_json: print findings and facts as JSON.
        config: a config file whose step is timed, on ranks that this process starts; None for none.
        changes: of its keys.
    """
    thread_count = _thread_count(threads)
    if config is not None and launched_size() > 1:
        raise UsageError("dbp doctor CONFIG starts ranks itself; start it without a launcher, and without dbp run")
    comm, error = _ranks()
    with abort_on_error(comm):
        report = _examine(comm, thread_count, out, error)
        if config is not None:
            from dbp.doctor.ranks_and_threads import step_findings  # which loads all of training

            report = report.with_part(step_findings(config, changes, report.facts))
        if comm.rank == 0:
            colored = not as_json and _has_colors()
            print_output(report.json() if as_json else report.text(colored), colored=colored)
        comm.gather(None)  # a launcher may kill the other ranks as soon as one has ended
    if error is not None and comm.rank > 0:
        time.sleep(RANK_0_SECONDS)  # for the same reason, where ranks cannot wait for each other
    return report.exit_code


def _thread_count(threads: str) -> int | None:
    """Return the number of threads; None for "auto"."""
    if threads == AUTO_THREADS:
        return None
    if not threads.isdecimal() or int(threads) < 1:
        raise UsageError(f"--threads must be a whole number from 1, or {AUTO_THREADS}, but is {threads!r}")
    return int(threads)


def _ranks() -> tuple[Communicator, UserError | None]:
    """Return the ranks; or this process alone, with the error that prevents more."""
    try:
        return world(), None
    except UserError as error:
        return communicator_for_errors(), error


def _has_colors() -> bool:
    return terminal_of(sys.stdout) is not None and not os.environ.get("NO_COLOR")


def _examine(comm: Communicator, threads: int | None, out: str, error: UserError | None) -> Report:
    with trials.in_time(comm, "a first message"):
        nodes = nodes_of(comm)
    threads = threads or threads_per_rank(nodes)
    results: dict[str, Any] = {}
    with blas_threads(threads):
        facts = comm.gather(RankFacts.here())
        results |= {name.replace(" ", "_"): version for name, version in facts[0].versions.items()}
        results |= {"MPI": comm.description, "library": mpi_file()}
        results["thread_level"] = comm.thread_level
        results |= {"ranks": comm.size, "threads": threads, "nodes": node_facts(nodes, facts)}
        parts = [
            [*mpi_findings(comm, error), *job_findings(comm, results)],
            [*environment_findings(facts), *node_findings(nodes, facts, threads)],
        ]
        if error is None:
            parts.append(list(collective_findings(comm, nodes, facts, threads, results)))
            parts.append(storage_findings(comm, out, results))
    where = f"{count_text(comm.size, 'rank')} on {count_text(len(nodes), 'node')}"
    title = f"dbp {facts[0].versions['dbp']}, Python {facts[0].versions['Python']}: {where}"
    return Report(title, parts, results)
