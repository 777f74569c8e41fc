"""Make the scripts in launch/: the job script of one example run, for each scheduler."""

from __future__ import annotations

from dataclasses import replace

from dbp.batch.queue_systems import SCHEDULERS
from dbp.batch.request import Request
from dbp.batch.scripts import Site, render

EXAMPLE = Request("examples/digits.toml", nodes=2, ranks_per_node=2, time="4:00:00")
ENVIRONMENT = 'export PATH="$PWD/.venv/bin:$PATH"'


def example_scripts() -> dict[str, str]:
    """Return the scripts by file name."""
    scripts = {}
    for scheduler in SCHEDULERS.values():
        request = replace(EXAMPLE, time=EXAMPLE.time if "time" in scheduler.options else None)
        if scheduler.name == "mpirun":
            request = replace(request, nodes=1, ranks_per_node=4)
        if scheduler.name == "kubernetes":
            request = replace(request, image="dbp:latest", claim="work")
        site = Site(f"launch/{scheduler.template}", "runs/digits", "digits", ENVIRONMENT)
        scripts[scheduler.template] = render(request, scheduler, site)
    return scripts
