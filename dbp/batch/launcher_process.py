"""Run a launcher: forward signals to it, pass on its error output, and leave nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, BinaryIO

from dbp.batch.launcher_output import WithoutBanners, copy
from dbp.errors import ENDED, INTERRUPTED, NOT_FINISHED, UserError
from dbp.parallel.machine.shared_memory import SEGMENT_FOLDER
from dbp.process.launcher import RANKS
from dbp.process.note import ProcessNote
from dbp.process_tree import ends_with_parent
from dbp.saving.stopping import INTERRUPTED_TWICE, LAUNCHER_SIGNAL, RESUMES, SIGNALS
from dbp.terminal import terminal_of, write_error

NOT_STARTED = 213  # the exit code of Open MPI's launcher if it could not start itself, as on a busy machine
RESTART_SECONDS = 2.0  # before such a launcher is started once more
# What that launcher says of a rank that a signal has ended: rank, host, number and name of the signal.
SIGNALED_RANK = re.compile(r"process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+) \(([^)]+)\)")
START_SECONDS, RETRY_SECONDS = 20.0, 0.1  # a signal waits so long for ranks that may all be on other machines
# Files that a launcher has open, measured with Open MPI 5 (22 and 3), with a reserve; with too few it may never end.
FILES, FILES_OF_RANK = 44, 5


def run_until_all_died(command: list[str], environment: dict[str, str], vendor: str) -> int:
    """Run a launcher that lets ranks die, like run_launcher(), and return NOT_FINISHED if all of them died.

    Such a launcher returns 0 even then. So each rank that is not killed leaves a file at its end.
    """
    with tempfile.TemporaryDirectory(prefix="dbp-") as folder:
        ended = Path(folder) / "ended"
        code = run_launcher(command, environment | {ENDED: str(ended)}, vendor)
        if code == 0 and not ended.exists():
            write_error(f"dbp: all ranks have died; {RESUMES}")
            return NOT_FINISHED
        return code


def run_launcher(command: list[str], environment: dict[str, str], vendor: str | None) -> int:
    """Run a launcher and return its exit code; forward signals to it, and its error output to ours.

    Args:
        command: of the launcher, or of a program alone.
        environment: of the launcher.
        vendor: name of its MPI. That of Open MPI is run once more if it could not start itself; None for no launcher.
    """
    signals = ForwardedSignals()
    code, errors = _run(command, environment, signals)
    if _could_not_start(vendor, code, errors) and not signals.received:
        write_error(f"dbp: {Path(command[0]).name} could not start itself (exit code {code}), and is started once more")
        if not signals.come_within(RESTART_SECONDS):
            code, errors = _run(command, environment, signals)
    signals.end()
    if code not in (0, NOT_FINISHED) and not signals.received:
        _explain(code, errors)
    if signal.SIGINT in signals.received and code not in (0, NOT_FINISHED):
        if signals.received.count(signal.SIGINT) > 1:
            write_error(f"\n{INTERRUPTED_TWICE}")
        elif code != INTERRUPTED:  # else the ranks have said it
            write_error("\ndbp: interrupted")
        return INTERRUPTED
    code = 128 - code if code < 0 else code
    # The signal came before launcher or ranks had a handler.
    if signals.received and (code == 128 + signal.SIGUSR1 or _could_not_start(vendor, code, errors)):
        return 128 + signals.received[0]
    return code


def _run(command: list[str], environment: dict[str, str], signals: ForwardedSignals) -> tuple[int, WithoutBanners]:
    """Run a launcher; return its exit code, negative for a signal, and what is known of its error output."""
    # It gets a process group of its own: the terminal would interrupt it, and it would leave ranks no time to save.
    stdin = subprocess.DEVNULL if sys.stdin is not None and sys.stdin.isatty() else None
    process = subprocess.Popen(
        command,
        env=environment | {LAUNCHER_SIGNAL: signals.note.path},
        stdin=stdin,
        stdout=None if terminal_of(sys.stdout) else subprocess.PIPE,  # ranks look for the terminal that it is
        stderr=subprocess.PIPE,
        process_group=0,
        preexec_fn=ends_with_parent(signal.SIGTERM, os.getpid()),  # at which a launcher ends its ranks
    )
    signals.send_to(process)
    assert process.stderr is not None
    errors = WithoutBanners(sys.stderr.buffer)
    with _copied(process.stdout, sys.stdout.buffer):
        errors.copy(process.stderr.fileno())
        process.stderr.close()
    return process.wait(), errors


def _could_not_start(vendor: str | None, code: int, errors: WithoutBanners) -> bool:
    """Return True if Open MPI's launcher could not start itself; a banner says that a rank has ended with its code.

    Args:
        vendor: name of the launcher's MPI.
        code: its exit code.
        errors: what ranks and launcher have said.
    """
    return vendor == "Open MPI" and code == NOT_STARTED and not errors.banners


def _explain(code: int, errors: WithoutBanners) -> None:
    """Print what is known of a job that has failed: which rank a signal has ended, or that no rank has said why.

    Args:
        code: exit code of the launcher.
        errors: what ranks and launcher have said.
    """
    if found := SIGNALED_RANK.search(" ".join(errors.banners.decode(errors="replace").split())):
        rank, host, number, name = found.groups()
        cause = ", perhaps as memory was short" if int(number) == signal.SIGKILL else ""
        write_error(f"dbp: error: rank {rank} on {host} was ended by signal {number} ({name}){cause}; {RESUMES}")
    elif errors.is_empty:
        if errors.banners:
            write_error(errors.banners.decode(errors="replace").rstrip())
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        write_error(f"dbp: error: the job {how}, and no rank has said why")


@contextlib.contextmanager
def _copied(source: IO[bytes] | None, target: BinaryIO) -> Iterator[None]:
    """Copy a stream of the launcher meanwhile, and to its end; nothing if it has none.

    An exception does not wait for that end: the launcher ends when this process has ended.
    """
    if source is None:
        yield
        return
    thread = threading.Thread(target=copy, args=(source.fileno(), target), daemon=True)
    thread.start()
    yield
    thread.join()
    source.close()


class ForwardedSignals:
    """The signals that this process gets from now on, for a launcher that is started later.

    A launcher forgets a signal for its ranks if it has not started any. So a signal waits until there is one.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.note = ProcessNote("dbp signal")  # tells ranks which one it was
        self._pending: list[int] = []
        self._delivers = False
        self._process: subprocess.Popen[bytes] | None = None
        self._since = time.monotonic()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has SIGHUP ignored
                signal.signal(number, self._receive)
        signal.signal(signal.SIGALRM, self._deliver)

    def come_within(self, seconds: float) -> bool:
        """Wait for some seconds, or until a signal has come; return True if one has."""
        ends = time.monotonic() + seconds
        while not self.received and time.monotonic() < ends:
            time.sleep(RETRY_SECONDS)
        return bool(self.received)

    def send_to(self, process: subprocess.Popen[bytes]) -> None:
        """Send signals to a launcher, those that have come before too."""
        self._process = process
        self._deliver()

    def end(self) -> None:
        """Deliver no more signals: an alarm that came when Python has dropped its handlers would end this process."""
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        self.note.write(str(int(number)))
        self._pending.append(_forwarded(number, self.received.count(signal.SIGINT)))
        self._deliver()

    def _deliver(self, *_signal: object) -> None:
        """Send what is pending if it will reach the ranks, or try again in a moment.

        A signal may come while another one is delivered here, as handlers may interrupt each other: it waits as well.
        """
        if self._delivers:
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
            return
        self._delivers = True
        try:
            self._send_pending()
        finally:
            self._delivers = False

    def _send_pending(self) -> None:
        process, is_late = self._process, time.monotonic() - self._since > START_SECONDS
        while self._pending:
            number = self._pending.pop()
            if process is None or not (number != signal.SIGUSR1 or is_late or _has_rank(process.pid)):
                self._pending.append(number)
                signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
                return
            process.send_signal(number)


