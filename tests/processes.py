"""Processes that tests and benchmarks start: every wait has a limit, and nothing of them is left.

A process tree is marked: its first process gets a token in an environment variable, which all that it starts inherit.
At the end of the tree all processes that carry the token are killed, and all descendants of those: whatever process
group, session or namespace they are in, and whoever their parent is by then. What a tree prints goes to files, as who
reads a pipe waits for all processes that hold its other end.

Benchmarks use this too, as they use emulated hosts and fault injection; so it needs the standard library alone.
Started as a program, with a token, it ends that tree as soon as its standard input is closed: see guard().
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

MARK = "DBP_TEST_TREES"  # the variable with the tokens of all trees that a process is in
ENDED = (b"Z", b"X")  # states of processes in /proc: a zombie, dead
LIMIT = 120.0  # seconds for a command or a wait; only what hangs meets it, even on a machine that is five times slower
GONE_SECONDS = 30.0  # in which a killed process is gone, unless it hangs in the kernel


class TimeLimitError(Exception):
    """A process tree did not end in time, and has been ended.

    Args:
        seconds: the limit.
        command: of the first process.
        output: what the tree printed.
    """

    def __init__(self, seconds: float, command: Sequence[object], output: str):
        super().__init__(f"no end within {seconds:g} s: {' '.join(map(str, command))}\n{output}")
        self.output = output


@dataclass(frozen=True)
class Outcome:
    """How a process ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both outputs."""
        return self.out + self.err


def run(*command: object, timeout: float = LIMIT, cwd: object = None, env: Mapping[str, str] | None = None) -> Outcome:
    """Run a command until it and all that it starts have ended; raise TimeLimitError if they have not in time."""
    with ProcessTree(*command, cwd=cwd, env=env) as tree:
        ends = time.monotonic() + timeout
        code = tree.wait(timeout)
        if not wait_until(lambda: not tree.processes(), ends - time.monotonic()):
            raise TimeLimitError(timeout, command, tree.out + tree.err)
        return Outcome(code, tree.out, tree.err)


def output_of(
    *command: object, timeout: float = LIMIT, cwd: object = None, env: Mapping[str, str] | None = None
) -> str:
    """Return what a command prints; raise RuntimeError if it fails."""
    outcome = run(*command, timeout=timeout, cwd=cwd, env=env)
    if outcome.code != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {outcome.code}: {outcome.text[-2000:]}")
    return outcome.out


def run_on_terminal(*command: object, timeout: float = LIMIT, env: Mapping[str, str] | None = None) -> Outcome:
    """Run a command on a terminal that it has to itself; raise TimeLimitError if it has not left it in time."""
    ours, its = pty.openpty()
    shown, ends = b"", time.monotonic() + timeout
    try:
        with ProcessTree(*command, env=env, stdin=its, stdout=its, stderr=its) as tree:
            os.close(its)
            with contextlib.suppress(OSError):  # raised when the last process on the terminal has left
                while select.select([ours], [], [], max(0.0, ends - time.monotonic()))[0]:
                    shown += os.read(ours, 65536)
            try:
                return Outcome(tree.wait(ends - time.monotonic()), shown.decode(), "")
            except TimeLimitError:
                raise TimeLimitError(timeout, command, shown.decode(errors="replace")) from None
    finally:
        os.close(ours)


def run_here(*command: object, env: Mapping[str, str] | None = None) -> int:
    """Run a command with the inputs and outputs of this process, for a user; return its exit code."""
    here = dict.fromkeys(("stdin", "stdout", "stderr"))
    with ProcessTree(*command, env=env, start_new_session=False, **here) as tree:
        return tree.process.wait()


def wait_until(condition: Callable[[], object], seconds: float = LIMIT) -> bool:
    """Wait until a condition holds; return False if it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.01)
    return True


