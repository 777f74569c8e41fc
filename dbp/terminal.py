"""The output of a command, and the terminal that shows the output of a rank, through the launchers between them."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from pathlib import Path
from typing import IO, Any, TextIO

from dbp.files import writing_to
from dbp.process_tree import LAUNCHERS, name_of, parent_of
from dbp.text import lines_of, printable

# Environment variable of `dbp run`, which passes on the errors of its ranks: the path of its terminal, or empty.
TERMINAL = "DBP_TERMINAL"


def open_closed_streams() -> None:
    """Open the standard streams that this process was started without, on nothing; else other files take their place.

    What it starts inherits them, and would print into those files.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # has the lowest number that is free: this one
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))


def write_line(stream: TextIO | None, text: str, columns: int | None = None) -> None:
    """Write lines to a stream that may be gone, which never ends a rank: its reader has ended, its disk is full.

    Args:
        stream: to write to; None for none.
        text: the lines.
        columns: of the terminal that shows the stream, if one does; a line that is longer becomes several.
    """
    try:
        if stream is not None:
            shown = encodable(text, stream)
            stream.write(f"{shown if columns is None else lines_of(shown, columns)}\n")
            stream.flush()
    except (OSError, ValueError):
        atexit.unregister(discard_unwritten)  # once, however often this happens
        atexit.register(discard_unwritten)


def encodable(text: str, stream: TextIO, *, colored: bool = False) -> str:
    """Return a text with escapes for what the encoding of a stream lacks, and for control characters if not colored."""
    encoding = stream.encoding or "utf-8"
    return (text if colored else printable(text)).encode(encoding, "backslashreplace").decode(encoding)


def write_error(text: str) -> None:
    """Write lines to stderr, as write_line()."""
    write_line(sys.stderr, text, columns_of(sys.stderr))


def flush_streams() -> None:
    """Write out what stdout and stderr hold, where they still are."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def discard_unwritten() -> None:
    """Send nowhere what a stream still holds; else Python fails on it once more at its end, with a code of its own."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or without a descriptor
            try:
                stream.flush()
            except OSError:
                discard(stream)


def discard(stream: IO[Any]) -> None:
    """Send what a stream still holds, and all that follows, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_output(text: str, *, colored: bool = False, wrapped: bool = False) -> None:
    """Print lines of text to stdout.

    Args:
        text: the lines.
        colored: whether they hold escape sequences for colors, beside parts that are printable() already.
        wrapped: whether a line that is longer than the terminal is wide becomes several; never where there is none.

    Raises:
        StorageError: stdout goes to a file whose disk is full.
        BrokenPipeError: what reads stdout, such as head, has ended.
    """
    columns = columns_of(sys.stdout) if wrapped else None
    if columns is not None:
        text = "\n".join(lines_of(line, columns) for line in text.split("\n"))
    try:
        sys.stdout.write(f"{encodable(text, sys.stdout, colored=colored)}\n")
        sys.stdout.flush()
    except OSError as error:
        discard_unwritten()
        if isinstance(error, BrokenPipeError):
            raise
        with writing_to("the standard output"):
            raise


def _launchers_output(descriptor: int) -> str | None:
    """Return the path that the launcher of this rank writes to; None without a launcher (Linux)."""
    process = os.getppid()
    try:
        while process > 1:
            if name_of(process) in LAUNCHERS:
                return Path(f"/proc/{process}/fd/{descriptor}").readlink().as_posix()
            process = parent_of(process)
    except (OSError, ValueError, IndexError):
        pass
    return None


def terminal_of(stream: TextIO | None) -> str | None:
    """Return the path of the terminal that shows a stream; None if the stream ends elsewhere.

    The stream of a rank cannot be asked: it is a pipe, or a pseudo-terminal that may lead into a file.
    """
    try:
        descriptor = stream.fileno()  # type: ignore[union-attr]
    except (OSError, ValueError, AttributeError):  # the stream of a notebook has no descriptor; others are closed
        return None
    if descriptor == 2 and TERMINAL in os.environ:
        return os.environ[TERMINAL] or None
    path = _launchers_output(descriptor)
    if path is None and os.isatty(descriptor):
        path = os.ttyname(descriptor)
    return path if path is not None and path.startswith(("/dev/pts/", "/dev/tty")) else None


def open_terminal(path: str | None) -> TextIO | None:
    """Open a terminal for writing; return None without a path, or where it cannot be opened."""
    try:
        return None if path is None else Path(path).open("w")
    except OSError:  # it belongs to another machine or container
        return None


def columns_of(stream: TextIO | None) -> int | None:
    """Return the columns of the terminal that shows a stream; None if the stream ends elsewhere."""
    terminal = open_terminal(terminal_of(stream))
    if terminal is None:
        return None
    with terminal:
        return width_of(terminal)


def width_of(terminal: TextIO) -> int:
    """Return the number of columns of a terminal, 80 if it is unknown."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80
