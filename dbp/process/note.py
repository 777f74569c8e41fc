"""A note of this process: a few bytes that other processes of its user on the same machine can read.

It is an anonymous file that the others find under /proc. So it needs no name, is gone with the process, however that
ends, and is there before MPI has started. Systems without such files have no notes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 256
MARK = b"1"


class ProcessNote:
    """The note; its text is replaced by each write().

    Args:
        title: by which others recognize it.
    """

    def __init__(self, title: str):
        self.title, self._file = title, -1
        if hasattr(os, "memfd_create"):
            with contextlib.suppress(OSError):
                self._file = os.memfd_create(title)

    @property
    def path(self) -> str:
        """Return the path at which others can read it; "" if there is none."""
        return f"/proc/{os.getpid()}/fd/{self._file}" if self._file >= 0 else ""

    def write(self, text: str) -> None:
        """Replace its text, which must be ASCII and shorter than MOST_BYTES."""
        if self._file >= 0:
            os.pwrite(self._file, text.ljust(MOST_BYTES).encode(), 0)


def read_note(path: str) -> str:
    """Return the text of the note at a path; "" if there is none."""
    try:
        if not _title(path):
            return ""
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.read(file, MOST_BYTES).decode().rstrip()
        finally:
            os.close(file)
    except (OSError, ValueError):  # its process has ended, belongs to another user or runs on another machine
        return ""


def mark(path: str, title: str, number: int) -> None:
    """Mark a number in the note at a path, if that has this title: another process collects marks in it."""
    with contextlib.suppress(OSError):
        if _title(path) == title:
            file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                os.pwrite(file, MARK, number)
            finally:
                os.close(file)


def marks(path: str, title: str) -> list[int]:
    """Return the numbers that are marked in the note at a path; none if that has another title."""
    with contextlib.suppress(OSError):
        if _title(path) == title:
            return [number for number, byte in enumerate(Path(path).read_bytes()) if byte == MARK[0]]
    return []


def notes(title: str) -> Iterator[str]:
    """Yield the texts of all notes with a title, in no order."""
    with contextlib.suppress(OSError):  # there is no /proc
        for process in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208  a path object each would take ten times as long
            with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                for number in os.listdir(f"/proc/{process}/fd"):  # noqa: PTH208
                    if _title(path := f"/proc/{process}/fd/{number}") == title:
                        yield read_note(path)


def _title(path: str) -> str:
    """Return the title of the note at a path; "" if there is none."""
    try:
        target = os.readlink(path)  # noqa: PTH115  Path takes ten times as long
    except OSError:
        return ""
    return target.removeprefix("/memfd:").removesuffix(" (deleted)") if target.startswith("/memfd:") else ""