def _has_rank(launcher: int) -> bool:
    """Return True if a launcher has started a rank on this machine, or if the system does not tell."""
    processes = [launcher]
    for process in processes:
        folder = Path(f"/proc/{process}")
        try:
            children = [word for path in folder.glob("task/*/children") for word in path.read_text().split()]
            names = {entry.partition(b"=")[0].decode() for entry in (folder / "environ").read_bytes().split(b"\0")}
        except OSError:  # it has just ended
            continue
        if process != launcher and names & set(RANKS):
            return True
        processes += map(int, children)
    return not Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _forwarded(number: int, interrupts: int) -> int:
    """Return the signal for the launcher when this process gets one.

    It is SIGUSR1, which every launcher forwards to the ranks, and which asks a training to save and stop. The second
    interrupt ends the ranks at once, the third kills the launcher.

    Args:
        number: the signal that this process got.
        interrupts: how many interrupts it has got by now.
    """
    if number == signal.SIGINT and interrupts > 1:
        return signal.SIGTERM if interrupts == 2 else signal.SIGKILL
    return signal.SIGUSR1


def allow_files(ranks: int) -> None:
    """Raise this process's limit on open files, if it is too low for a launcher that starts so many ranks here.

    Raises:
        UserError: the system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES + FILES_OF_RANK * ranks
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UserError(
            f"a launcher of {ranks} ranks needs up to {needed} open files, but the limit is {hard}; raise it "
            "(ulimit -n), or start fewer ranks"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextlib.contextmanager
def segment_folder(parent: Path, vendor: str) -> Iterator[str]:
    """Yield a new folder for the files through which ranks share memory, and remove it at the end with all in it.

    Ranks of dbp remove the names of these files as soon as they have mapped them; other programs leave them if they are
    killed, 16 MB each. Yield "" for an MPI library that takes no folder, or where none can be made.
    """
    if vendor != "Open MPI":
        yield ""
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix=SEGMENT_FOLDER, dir=parent, ignore_cleanup_errors=True)
    except OSError:
        yield ""
        return
    with folder as path:
        yield path
