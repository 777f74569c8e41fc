"""Submit a training to a scheduler (dbp submit)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from dbp import kernels
from dbp.batch.before_submit import check_run, checked_settings, find_mpi
from dbp.batch.queue_systems import Scheduler, find_scheduler
from dbp.batch.request import Request
from dbp.batch.scripts import Site, quoted, render
from dbp.config.settings import AUTO_THREADS, Settings
from dbp.errors import UserError
from dbp.files import reading_from
from dbp.plain_files import read_plain
from dbp.saving.folder import RunFolder


def submit(request: Request) -> str:
    """Make, check, write and submit the script of a job; return the text to print.

    Raises:
        UserError: the request has a mistake, and nothing was written; or the scheduler refuses the job.
    """
    scheduler = find_scheduler(request.scheduler, must_be_here=not request.dry_run)
    request.check(scheduler)
    settings = checked_settings(request)
    lead = check_run(request, settings)
    site = _site(scheduler, settings, lead)
    text = render(request, scheduler, site)
    if request.dry_run:
        return text.rstrip()
    script, run = Path(site.script), Path(site.run)
    _check_not_edited(script, scheduler)
    folder = RunFolder(run, settings.checkpoint)
    new = not run.exists()
    folder.write_script(script.name, _with_digest(text))
    if request.retry:
        folder.reset_starts()
    try:
        number = scheduler.send(script)
    except UserError:
        script.unlink()
        with contextlib.suppress(OSError):
            if new:
                run.rmdir()
        raise
    cancel = " ".join([*scheduler.cancel, number])
    return f"{text}\nsubmitted {script} as {number}; dbp status {run} shows its state, {cancel} ends it"


MAX_SCRIPT_BYTES = 1 << 20
DIGEST = "# Written by dbp submit, which does not replace it once it is changed: sha256 "


def _with_digest(text: str) -> str:
    """Return a script with a last line by which a change of it is noticed."""
    return f"{text}{DIGEST}{hashlib.sha256(text.encode()).hexdigest()}\n"


def _check_not_edited(script: Path, scheduler: Scheduler) -> None:
    """Raise UserError if a script has been changed by hand since it was written."""
    if not os.path.lexists(script):
        return
    with reading_from(script):
        written = read_plain(script, MAX_SCRIPT_BYTES)
    if written != _with_digest(written.rpartition(DIGEST)[0]):
        line = scheduler.submit_line(str(script))
        raise UserError(
            f"{script} was changed by hand, which would be lost; submit it with {line}, or remove it for a new one"
        )


def _site(scheduler: Scheduler, settings: Settings, lead: float) -> Site:
    """Return what the script of a job needs to know about this machine and the run."""
    run = str(settings.out) if not str(settings.out).startswith("-") else f"./{settings.out}"
    threads = 1 if settings.threads == AUTO_THREADS else settings.thread_count
    script = f"{run}/job-{scheduler.template}"
    site = Site(script, run, f"{run}/{scheduler.name}", _environment(), threads=threads, lead=lead)
    if scheduler.name == "kubernetes":  # its image has its own MPI and Python
        return site
    vendor, launcher = find_mpi()
    here = replace(site, python=sys.executable, launcher=launcher, vendor=vendor, as_root=os.geteuid() == 0)
    return replace(here, kernels=kernels.variables(settings.kernels))


def _environment() -> str:
    """Return shell lines that set up this environment: its modules, and the commands of its Python."""
    modules = " ".join(quoted(name) for name in os.environ.get("LOADEDMODULES", "").split(":") if name)
    lines = [f"module load {modules}"] if modules else []
    return "\n".join([*lines, f'export PATH={quoted(str(Path(sys.executable).parent))}:"$PATH"'])
