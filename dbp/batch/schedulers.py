"""The schedulers that jobs can be submitted to, and what each of them takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dbp.errors import UserError, unknown
from dbp.files import writing_to

ANSWER = 120.0  # seconds in which a scheduler must have taken a job
QUEUE = ("account", "queue", "time")  # what schedulers with a time limit take


@dataclass(frozen=True)
class Scheduler:
    """A way to have a script run.

    Args:
        name: what --scheduler calls it.
        template: the name of its script, which is that of the file in launch/ too.
        submit: the words that submit a script, which follows them.
        cancel: the words that end a job, whose number follows them.
        takes: options of dbp submit that not all schedulers take.
        number: where the number of the job stands in what is printed when it is submitted.
        reads: whether the script is read from the standard input.
        warned: the signal by which the script hears that its time will soon be up.
        directive: what a line of the script begins with that tells the scheduler something.
        without: what such a line begins with if it tells nothing.
    """

    name: str
    template: str
    submit: tuple[str, ...]
    cancel: tuple[str, ...]
    takes: tuple[str, ...] = QUEUE
    number: str = r"\s*([^\s;]+)"
    reads: bool = False
    warned: str = "USR1"
    directive: str = ""
    without: str = "# "

    @property
    def command(self) -> str:
        """The program that submits."""
        return self.submit[0]

    def words(self, script: str) -> str:
        """The command that submits a script, as one types it."""
        return " ".join([*self.submit, *(["<"] if self.reads else []), script])

    def send(self, script: Path) -> str:
        """Submit a script; gives the number of its job, or UserError if it is refused."""
        environment = {name: value for name, value in os.environ.items() if name != "DBP_JOB"}
        command = [*self.submit, *([] if self.reads else [str(script)])]
        text = script.read_text() if self.reads else ""
        try:
            outcome = subprocess.run(
                command, input=text, capture_output=True, text=True, env=environment, check=False, timeout=ANSWER
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{self.command} gave no answer within {ANSWER:.0f} s; see whether the job waits, then try again"
            ) from None
        found = re.search(self.number, outcome.stdout)
        if outcome.returncode or found is None:
            said = " ".join((outcome.stderr or outcome.stdout).split()) or f"code {outcome.returncode}"
            raise UserError(f"{self.command} refused the job: {said}; mend that, or ask for something else")
        return found[1]


class Here(Scheduler):
    """No scheduler: the script runs on this machine, apart from the terminal."""

    def words(self, script: str) -> str:
        """The command that starts a script."""
        return f"bash {script}"

    def send(self, script: Path) -> str:
        """Start a script; gives the number of its process."""
        path = script.with_suffix(".out")
        with writing_to(path):
            out = path.open("ab")
        with out:
            process = subprocess.Popen(
                ["bash", str(script)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        return str(process.pid)


SCHEDULERS = {
    scheduler.name: scheduler
    for scheduler in (
        Scheduler(
            "slurm", "slurm.sbatch", ("sbatch",), ("scancel",), QUEUE, r"job (\d+)", directive="#S", without="##S"
        ),
        Scheduler("pbs", "pbs.sh", ("qsub",), ("qdel",), directive="#P", without="##P"),
        Scheduler(
            "lsf", "lsf.sh", ("bsub",), ("bkill",), QUEUE, r"Job <(\d+)>", True, "URG", "#B", "##B"
        ),  # URG: what else a job consists of is not ended by it
        Scheduler("flux", "flux.sh", ("flux", "batch"), ("flux", "cancel"), directive="#flux:", without="#flux: #"),
        Scheduler(
            "kubernetes",
            "mpijob.yaml",
            ("kubectl", "create", "-f"),
            ("kubectl", "delete"),
            ("queue", "image", "claim"),
        ),
        Here("mpirun", "mpirun.sh", ("bash",), ("kill",), ()),
    )
}
FOUND = ("slurm", "pbs", "lsf", "flux")  # those that are looked for; kubectl alone tells of no MPI operator


def find_scheduler(name: str | None, must_be_here: bool = True) -> Scheduler:
    """The scheduler of that name, or the one whose command is on the PATH; UserError if it cannot be told."""
    if name is not None:
        if name not in SCHEDULERS:
            raise unknown("scheduler", name, SCHEDULERS)
        found = SCHEDULERS[name]
        if must_be_here and shutil.which(found.command) is None:
            raise UserError(f"--scheduler {name} needs {found.command}, which is not on the PATH; submit where it is")
        return found
    looked_for = [name for name in FOUND if name != "pbs" or "SGE_ROOT" not in os.environ]  # Grid Engine has a qsub too
    here = [SCHEDULERS[name] for name in looked_for if shutil.which(SCHEDULERS[name].command)]
    if not here:
        commands = ", ".join(SCHEDULERS[name].command for name in looked_for)
        raise UserError(
            f"no scheduler was found (none of {commands} is on the PATH); submit on a login node, or name one: "
            f"--scheduler {' or '.join(SCHEDULERS)}"
        )
    if len(here) > 1:
        commands = ", ".join(scheduler.command for scheduler in here)
        names = " or ".join(scheduler.name for scheduler in here)
        raise UserError(f"several schedulers were found ({commands}); name one: --scheduler {names}")
    return here[0]
