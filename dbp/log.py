"""What a rank tells of a run, line by line in the run's folder: logs/rank-N.log, made when there is a line to write.

Lines wait until it is known that the run may begin, so that one that is refused writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

LOGS = "logs"


class RunLog:
    """The log of this rank. Several threads may tell it something."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waiting: list[str] | None = None  # lines of a run that is to begin; None if there is none
        self._path: Path | None = None
        self._who, self._file = "", -1
        self._told = False  # that it cannot be written

    def start(self, folder: bool) -> None:
        """A run is to begin: if it has a folder, its lines are kept until open() or close()."""
        self.close()
        self._waiting = [] if folder else None

    def open(self, folder: Path, rank: int, ranks: int, process: Mapping[str, object]) -> None:
        """The run begins: what has been told, and what will be, goes to a file.

        Args:
            folder: of the run.
            rank: this one.
            ranks: how many there are.
            process: which this is, for the first line of a start.
        """
        who = f"rank {rank} of {ranks}, {', '.join(f'{name} {value}' for name, value in process.items())}"
        with self._turn:
            self._path, self._who, self._told = folder / LOGS / f"rank-{rank}.log", who, False
            lines, self._waiting = self._waiting or [], None
            for line in lines:
                self._write(line)

    def tell(self, text: str) -> None:
        """Keep a line, or several, with the time; nothing if there is no run. Never fails."""
        line = f"{now()} {text}\n"
        with self._turn:
            if self._waiting is not None:
                self._waiting.append(line)
            elif self._path is not None:
                self._write(line)

    def close(self) -> None:
        """What is told from now on is of no run."""
        with self._turn:
            self._waiting = self._path = None
            self._close()

    def _write(self, line: str) -> None:
        assert self._path is not None
        try:
            if self._file < 0:
                line = self._opened() + line
            os.write(self._file, line.encode(errors="replace"))
        except OSError as error:
            self._close()  # the next line tries again
            if not self._told:
                self._told = True
                sys.stderr.write(f"warning: {self._path} cannot be written: {error.strerror} (errno {error.errno})\n")
                sys.stderr.flush()

    def _opened(self) -> str:
        """The first line of a start in the file, which is made if need be, but no folder above that of all logs."""
        assert self._path is not None
        with contextlib.suppress(FileExistsError):
            self._path.parent.mkdir()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        again = " again" if os.fstat(self._file).st_size else ""
        return f"{now()} --- started{again}: {self._who}\n"

    def _close(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = -1


def now() -> str:
    """The time, as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


run_log = RunLog()
