"""The queue systems (batch schedulers) that jobs can be submitted to: their commands, options and scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbp.errors import UserError, unknown
from dbp.files import writing_to

SUBMIT_TIMEOUT = 120.0  # seconds within which a scheduler must accept a job
PLAIN_OPTION = re.compile(r"[\w./+:,=@%&|*()\[\]{}!~^-]+")  # words that need no quotes
QUEUE_OPTIONS = ("account", "queue", "time")  # of schedulers with a time limit


@dataclass(frozen=True)
class Scheduler:
    """A scheduler: how it takes scripts.

    Args:
        name: its name for --scheduler.
        template: file name of its template, and of its example in launch/.
        submit: the command that submits a script, without the script.
        cancel: the command that ends a job, without the number of the job.
        options: options of dbp submit that not all schedulers take.
        number: pattern that finds the number of the job in the output of `submit`.
        reads_stdin: whether the script is read from the standard input.
        warning_signal: signal that the script gets before its time limit.
        directive: beginning of a line of the script that is an option of the scheduler.
        disabled: beginning of such a line that is disabled.
        prefix: first word of such a line; empty if there are none.
        own: options that dbp submit sets itself.
        long_options: whether it has options with two dashes.
    """

    name: str
    template: str
    submit: tuple[str, ...]
    cancel: tuple[str, ...]
    options: tuple[str, ...] = QUEUE_OPTIONS
    number: str = r"\s*([^\s;]+)"
    reads_stdin: bool = False
    warning_signal: str = "USR1"
    directive: str = ""
    disabled: str = "# "
    prefix: str = ""
    own: tuple[str, ...] = ()
    long_options: bool = True

    def directives(self, words: Sequence[str]) -> list[str]:
        """Return the lines of a script that give all its jobs some options.

        Args:
            words: of the options; each begins with a dash, and its values follow it.

        Raises:
            UserError: they are no options, dbp sets them itself, or no line of this scheduler can hold them.
        """
        if words and not self.prefix:
            raise UserError(f"options after -- have no meaning for --scheduler {self.name}; leave them out")
        lines: list[str] = []
        for word in words:
            name = re.match(r"--[^=]*|-.", word)
            if name is not None and name[0] in self.own:
                raise UserError(f"option {name[0]} after -- is set by dbp submit itself; see dbp submit --help")
            if word.startswith("--") and not self.long_options:
                raise UserError(f"options of {self.name} have one dash, but after -- there is {word!r}")
            if name is None and not lines:
                raise UserError(f"what follows -- must be options of {self.name}, such as --qos long, but is {word!r}")
            if not word or not word.isprintable() or set(word) & set("\"'\\`$"):
                raise UserError(f"a line of {self.name} cannot hold {word!r} after --; change the script instead")
            quoted = word if PLAIN_OPTION.fullmatch(word) else f'"{word}"'
            if name is None:
                lines[-1] += f" {quoted}"
            else:
                lines.append(f"{self.prefix} {quoted}")
        return lines

    @property
    def command(self) -> str:
        """Return the program that submits."""
        return self.submit[0]

    def submit_line(self, script: str) -> str:
        """Return the command line that submits a script."""
        return " ".join([*self.submit, *(["<"] if self.reads_stdin else []), script])

    def send(self, script: Path) -> str:
        """Submit a script and return the number of its job.

        Raises:
            UserError: the scheduler refuses the job, or does not answer.
        """
        environment = {name: value for name, value in os.environ.items() if name != "DBP_JOB"}
        command = [*self.submit, *([] if self.reads_stdin else [str(script)])]
        text = script.read_text() if self.reads_stdin else ""
        try:
            outcome = subprocess.run(
                command,
                input=text,
                capture_output=True,
                text=True,
                env=environment,
                check=False,
                timeout=SUBMIT_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{self.command} did not answer within {SUBMIT_TIMEOUT:.0f} s; see if the job is queued, then try again"
            ) from None
        found = re.search(self.number, outcome.stdout)
        if outcome.returncode or found is None:
            reason = " ".join((outcome.stderr or outcome.stdout).split()) or f"code {outcome.returncode}"
            raise UserError(f"{self.command} refused the job: {reason}; fix that, or change the request")
        return found[1]


class LocalMachine(Scheduler):
    """No scheduler: the script runs on this machine, detached from the terminal."""

    def submit_line(self, script: str) -> str:
        """Return the command line that starts a script."""
        return f"bash {script}"

    def send(self, script: Path) -> str:
        """Start a script and return the number of its process."""
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
            "slurm",
            "slurm.sbatch",
            ("sbatch",),
            ("scancel",),
            QUEUE_OPTIONS,
            r"job (\d+)",
            directive="#S",
            disabled="##S",
            prefix="#SBATCH",
            own=(
                *("--job-name", "--nodes", "--ntasks", "--ntasks-per-node", "--cpus-per-task", "--time", "--signal"),
                *("--output", "--account", "--partition", "-J", "-N", "-n", "-c", "-t", "-o", "-A", "-p"),
            ),
        ),
        Scheduler(
            "pbs",
            "pbs.sh",
            ("qsub",),
            ("qdel",),
            directive="#P",
            disabled="##P",
            prefix="#PBS",
            own=("-N", "-j", "-o", "-A", "-q"),
            long_options=False,
        ),
        Scheduler(
            "lsf",
            "lsf.sh",
            ("bsub",),
            ("bkill",),
            QUEUE_OPTIONS,
            r"Job <(\d+)>",
            True,
            "URG",  # which does not end the other processes of the job
            "#B",
            "##B",
            "#BSUB",
            ("-J", "-n", "-W", "-o", "-P", "-q"),
            long_options=False,
        ),
        Scheduler(
            "flux",
            "flux.sh",
            ("flux", "batch"),
            ("flux", "cancel"),
            directive="#flux:",
            disabled="#flux: #",
            prefix="#flux:",
            own=(
                *("--job-name", "--nodes", "--nslots", "--cores-per-slot", "--time-limit", "--signal", "--output"),
                *("--bank", "--queue", "-N", "-n", "-c", "-t", "-q", "-B"),
            ),
        ),
        Scheduler(
            "kubernetes",
            "mpijob.yaml",
            ("kubectl", "create", "-f"),
            ("kubectl", "delete"),
            ("queue", "image", "claim"),
        ),
        LocalMachine("mpirun", "mpirun.sh", ("bash",), ("kill",), ()),
    )
}
DETECTED = ("slurm", "pbs", "lsf", "flux")  # found by their command; kubectl does not show an MPI operator


def find_scheduler(name: str | None, must_be_here: bool = True) -> Scheduler:
    """Return the scheduler of a name, or the only one whose command is on the PATH.

    Args:
        name: the name; None for the scheduler found here.
        must_be_here: whether the command of a named scheduler must be on the PATH.

    Raises:
        UserError: there is no such scheduler, none was found, or several were.
    """
    if name is not None:
        if name not in SCHEDULERS:
            raise unknown("scheduler", name, SCHEDULERS)
        found = SCHEDULERS[name]
        if must_be_here and shutil.which(found.command) is None:
            raise UserError(f"--scheduler {name} needs {found.command}, which is not on the PATH; submit where it is")
        return found
    candidates = [
        name for name in DETECTED if name != "pbs" or "SGE_ROOT" not in os.environ
    ]  # Grid Engine has a qsub too
    here = [SCHEDULERS[name] for name in candidates if shutil.which(SCHEDULERS[name].command)]
    if not here:
        commands = ", ".join(SCHEDULERS[name].command for name in candidates)
        raise UserError(
            f"no scheduler was found (none of {commands} is on the PATH); submit on a login node, or name one: "
            f"--scheduler {' or '.join(SCHEDULERS)}"
        )
    if len(here) > 1:
        commands = ", ".join(scheduler.command for scheduler in here)
        names = " or ".join(scheduler.name for scheduler in here)
        raise UserError(f"several schedulers were found ({commands}); name one: --scheduler {names}")
    return here[0]
