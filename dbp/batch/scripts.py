"""Make scripts for schedulers from the templates beside this file.

A template holds a placeholder @name@ for each value that differs between jobs. A value of several lines is indented
like its placeholder. A directive with a placeholder @name?@ is disabled if there is no such value.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import PurePosixPath

from dbp.batch.launch import HUGE_PAGES
from dbp.batch.launcher_process import NOT_STARTED
from dbp.batch.queue_systems import Scheduler
from dbp.batch.request import Request

PLACEHOLDER = re.compile(r"@([a-z_]+)(\??)@")
WIDTH = 78  # columns of the command that starts ranks
TERM_MARGIN = (
    15.0  # a TERM within so many seconds before the time limit comes from the limit, any other cancels the job
)
WARNING_LEAD = 120.0  # seconds before the time limit at which a job is warned; at most a tenth of the limit


@dataclass(frozen=True)
class Site:
    """The values for a script: of this machine and of the run.

    Args:
        script: path of the script.
        run: the run's folder.
        log: beginning of the path of the job's output.
        environment: shell lines that set up the environment of the run.
        python: the Python that runs dbp.
        launcher: the program that starts ranks.
        vendor: name of the launcher's MPI library.
        as_root: whether root starts it.
        threads: BLAS threads of a rank.
        kernels: environment variables that choose kernels of NumPy.
        lead: seconds that the run needs to save and stop.
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
    kernels: Mapping[str, str] = field(default_factory=dict)
    lead: float = 0.0


def render(request: Request, scheduler: Scheduler, site: Site) -> str:
    """Return the script of a job."""
    values = _values(request, scheduler, site)
    lines = [_filled(line, values, scheduler) for line in _template(scheduler.template).splitlines()]
    if options := scheduler.directives(request.options):
        last = max(
            number for number, line in enumerate(lines) if line.startswith((scheduler.prefix, scheduler.disabled))
        )
        lines[last + 1 : last + 1] = options
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """Return a word in quotes for bash, in one line."""
    if word.isprintable():
        return shlex.quote(word)
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in "\\'" else f"\\x{byte:02x}" for byte in word.encode())
    return f"$'{''.join(plain)}'"


def _template(name: str) -> str:
    return (files("dbp.batch") / "templates" / name).read_text()


def _filled(line: str, values: dict[str, str | None], scheduler: Scheduler) -> str:
    """Return a line of a template with values in place of its placeholders."""
    for name, optional in PLACEHOLDER.findall(line):
        if optional and values[name] is None:
            line = (
                line.replace(scheduler.directive, scheduler.disabled, 1)
                if scheduler.directive
                else _commented_out(line)
            )
            values = {**values, name: "NAME"}
    indent = line[: len(line) - len(line.lstrip())]
    text = PLACEHOLDER.sub(lambda match: values[match[1]] or "", line)
    return f"\n{indent}".join(text.split("\n")).replace(f"\n{indent}\n", "\n\n")


def _commented_out(line: str) -> str:
    body = line.lstrip()
    return f"{line[: len(line) - len(body)]}# {body}"


def _values(request: Request, scheduler: Scheduler, site: Site) -> dict[str, str | None]:
    """Return the values of all placeholders; None for one that is not given."""
    seconds = request.seconds
    lead = min(
        max(site.lead, WARNING_LEAD if seconds is None else min(WARNING_LEAD, seconds / 10)), seconds or math.inf
    )
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
        "time": _clock_text(seconds or 0),
        "minutes": _clock_text(60 * math.ceil((seconds or 0) / 60)).rpartition(":")[0],
        "account": request.account,
        "queue": request.queue,
        "image": request.image,
        "claim": request.claim,
        "implementation": {"MPICH": "MPICH", "Intel MPI": "Intel"}.get(site.vendor, "OpenMPI"),
        "huge_pages": "\n".join(
            f'# Arrays in huge pages\nexport {name}="${{{name}:-{value}}}"' for name, value in HUGE_PAGES.items()
        ),
        "submit": scheduler.submit_line(site.script),
        "script": site.script,
        "run": site.run,
        "log": site.log,
        "folder": str(PurePosixPath(site.log).parent),
        "environment": "\n".join([site.environment, *(f'export {n}="{v}"' for n, v in site.kernels.items())]),
        "python": quoted(site.python),
        "shared": _shared(scheduler, seconds),
        "launch": _wrapped(_launch(request, scheduler, site)),
    }


def _shared(scheduler: Scheduler, seconds: float | None) -> str:
    """Return the part that all scripts share."""
    cancel, why = "cancelled=yes", ""
    if seconds is not None:
        cancel = f'[ "$SECONDS" -ge {max(0, int(seconds - TERM_MARGIN))} ] || {cancel}'
        why = "\n    # TERM comes from the time limit if that is near; before, it cancels the job."
    text = _template("train.sh").rstrip()
    text = text.replace("@not_started@", str(NOT_STARTED))
    return text.replace("@signal@", scheduler.warning_signal).replace("@cancel@", cancel).replace("@why@", why)


def _clock_text(seconds: float) -> str:
    """Return hours:minutes:seconds."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


# --- the command that starts the ranks -----------------------------------------------------------------


def _launch(request: Request, scheduler: Scheduler, site: Site) -> list[str]:
    """Return the quoted words of the command that starts the ranks."""
    changes = [change for change in request.changes if not change.startswith("out=")]
    options = [word for change in changes for word in ("--set", quoted(change))]
    options += [word for key in request.accept for word in ("--accept", quoted(key))]
    options += ["--time-limit", "auto"] if "time" in scheduler.options else []
    train = ['"$python"', "-m", "dbp", "train", quoted(request.config), "--out", '"$out"', *options]
    if scheduler.name == "flux":
        count = ["-N", str(request.nodes), "-n", str(request.ranks), "-c", str(site.threads)]
        return ["flux", "run", *count, "-o", "cpu-affinity=per-task", *train]
    return [quoted(site.launcher), "-n", str(request.ranks), *_binding(request, scheduler, site), *train]


def _binding(request: Request, scheduler: Scheduler, site: Site) -> list[str]:
    """Return the options of a launcher that spread ranks over nodes and bind each to its cores.

    On a node with too few cores, such as a small machine for tests, ranks share them.
    """
    hosts = {"pbs": '"$PBS_NODEFILE"', "lsf": '"$LSB_DJOB_HOSTFILE"', "kubernetes": "/etc/mpi/hostfile"}
    host_file, threads = hosts.get(scheduler.name), str(site.threads)
    if site.vendor != "Open MPI":
        bound = ["-bind-to", f"core:{threads}"] if site.vendor == "MPICH" and scheduler.name != "kubernetes" else []
        return [*(["-f", host_file] if host_file else []), "-ppn", str(request.ranks_per_node), *bound]
    options = ["--hostfile", host_file] if host_file else []
    if scheduler.name == "kubernetes":  # pods on one machine may see the same cores, and would all bind to the first
        return [*options, "--allow-run-as-root", "--bind-to", "none"]
    options += ["--allow-run-as-root"] if site.as_root else []
    bound = ["--map-by", f"slot:PE={threads}:OVERSUBSCRIBE", "--bind-to", "core:overload-allowed"]
    passed_on = [word for name in ("OMP_NUM_THREADS", *HUGE_PAGES, *site.kernels) for word in ("-x", name)]
    return [*options, *bound, *passed_on]


def _wrapped(words: list[str]) -> str:
    """Return a command in several lines of a script."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > WIDTH - len("train  \\"):
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n    ".join(lines)
