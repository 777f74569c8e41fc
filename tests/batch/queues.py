"""Stand-ins for schedulers: programs with their names that note jobs, and a queue that runs these jobs' scripts."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import STDOUT

from tests.jobs import ROOT
from tests.launcher import LAUNCHER_SETTINGS
from tests.processes import LIMIT, ProcessTree

SLOWLY = """
import os, sys, time
if "SLOWLY" in os.environ and "train" in sys.orig_argv:
    from dbp.saving.saver import RunSaver
    before = RunSaver.note_step_time
    def note_step_time(saver):
        time.sleep(float(os.environ["SLOWLY"]))
        before(saver)
    RunSaver.note_step_time = note_step_time
"""
NOTE = 'printf "%s\\n" "${DBP_JOB:-1} $(printf "%s " "$@")" >> "$NOTES"\n'
NUMBER = 'echo "$(wc -l < "$NOTES")"\n'
# What each scheduler's programs do: note the job, and say its number as the real ones do.
PROGRAMS = {
    "slurm": {
        "sbatch": NOTE + """[ "$1" = --parsable ] || printf "Submitted batch job "\n""" + NUMBER,
        "scontrol": NOTE,
        "squeue": "echo 1:00:00\n",
    },
    "pbs": {
        "qsub": 'case $1 in -v) export "${2?}"; shift 2;; esac\n' + NOTE + NUMBER,
        "qstat": "echo '    Walltime.Remaining = 3600'\n",
    },
    "lsf": {
        "bsub": NOTE + 'cat > "$NOTES.script"; echo "Job <$(wc -l < "$NOTES")> is submitted to queue <normal>."\n',
        "bjobs": "echo '1:00 L'\n",
    },
    "flux": {
        "flux": """[ "$1" != --parent ] || shift
case $1 in
batch) shift; case $1 in --env=*) export "${1#--env=}"; shift;; esac
"""
        + NOTE
        + NUMBER
        + """;;
job) echo 3600;;
run) while [ "$2" != "$3" ] && [ "$1" != -o ]; do shift; done; shift 2; exec "$MPIRUN" -n 2 --bind-to none "$@";;
esac
""",
    },
}


def environment_of(scheduler: str, number: int, folder: Path) -> dict[str, str]:
    """Return the variables that a scheduler sets for a job of two ranks on one node."""
    host, here = socket.gethostname(), str(folder)
    hosts = folder / "hosts"
    hosts.write_text(f"{host}\n" * 2)
    return {
        "slurm": {
            "SLURM_JOB_ID": str(number),
            "SLURM_SUBMIT_DIR": here,
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_NODELIST": host,
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "2",
            "SLURM_TASKS_PER_NODE": "2",
            "SLURM_JOB_CPUS_PER_NODE": "2",
        },
        "pbs": {"PBS_JOBID": f"{number}.server", "PBS_O_WORKDIR": here, "PBS_NODEFILE": str(hosts), "NCPUS": "2"},
        "lsf": {
            "LSB_JOBID": str(number),
            "LSB_JOBINDEX": "0",
            "LS_SUBCWD": here,
            "LSB_HOSTS": f"{host} {host}",
            "LSB_MCPU_HOSTS": f"{host} 2",
            "LSB_DJOB_HOSTFILE": str(hosts),
        },
        "flux": {"FLUX_ENCLOSING_ID": f"f{number}", "FLUX_URI": "local:///nowhere"},
    }[scheduler]


@dataclass
class Job:
    """A job that has ended, with the exit code and output of its script."""

    code: int
    lines: list[str]


@dataclass
class Queue:
    """A stand-in for a scheduler, in a folder.

    Args:
        scheduler: which.
        folder: from which jobs are submitted.
        mpirun: what Flux starts ranks with.
    """

    scheduler: str
    folder: Path
    mpirun: str
    done: int = 0
    restarts: int = 0
    environment: dict[str, str] = field(init=False)

    def __post_init__(self):
        programs = self.folder / "programs"
        programs.mkdir()
        for name, text in PROGRAMS[self.scheduler].items():
            (programs / name).write_text(f"#!/bin/bash\n{text}")
            (programs / name).chmod(0o755)
        self.notes = self.folder / "notes"
        self.notes.touch()
        self.environment = {
            **LAUNCHER_SETTINGS,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "NOTES": str(self.notes),
            "MPIRUN": self.mpirun,
            **slowly(self.folder),
            # The launcher is to take this machine for the job's, and not to ask a scheduler that is not there.
            "PRTE_MCA_ras": "^slurm,pbs,lsf,flux",
            "PRTE_MCA_plm": "^slurm,pbs,lsf,flux",
        }

    @property
    def waiting(self) -> list[str]:
        """Return what was submitted and has not run: the number of jobs and the words of the command."""
        return self.notes.read_text().splitlines()[self.done :]

    def run_next(self, disturb=None) -> Job:
        """Call disturb() with the process of the next job's shell, and run the job to its end."""
        number, _, words = self.waiting[0].partition(" ")
        self.done += 1
        self.restarts += "requeue" in words
        script = next(self.folder.glob("run/job-*"))
        environment = {
            **os.environ,
            **self.environment,
            **environment_of(self.scheduler, 1 if self.restarts else self.done, self.folder),
            **({"DBP_JOB": number} if number != "1" else {}),
            **({"SLURM_RESTART_COUNT": str(self.restarts)} if self.restarts else {}),
        }
        if disturb is None:
            del environment["SLOWLY"]
        return run_script(["bash", str(script)], environment, self.folder, disturb)


def slowly(folder: Path) -> dict[str, str]:
    """Return an environment in which a run pauses in each step, so that a test can interrupt it."""
    place = folder / "slowly"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(SLOWLY)
    return {"SLOWLY": "0.02", "PYTHONPATH": os.pathsep.join([str(place), str(ROOT), os.environ.get("PYTHONPATH", "")])}


def run_script(command, environment, folder, disturb=None) -> Job:
    """Run a script to its end."""
    with ProcessTree(*command, cwd=folder, env=environment, stderr=STDOUT) as tree:
        if disturb is not None:
            disturb(tree.process.pid)
        return Job(tree.wait(), tree.out.splitlines())


def when_under_way(run: Path, step: int) -> dict:
    """Wait until a run has saved so many steps, and return its status."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        status = status_of(run)
        alive = Path(f"/proc/{status.get('process')}").exists()  # and not that of a start before
        if alive and status["state"] == "running" and status["step"] >= step:
            return status
        time.sleep(0.02)
    raise AssertionError(f"the run never came to step {step}: {status_of(run)}")


def status_of(run: Path) -> dict:
    """Return the status file of a run; {} if there is none."""
    try:
        return json.loads((run / "status.json").read_text())
    except FileNotFoundError:
        return {}


def directives(script: str, mark: str) -> dict[str, str]:
    """Return a script's directives to its scheduler, by option."""
    found = re.findall(rf"^{mark} +(-\S+?)[ =]+(.*)$", script, re.MULTILINE)
    return dict(found)