class ProcessTree:
    """A process and all that it starts, in a with statement at whose end nothing of it is left.

    An exception that leaves the statement gets a note of what the tree has printed, as that may tell the cause.

    Args:
        command: words, each of which is made a string.
        env: the whole environment; by default that of this process.
        options: of subprocess.Popen. By default there is no input, and outputs go to files that out and err show.
    """

    def __init__(self, *command: object, env: Mapping[str, str] | None = None, **options: Any):
        self.token, self._command = uuid.uuid4().hex, command
        self._files: dict[str, IO[bytes]] = {}
        self._printed: dict[str, str] = {}  # when the files are closed
        for name in ("stdout", "stderr"):
            if name not in options:
                self._files[name] = options[name] = tempfile.TemporaryFile()  # noqa: SIM115  closed at the end
        defaults = {"stdin": subprocess.DEVNULL, "start_new_session": True}
        environment = marked(os.environ if env is None else env, self.token)
        self.process = subprocess.Popen([str(word) for word in command], env=environment, **(defaults | options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.end()
        finally:
            self._printed = {name: self._text(name) for name in self._files}
            for file in self._files.values():
                file.close()
        # A TimeLimitError has it already.
        if error is not None and not isinstance(error, TimeLimitError) and self._files:
            error.add_note(f"{' '.join(map(str, self._command))} has printed:\n{self.out}{self.err}")

    @property
    def out(self) -> str:
        """Return what it has written to stdout so far."""
        return self._text("stdout")

    @property
    def err(self) -> str:
        """Return what it has written to stderr so far."""
        return self._text("stderr")

    def _text(self, name: str) -> str:
        if name in self._printed or name not in self._files:
            return self._printed.get(name, "")
        file = self._files[name].fileno()
        printed = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return printed.replace("\r\n", "\n").replace("\r", "\n")

    def processes(self) -> dict[int, bytes]:
        """Return its processes that still run, with their environments."""
        return members(self.token)

    def rank(self, number: int) -> int | None:
        """Return the process of a rank that Open MPI started; None before its start and after its end."""
        wanted = f"\0OMPI_COMM_WORLD_RANK={number}\0".encode()
        return next((pid for pid, environment in self.processes().items() if wanted in b"\0" + environment), None)

    def ranks(self) -> list[int]:
        """Return the processes of all ranks that Open MPI started."""
        return [pid for pid, environment in self.processes().items() if b"\0OMPI_COMM_WORLD_RANK=" in environment]

    def wait(self, seconds: float = LIMIT) -> int:
        """Wait for the end of the first process and return its exit code; raise TimeLimitError."""
        if self.process.poll() is None:
            file = os.pidfd_open(self.process.pid)  # tells it at once; Popen.wait() looks every 50 ms
            select.select([file], [], [], max(0.0, seconds))
            os.close(file)
        code = self.process.poll()
        if code is None:
            raise TimeLimitError(seconds, self._command, self.out + self.err)
        return code

    def end(self) -> None:
        """Kill what still runs of it."""
        kill_all(self.token)
        self.process.wait(GONE_SECONDS)


def marked(environment: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the environment of a process that is in one more tree."""
    return {**environment, MARK: ":".join(filter(None, [environment.get(MARK), token]))}


def members(token: str) -> dict[int, bytes]:
    """Return the environments of the running processes that carry a token, and of all their descendants."""
    parents, environments, seen = {}, {}, set[int]()
    while (
        new := {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()} - seen
    ):  # started meanwhile
        seen |= new
        for pid in new:
            with contextlib.suppress(OSError):  # it has just ended
                state, parents[pid] = _state(pid)
                environments[pid] = b"" if state in ENDED else Path(f"/proc/{pid}/environ").read_bytes()
    found = {pid for pid, environment in environments.items() if token.encode() in environment}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: environments.get(pid, b"") for pid in found if is_running(pid)}


def _state(pid: int) -> tuple[bytes, int]:
    """Return the state of a process, and its parent."""
    state, parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:2]
    return state, int(parent)


def is_running(pid: int) -> bool:
    """Return True if a process has not ended."""
    with contextlib.suppress(OSError):
        return _state(pid)[0] not in ENDED
    return False


def kill_all(token: str) -> None:
    """Kill the processes that carry a token and all their descendants, until there are none."""
    ends, left = time.monotonic() + GONE_SECONDS, set[int]()
    while left := {pid for pid in left | members(token).keys() if is_running(pid)}:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > ends:
            raise RuntimeError(f"processes {sorted(left)} have been killed, but do not end")
        time.sleep(0.005)


@contextlib.contextmanager
def guard(token: str) -> Iterator[None]:
    """Have the processes that carry a token killed at the end of the with statement, or when this process dies."""
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    guardian = subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, token],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guardian.communicate(timeout=2 * GONE_SECONDS)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    kill_all(sys.argv[1])
