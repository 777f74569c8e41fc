"""Examine the batch job that the ranks run in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from dbp.doctor.findings import GOOD, WARNING, Finding
from dbp.job import job_and_time
from dbp.parallel import Communicator, from_rank_0


def job_findings(comm: Communicator, results: dict[str, Any]) -> Iterator[Finding]:
    """Find the scheduler and what it has allocated, as rank 0 sees it; collective, the same on all ranks."""
    job, left = from_rank_0(comm, job_and_time)
    results["job"] = None if job is None else asdict(job) | {"seconds_left": left}
    if job is None:
        yield Finding("batch job", GOOD, "none")
        return
    found = str(job) + ("" if left is None else f", {timedelta(seconds=int(left))} left")
    if comm.size == 1 and (job.ranks or 1) > 1:
        yield Finding("batch job", WARNING, f"{found}; but this is one rank alone", "start with srun or mpirun")
    else:
        yield Finding("batch job", GOOD, found)
