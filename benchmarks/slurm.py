"""A separate Slurm on one machine: a controller, and a node for each of some emulated hosts; see hosts.py.

    python benchmarks/slurm.py 2 -- sbatch --wait job.sh
    python benchmarks/slurm.py 2 -- bash

Starts it, runs a command on its first node, and ends it. Needs what hosts.py needs, and Slurm's own programs (Debian:
slurm-wlm, munge, and libpmix-dev for srun --mpi=pmix). All that it writes is in a folder that goes with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests import hosts
from tests.hosts import NETWORK, Hosts, die_with_parent
from tests.processes import LIMIT, MARK, ProcessTree, output_of, run, run_here

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
CORES = 4  # that each node claims to have
LOCAL = "/run/dbp-local"  # a folder that each host has for itself
CONFIG = """\
ClusterName=test
SlurmctldHost={first}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=2
JobRequeue=1
SlurmctldTimeout=120
SlurmdTimeout=120
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
NodeName={nodes} CPUs={cores} CoresPerSocket={cores} Boards=1 SocketsPerBoard=1 ThreadsPerCore=1 RealMemory=2000
PartitionName=all Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why Slurm cannot run on this machine; None if it can."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"there is no {missing[0]}; install slurm-wlm and munge"
    return hosts.why_not()


class Slurm:
    """A Slurm in a with statement: nodes h0, h1, ... with four cores each, which end with the statement, as do jobs.

    Args:
        nodes: how many.
    """

    def __init__(self, nodes: int):
        self.hosts = Hosts(nodes)
        self._daemons: list[ProcessTree] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            # What a job writes while it is being ended must not keep the rest from being cleaned up.
            folder = tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)
            self._folder = Path(stack.enter_context(folder))
            stack.enter_context(self.hosts)
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        names, folder = self.hosts.names, self._folder
        first, count = names[0], len(names)
        self.config = folder / "slurm.conf"
        self.config.write_text(
            CONFIG.format(first=first, address=f"{NETWORK}.10", folder=folder, nodes=f"h[0-{count - 1}]", cores=CORES)
        )
        (folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={LOCAL}\n")
        (folder / "munge.key").touch(0o400)
        (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (folder / "state").mkdir()
        folder.chmod(0o755)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={folder / file}" for name, file in {**files, "log-file": "munged.log"}.items()]
        self._daemon(stack, "munged", *["munged", "--foreground", "--force", *options])
        self._wait("munged", (folder / "munge.socket").exists)
        self._daemon(stack, "slurmctld", *self.hosts.words(first, "slurmctld", "-D", "-c", "-f", str(self.config)))
        for name in names:
            (folder / f"spool-{name}").mkdir()
            self._give_place(name)
            self._daemon(stack, "slurmd", *self.hosts.words(name, "slurmd", "-D", "-f", str(self.config), "-N", name))
        self._wait("Slurm", lambda: self.tried("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * count)

    def _give_place(self, name: str) -> None:
        """Mount a folder for PMIx's sockets on a host, because all hosts share the machine's folder."""
        parent = str(Path(LOCAL).parent)
        self.hosts.run(name, "mount", "-t", "tmpfs", "tmpfs", parent)
        self.hosts.run(name, "mkdir", LOCAL)

    def _daemon(self, stack: contextlib.ExitStack, name: str, *words: str) -> None:
        environment = os.environ | {"SLURM_CONF": str(self._folder / "slurm.conf")}
        with (self._folder / f"{name}.out").open("ab") as out:
            daemon = ProcessTree(*words, env=environment, stdout=out, stderr=out, preexec_fn=die_with_parent)
        self._daemons.append(stack.enter_context(daemon))

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT
        while not ready():
            if time.monotonic() > until or any(daemon.process.poll() is not None for daemon in self._daemons):
                logs = "".join(path.read_text()[-2000:] for path in sorted(self._folder.glob("*.[lo]*")))
                raise RuntimeError(f"{what} does not start: {logs}")
            time.sleep(0.05)

    # --- its commands -----------------------------------------------------------------------------------

    def words(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the first node, with this Slurm configured.

        Jobs get its environment, and would end with its process tree if they had the mark of that.
        """
        known = ["env", f"--unset={MARK}", f"SLURM_CONF={self.config}", *command]
        return self.hosts.words(self.hosts.names[0], *known, folder=str(Path.cwd()))

    def tried(self, *command: str) -> str:
        """Run a command and return its output, or "" if it fails."""
        return run(*self.words(*command)).out

    def run(self, *command: str) -> str:
        """Run a command and return its output."""
        return output_of(*self.words(*command))

    def state(self, job: str) -> dict[str, str]:
        """Return the state of a job by name, such as JobState and Restarts; {} once Slurm has forgotten it."""
        told = self.tried("scontrol", "show", "job", job)
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def until(self, job: str, states: tuple[str, ...], seconds: float) -> dict[str, str]:
        """Wait until a job is in one of some states, such as RUNNING; raise RuntimeError after a limit."""
        end = time.monotonic() + seconds
        while (state := self.state(job)).get("JobState") not in states:
            if time.monotonic() > end:
                raise RuntimeError(f"job {job} is not {' or '.join(states)} after {seconds:g} s: {state}")
            time.sleep(0.2)
        return state


def main() -> int:
    """Start Slurm, run a command, and end Slurm."""
    border = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    counts, words = sys.argv[1:border], sys.argv[border + 1 :]
    if len(counts) != 1 or not counts[0].isdecimal() or not words:
        sys.stderr.write((__doc__ or "") + "\nusage: slurm.py NODES -- COMMAND ...\n")
        return 2
    if reason := why_not():
        sys.stderr.write(f"slurm.py: {reason}\n")
        return 2
    with Slurm(int(counts[0])) as slurm:
        return run_here(*slurm.words(*words))


if __name__ == "__main__":
    sys.exit(main())
