"""The terminal on which a rank's output ends, through launchers that stand between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

# Set by `dbp run`, through which its ranks' errors go: the path of the terminal on which they end, or nothing.
TERMINAL = "DBP_TERMINAL"


LAUNCHERS = ("mpirun", "mpiexec", "prterun", "orterun", "mpiexec.hydra", "srun")


def _launchers_output(descriptor: int) -> str | None:
    """Where the launcher of this rank writes to, as a path; None without a launcher (Linux)."""
    process = os.getppid()
    try:
        while process > 1:
            folder = Path(f"/proc/{process}")
            if (folder / "comm").read_text().strip() in LAUNCHERS:
                return (folder / "fd" / str(descriptor)).readlink().as_posix()
            process = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def terminal_of(stream: TextIO) -> str | None:
    """The terminal on which a stream ends, as a path; None if it ends elsewhere.

    A rank cannot ask its own stream, which is a pipe or a pseudo-terminal that may lead into a file.
    """
    try:
        descriptor = stream.fileno()
    except OSError:  # a notebook's
        return None
    if descriptor == 2 and TERMINAL in os.environ:
        return os.environ[TERMINAL] or None
    path = _launchers_output(descriptor)
    if path is None and stream.isatty():
        path = os.ttyname(descriptor)
    return path if path is not None and path.startswith(("/dev/pts/", "/dev/tty")) else None


def open_terminal(path: str | None) -> TextIO | None:
    """Open a terminal for writing; return None without a path, or where it cannot be opened."""
    try:
        return None if path is None else Path(path).open("w")
    except OSError:  # that of another machine or container
        return None


def width_of(terminal: TextIO) -> int:
    """Return the columns of a terminal, 80 if it does not tell."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80
