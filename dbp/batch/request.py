"""The request for a job, as the options of dbp submit describe it, and its checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dbp.batch.queue_systems import Scheduler
from dbp.checks import check_at_least
from dbp.errors import UserError
from dbp.text import parse_time

PLAIN = re.compile(r"[\w./+:,=-]+")  # text that directives of all schedulers take without quotes
NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")  # a name that Kubernetes takes too


@dataclass(frozen=True)
class Request:
    """The request for a job: the options of dbp submit.

    Args:
        config: the config file.
        nodes: number of nodes.
        ranks_per_node: number of ranks on each node.
        time: time limit of each job, as hours:minutes:seconds or seconds; None for schedulers without limits.
        threads: BLAS threads of a rank, and its cores; None for those of the config.
        scheduler: name of the scheduler; None for the one found here.
        out: the run's folder; None for that of the config.
        set: changes of the config, key=value.
        accept: keys in which the run may differ from its checkpoint.
        retry: forget starts without progress.
        name: name of the job; None for one made of the config's.
        account: account that the job is charged to.
        queue: queue or partition.
        most_jobs: most jobs of the run, with the first.
        image: Kubernetes: image of the containers.
        claim: Kubernetes: claim to a volume.
        dry_run: print the script and submit nothing.
        options: words of options for the scheduler, which every job gets.
    """

    config: str
    nodes: int = 1
    ranks_per_node: int = 1
    time: str | None = None
    threads: int | None = None
    scheduler: str | None = None
    out: str | None = None
    set: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    retry: bool = False
    name: str | None = None
    account: str | None = None
    queue: str | None = None
    most_jobs: int = 20
    image: str | None = None
    claim: str | None = None
    dry_run: bool = False
    options: tuple[str, ...] = ()

    @property
    def ranks(self) -> int:
        """Return the number of ranks of the job."""
        return self.nodes * self.ranks_per_node

    @property
    def changes(self) -> list[str]:
        """Return the changes of the config, with those of other options."""
        return [*self.set, *([] if self.threads is None else [f"threads={self.threads}"])]

    @property
    def seconds(self) -> float | None:
        """Return the time limit in seconds; None without one."""
        try:
            return None if self.time is None else parse_time(self.time)
        except UserError:
            raise UserError(
                f"--time takes hours:minutes:seconds such as 4:00:00, or seconds, not {self.time!r}"
            ) from None

    @property
    def job_name(self) -> str:
        """Return a job name that all schedulers take."""
        if self.name is None:
            return re.sub(r"[^a-z0-9]+", "-", f"dbp-{Path(self.config).stem}".lower())[:40].strip("-")
        return self.name

    def check(self, scheduler: Scheduler) -> None:
        """Raise UserError if the scheduler would not take such a job."""
        for option in ("nodes", "ranks_per_node", "threads", "most_jobs"):
            value = getattr(self, option)
            if value is not None:
                check_at_least(1, **{f"--{option.replace('_', '-')}": value})
        if not NAME.fullmatch(self.job_name):
            raise UserError(f"--name takes small letters, digits and dashes, up to 42, but got {self.job_name!r}")
        for option in ("account", "queue", "image", "claim"):
            value = getattr(self, option)
            if value is not None and not PLAIN.fullmatch(value):
                raise UserError(f"--{option} takes a plain word, but got {value!r}")
        self._check_options(scheduler)
        scheduler.directives(self.options)

    def _check_options(self, scheduler: Scheduler) -> None:
        for option in ("account", "queue", "time", "image", "claim"):
            if getattr(self, option) is not None and option not in scheduler.options:
                raise UserError(f"--{option} has no meaning for --scheduler {scheduler.name}; leave it out")
        for option in ("time", "image", "claim"):
            if option in scheduler.options and getattr(self, option) is None:
                example = {"time": "4:00:00", "image": "REGISTRY/dbp", "claim": "VOLUME"}[option]
                raise UserError(
                    f"--{option} is missing, which {scheduler.name} needs; for instance --{option} {example}"
                )
        if scheduler.name == "mpirun" and self.nodes > 1:
            raise UserError(
                f"--scheduler mpirun starts on this machine only, but --nodes is {self.nodes}; take --nodes 1, or "
                "give launch/mpirun.sh a --hostfile"
            )
