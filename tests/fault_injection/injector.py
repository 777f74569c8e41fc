"""Failing file system calls in any program: faults.c, compiled and loaded before the C library."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import output_of

SOURCE = Path(__file__).with_name("faults.c")
KILL, FAIL, SHORT, DELAY = 1, 2, 3, 4  # as in faults.c
READING, CHANGING, SYNCING, MOVING = 1, 2, 4, 8
WRITING = CHANGING | SYNCING
ALWAYS = 0  # as a count of calls


@dataclass(frozen=True)
class Fault:
    """A fault that file calls meet.

    Args:
        name: for the user.
        what: of the numbers above.
        number: errno, or milliseconds of a delay.
        calls: which count.
    """

    name: str
    what: int
    number: int
    calls: int

    def from_call(self, at: int, count: int = 1) -> tuple[int, int, int, int, int]:
        """Return the numbers for faults.c that make so many calls fail, from one on."""
        return self.what, self.number, at, count, self.calls


FAULTS = {
    "SIGKILL": Fault("SIGKILL", KILL, 0, READING | WRITING),
    "ENOSPC": Fault("ENOSPC", FAIL, errno.ENOSPC, WRITING),
    "EDQUOT": Fault("EDQUOT", FAIL, errno.EDQUOT, WRITING),
    "EIO": Fault("EIO", FAIL, errno.EIO, READING | WRITING),
    "ESTALE": Fault("ESTALE", FAIL, errno.ESTALE, READING | WRITING),
    "short": Fault("short", SHORT, 0, MOVING),
}


@functools.cache
def library() -> Path:
    """Compile the library into a folder that is removed when this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="faults-")
    library.folder = folder  # type: ignore[attr-defined]  # kept as long as this process lives
    out = Path(folder.name) / "faults.so"
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    output_of(compiler, "-shared", "-fPIC", "-O1", "-o", out, SOURCE, "-ldl")
    return out


@functools.cache
def why_not() -> str | None:
    """Return the reason why this machine cannot make calls fail; None if it can."""
    try:
        library()
    except FileNotFoundError:
        return "there is no C compiler; install gcc and libc6-dev"
    except RuntimeError as error:
        return f"faults.c does not compile here: {str(error)[:300]}"
    return None


def environment(
    folder: Path, fault: Fault | None = None, at: int = 1, count: int = 1, log: Path | None = None
) -> dict[str, str]:
    """Return the variables of a program whose file calls beneath a folder meet a fault, from one call on."""
    words = fault.from_call(at, count) if fault else (0, 0, 0, 0, 0)
    order = ":".join(map(str, (folder, *words)))
    return {"LD_PRELOAD": str(library()), "BREAK": order} | ({"BREAK_LOG": str(log)} if log else {})


class Calls:
    """The library loaded into this process, which was started with environment()."""

    def __init__(self, folder: Path):
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._library.fired.restype = ctypes.c_long
        self._arm = self._library.arm
        self._arm.argtypes = [ctypes.c_int, *[ctypes.c_long] * 4]
        self._library.within(os.fsencode(folder))

    def arm(self, fault: Fault, at: int, count: int) -> None:
        """Count calls from now on, and let them meet the fault."""
        self._arm(*fault.from_call(at, count))

    def disarm(self) -> int:
        """Let no more calls meet the fault; return how many did."""
        met = int(self._library.fired())
        self._arm(0, 0, 0, 0, 0)
        return met


def calls_in(log: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (number, call, path) for each call of a log; calls elsewhere have number 0."""
    for line in log.read_text(errors="replace").splitlines():
        number, call, path = line.split(" ", 2)
        yield int(number), call, path
