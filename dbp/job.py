"""The batch job of this process: its scheduler, its resources, and the time that is left.

Environment variables give all but the time. If they lack the time, rank 0 asks a program of the scheduler.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dbp.errors import UserError
from dbp.text import parse_time

Environment = Mapping[str, str]
ANSWER_SECONDS = 10.0  # for a program of the scheduler
NO_LIMIT_SECONDS = 1e8  # three years: schedulers report a longer time if there is no limit
CHAIN = "DBP_JOB"  # set by the scripts of dbp submit: the number of a job in a chain, from 1
STEP = "SLURM_STEP_ID"  # set for processes that srun started, not for the script of a job
HOSTFILE = "/etc/mpi/hostfile"  # of Kubernetes' MPI operator: a host and its slots in each line


@dataclass(frozen=True)
class Job:
    """A batch job; what its scheduler does not report is None.

    Args:
        scheduler: name of the scheduler.
        id: name of the job in the scheduler's commands.
        task: index in an array of jobs.
        restarts: number of restarts, by the scheduler or as the next job of a chain.
        nodes: number of allocated nodes.
        ranks_per_node: requested number of ranks.
        cores_per_rank: requested number of cores.
    """

    scheduler: str
    id: str
    task: str | None = None
    restarts: int | None = None
    nodes: int | None = None
    ranks_per_node: int | None = None
    cores_per_rank: int | None = None

    @property
    def ranks(self) -> int | None:
        """Return the requested number of ranks."""
        return None if self.nodes is None or self.ranks_per_node is None else self.nodes * self.ranks_per_node

    def __str__(self) -> str:
        """Describe the job: Slurm job 17 (restart 2): 2 nodes, 4 ranks per node, 2 cores per rank."""
        restart = f" (restart {self.restarts})" if self.restarts else ""
        given = (
            (self.nodes, "node", ""),
            (self.ranks_per_node, "rank", " per node"),
            (self.cores_per_rank, "core", " per rank"),
        )
        parts = [f"{count} {what}{'s' * (count != 1)}{of}" for count, what, of in given if count is not None]
        return f"{self.scheduler} job {self.id}{restart}" + (f": {', '.join(parts)}" if parts else "")


def job_here(environment: Environment = os.environ) -> Job | None:
    """Return the job of a process with this environment; None without a job."""
    found = (recognize(environment) for recognize in RECOGNIZERS)
    job = next((job for job in found if job is not None), None)
    before = (_number(environment, CHAIN) or 1) - 1
    return job if job is None or not before else replace(job, restarts=before + (job.restarts or 0))


def seconds_left(job: Job, environment: Environment = os.environ) -> float | None:
    """Return the seconds that are left to a job; None if it has no limit, or an unknown one."""
    with suppress(UserError, ValueError, OSError):
        left = TIMES[job.scheduler](job, environment) if job.scheduler in TIMES else None
        return left if left is not None and left < NO_LIMIT_SECONDS else None
    return None


def job_and_time() -> tuple[Job | None, float | None]:
    """Return the job of this process and the seconds that are left, each None if unknown."""
    job = job_here()
    return job, None if job is None else seconds_left(job)


def _number(environment: Environment, *names: str) -> int | None:
    """Return the first of these variables that is a number."""
    values = (environment.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), None)


def _share(whole: int | None, parts: int | None) -> int | None:
    return None if whole is None or not parts else max(1, whole // parts)


def _answer(*command: str) -> str:
    """Return the output of a scheduler's program; raise OSError if it is missing, fails or takes too long."""
    import subprocess  # only rank 0 of a job needs it

    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(command[0])
    words = [program, *command[1:]]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"{command[0]} did not answer: {error}") from None
    return done.stdout


# --- Slurm ------------------------------------------------------------------------------------------


