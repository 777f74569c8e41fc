"""Scripts for schedulers, made of the templates beside this file.

A template holds @names@ in place of what differs between jobs. A value of several lines is indented as its line is. A
directive with @name?@ is switched off where there is no such value.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath

from dbp.batch.request import Request
from dbp.batch.schedulers import Scheduler

PLACE = re.compile(r"@([a-z_]+)(\??)@")
WIDTH = 110
LATE = 15.0  # seconds before the time limit after which a job is taken to be ended by it
LEAD = 120.0  # seconds before its end at which a job is warned, if it is long enough


@dataclass(frozen=True)
class Site:
    """What a script needs besides what was asked for.

    Args:
        script: where it will lie.
        run: the run's folder.
        log: what the job prints goes to a file whose name begins so.
        environment: the lines that make the commands of the run's environment known.
        python: what runs dbp.
        launcher: what starts ranks.
        vendor: of the MPI that it belongs to.
        as_root: whether root is to start it.
        threads: of a rank.
        lead: seconds that a run needs to save and stop.
    """

    script: str
    run: str
    log: str
    environment: str
    python: str = "python"
    launcher: str = "mpirun"
    vendor: str = "Open MPI"
    as_root: bool = False
    threads: int = 1
    lead: float = 0.0


def render(request: Request, scheduler: Scheduler, site: Site) -> str:
    """The script of a job."""
    values = _values(request, scheduler, site)
    lines = (_filled(line, values, scheduler) for line in _template(scheduler.template).splitlines())
    return "\n".join(lines) + "\n"


def _template(name: str) -> str:
    return (files("dbp.batch") / "templates" / name).read_text()


def _filled(line: str, values: dict[str, str | None], scheduler: Scheduler) -> str:
    for name, optional in PLACE.findall(line):
        if optional and values[name] is None:
            line = line.replace(scheduler.directive, scheduler.without, 1) if scheduler.directive else _off(line)
            values = {**values, name: "NAME"}
    indent = line[: len(line) - len(line.lstrip())]
    text = PLACE.sub(lambda match: values[match[1]] or "", line)
    return f"\n{indent}".join(text.split("\n")).replace(f"\n{indent}\n", "\n\n")


def _off(line: str) -> str:
    body = line.lstrip()
    return f"{line[: len(line) - len(body)]}# {body}"


def _values(request: Request, scheduler: Scheduler, site: Site) -> dict[str, str | None]:
    seconds = request.seconds
    lead = min(max(site.lead, LEAD if seconds is None else min(LEAD, seconds / 10)), seconds or math.inf)
    cores = request.ranks_per_node * site.threads
    counts = {
        "nodes": request.nodes,
        "ranks": request.ranks,
        "ranks_per_node": request.ranks_per_node,
        "cores_per_node": cores,
        "threads": site.threads,
        "most_jobs": request.most_jobs,
        "seconds": int(seconds or 0),
        "lead": math.ceil(lead),
        "lead_minutes": math.ceil(lead / 60),
    }
    return {name: str(count) for name, count in counts.items()} | {
        "name": request.job_name,
        "time": _clock(seconds or 0),
        "minutes": _clock(60 * math.ceil((seconds or 0) / 60)).rpartition(":")[0],
        "account": request.account,
        "queue": request.queue,
        "image": request.image,
        "claim": request.claim,
        "implementation": {"MPICH": "MPICH", "Intel MPI": "Intel"}.get(site.vendor, "OpenMPI"),
        "submit": scheduler.words(site.script),
        "script": site.script,
        "run": site.run,
        "log": site.log,
        "folder": str(PurePosixPath(site.log).parent),
        "environment": site.environment,
        "python": shlex.quote(site.python),
        "shared": _shared(scheduler, seconds),
        "launch": _broken(_launch(request, scheduler, site)),
    }


def _shared(scheduler: Scheduler, seconds: float | None) -> str:
    """The part that all scripts have."""
    cancel, why = "cancelled=yes", ""
    if seconds is not None:
        cancel = f'[ "$SECONDS" -ge {max(0, int(seconds - LATE))} ] || {cancel}'
        why = " TERM before the time is up is a cancellation."
    text = _template("train.sh").rstrip()
    return text.replace("@warned@", scheduler.warned).replace("@cancel@", cancel).replace("@cancelled@", why)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


# --- the command that starts the ranks -----------------------------------------------------------------


def _launch(request: Request, scheduler: Scheduler, site: Site) -> list[str]:
    """Its words, quoted."""
    changes = [change for change in request.changes if not change.startswith("out=")]
    options = [word for change in changes for word in ("--set", shlex.quote(change))]
    options += [word for key in request.accept for word in ("--accept", shlex.quote(key))]
    options += ["--time-limit", "auto"] if "time" in scheduler.takes else []
    train = ['"$python"', "-m", "dbp", "train", shlex.quote(request.config), "--out", '"$out"', *options]
    if scheduler.name == "flux":
        count = ["-N", str(request.nodes), "-n", str(request.ranks), "-c", str(site.threads)]
        return ["flux", "run", *count, "-o", "cpu-affinity=per-task", *train]
    return [shlex.quote(site.launcher), "-n", str(request.ranks), *_placed(request, scheduler, site), *train]


def _placed(request: Request, scheduler: Scheduler, site: Site) -> list[str]:
    """Options of a launcher: where ranks go, and the cores that each is kept to.

    Where there are fewer cores than ranks need these share them, as a machine for trying things out may have it.
    """
    hosts = {"pbs": '"$PBS_NODEFILE"', "lsf": '"$LSB_DJOB_HOSTFILE"', "kubernetes": "/etc/mpi/hostfile"}
    host_file, threads = hosts.get(scheduler.name), str(site.threads)
    if site.vendor != "Open MPI":
        bound = ["-bind-to", f"core:{threads}"] if site.vendor == "MPICH" and scheduler.name != "kubernetes" else []
        return [*(["-f", host_file] if host_file else []), "-ppn", str(request.ranks_per_node), *bound]
    options = ["--hostfile", host_file] if host_file else []
    if scheduler.name == "kubernetes":  # pods of one machine may see the same cores, and would share the first ones
        return [*options, "--allow-run-as-root", "--bind-to", "none"]
    options += ["--allow-run-as-root"] if site.as_root else []
    bound = ["--map-by", f"slot:PE={threads}:OVERSUBSCRIBE", "--bind-to", "core:overload-allowed"]
    return [*options, *bound, "-x", "OMP_NUM_THREADS"]


def _broken(words: list[str]) -> str:
    """A command in lines of a script."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > WIDTH - len("train  \\"):
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n    ".join(lines)
