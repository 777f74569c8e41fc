"""The output of a command, and the terminal that shows the output of a rank, through the launchers between them."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO

from dbp.files import writing_to

# Environment variable of `dbp run`, which passes on the errors of its ranks: the path of its terminal, or empty.
TERMINAL = "DBP_TERMINAL"

LAUNCHERS = ("mpirun", "mpiexec", "prterun", "orterun", "mpiexec.hydra", "srun")


def open_missing_streams() -> None:
    """Open what was closed of input, output and error output, as after `>&-`: to nowhere.

    Else the next file would take its number, and what is printed would go into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def write_line(stream: TextIO | None, text: str) -> None:
    """Write lines to a stream that may be gone, which never ends a rank: its reader has ended, its disk is full."""
    try:
        if stream is not None:
            stream.write(f"{text}\n")
            stream.flush()
    except (OSError, ValueError):
        atexit.unregister(_discard_unless_written)  # once, however often this happens
        atexit.register(_discard_unless_written)


def write_error(text: str) -> None:
    """Write lines to stderr, as write_line()."""
    write_line(sys.stderr, text)


def flush_streams() -> None:
    """Write out what stdout and stderr hold, where they still are."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _discard_unless_written() -> None:
    """Send nowhere what a stream still holds; else Python fails on it once more at its end, with a code of its own."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or without a descriptor
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_output(text: str) -> None:
    """Print lines of text to stdout.

    Raises:
        StorageError: stdout goes to a file whose disk is full.
        BrokenPipeError: what reads stdout, such as head, has ended.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        _discard_unless_written()
        if isinstance(error, BrokenPipeError):
            raise
        with writing_to("the standard output"):
            raise


def _launchers_output(descriptor: int) -> str | None:
    """Return the path that the launcher of this rank writes to; None without a launcher (Linux)."""
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
    """Return the path of the terminal that shows a stream; None if the stream ends elsewhere.

    The stream of a rank cannot be asked: it is a pipe, or a pseudo-terminal that may lead into a file.
    """
    try:
        descriptor = stream.fileno()
    except OSError:  # the stream of a notebook has no descriptor
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
    except OSError:  # it belongs to another machine or container
        return None


def width_of(terminal: TextIO) -> int:
    """Return the number of columns of a terminal, 80 if it is unknown."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80