def _slurm(environment: Environment) -> Job | None:
    if "SLURM_JOB_ID" not in environment:
        return None
    number, task = environment["SLURM_JOB_ID"], environment.get("SLURM_ARRAY_TASK_ID")
    if task is not None:  # as the number of the array alone means all of its tasks
        number = f"{environment.get('SLURM_ARRAY_JOB_ID', number)}_{task}"
    # A launcher starts its daemons as tasks, whose variables differ from those of the job.
    started = _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS") if STEP in environment else None
    asked = started or _number(environment, "SLURM_NTASKS_PER_NODE")
    ranks = asked or _first_number(environment.get("SLURM_TASKS_PER_NODE", ""))
    whole = _first_number(environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
    cores = _number(environment, "SLURM_CPUS_PER_TASK") or _share(whole, ranks)
    restarts, nodes = _number(environment, "SLURM_RESTART_COUNT") or 0, _number(environment, "SLURM_JOB_NUM_NODES")
    return Job("Slurm", number, task, restarts, nodes, ranks, cores)


def _first_number(text: str) -> int | None:
    """Return the first number of a list: 4 of 4(x2),3."""
    match = re.match(r"\d+", text)
    return int(match.group()) if match else None


def _slurm_time(job: Job, environment: Environment) -> float | None:
    end = _number(environment, "SLURM_JOB_END_TIME")
    if end is not None:
        return end - time.time()
    return parse_time(_answer("squeue", "--noheader", "--jobs", job.id, "--format", "%L").strip())


# --- PBS --------------------------------------------------------------------------------------------


def _pbs(environment: Environment) -> Job | None:
    if "PBS_JOBID" not in environment:
        return None
    hosts = _lines(environment.get("PBS_NODEFILE", ""))
    ranks = max(Counter(hosts).values(), default=None)
    nodes = len(set(hosts)) or None
    cores = _share(_number(environment, "NCPUS", "PBS_NUM_PPN"), ranks)
    task = environment.get("PBS_ARRAY_INDEX", environment.get("PBS_ARRAYID"))
    return Job("PBS", environment["PBS_JOBID"], task, None, nodes, ranks, cores)


def _lines(path: str) -> list[str]:
    """Return the lines of a file; none if it cannot be read."""
    try:
        return Path(path).read_text().splitlines() if path else []
    except OSError:
        return []


def _pbs_time(job: Job, environment: Environment) -> float | None:
    try:
        return _left_of_pbs(_answer("qstat", "-f", job.id))
    except OSError:
        whole = _number(environment, "PBS_WALLTIME")  # compute nodes may lack qstat
        began = Path(environment["PBS_NODEFILE"]).stat().st_mtime if "PBS_NODEFILE" in environment else None
        return None if whole is None or began is None else whole - (time.time() - began)


def _left_of_pbs(listing: str) -> float | None:
    """Parse the seconds that are left from the attributes of a job, one a line."""
    attributes = dict(re.findall(r"^\s+([\w.]+) = (.+)$", listing, re.MULTILINE))
    if "Walltime.Remaining" in attributes:
        return float(attributes["Walltime.Remaining"])
    if "Resource_List.walltime" not in attributes:
        return None
    used = parse_time(attributes.get("resources_used.walltime", "0"))
    if "stime" in attributes:  # PBS updates the used time with a delay
        used = max(used, time.time() - time.mktime(time.strptime(attributes["stime"])))
    return parse_time(attributes["Resource_List.walltime"]) - used


# --- LSF --------------------------------------------------------------------------------------------


def _lsf(environment: Environment) -> Job | None:
    if "LSB_JOBID" not in environment:
        return None
    number, task = environment["LSB_JOBID"], environment.get("LSB_JOBINDEX", "0")
    words = environment.get("LSB_MCPU_HOSTS", "").split()  # hosts, each followed by its slots
    slots = [int(word) for word in words[1::2] if word.isdecimal()]
    if task == "0":  # not of an array
        return Job("LSF", number, None, None, len(slots) or None, max(slots, default=None))
    return Job("LSF", f"{number}[{task}]", task, None, len(slots) or None, max(slots, default=None))


def _lsf_time(job: Job, _environment: Environment) -> float | None:
    """Parse hours and minutes until the limit (L); an estimated end (E) is no limit."""
    match = re.match(r"(\d+):(\d+) L", _answer("bjobs", "-noheader", "-o", "time_left", job.id).strip())
    return None if match is None else 3600.0 * int(match[1]) + 60.0 * int(match[2])


# --- Flux -------------------------------------------------------------------------------------------


def _flux(environment: Environment) -> Job | None:
    """Return the job; a batch script knows the enclosing job, its ranks know their own."""
    number = environment.get("FLUX_ENCLOSING_ID", environment.get("FLUX_JOB_ID"))
    if number is None:
        return None
    nodes, ranks = _number(environment, "FLUX_JOB_NNODES"), _number(environment, "FLUX_JOB_SIZE")
    each = None if nodes is None or ranks is None else math.ceil(ranks / nodes)
    return Job("Flux", number, environment.get("FLUX_JOB_CC"), None, nodes, each)


def _flux_time(_job: Job, _environment: Environment) -> float | None:
    return float(_answer("flux", "job", "timeleft"))


# --- others, which report no time -------------------------------------------------------------------


def _grid_engine(environment: Environment) -> Job | None:
    if "JOB_ID" not in environment or not {"PE_HOSTFILE", "SGE_TASK_ID"} & set(environment):
        return None
    nodes, slots = _number(environment, "NHOSTS"), _number(environment, "NSLOTS")
    index = environment.get("SGE_TASK_ID", "undefined")
    number, task = environment["JOB_ID"], None if index == "undefined" else index
    return Job("Grid Engine", number, task, _number(environment, "RESTARTED"), nodes, _share(slots, nodes))


def _kubernetes(environment: Environment) -> Job | None:
    """Return the job of the MPI operator, which names the pods after the job."""
    if "K_MPI_JOB_ROLE" not in environment:
        return None
    pod = environment.get("HOSTNAME", socket.gethostname())
    found = [re.match(r"(\S+?)(?:\s+slots=|:)(\d+)", line) for line in _lines(HOSTFILE)]
    slots = {match[1]: int(match[2]) for match in found if match}
    name = re.sub(r"-(launcher.*|worker-\d+)$", "", pod)
    return Job("Kubernetes", name, None, None, len(slots) or None, max(slots.values(), default=None))


# The innermost first: Flux also runs inside of the others.
RECOGNIZERS: tuple[Callable[[Environment], Job | None], ...] = (_flux, _slurm, _pbs, _lsf, _grid_engine, _kubernetes)
TIMES: Mapping[str, Callable[[Job, Environment], float | None]] = {
    "Slurm": _slurm_time,
    "PBS": _pbs_time,
    "LSF": _lsf_time,
    "Flux": _flux_time,
}
