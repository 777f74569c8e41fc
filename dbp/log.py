"""The log of a rank, logs/rank-N.log in the folder of the run; the file is created with its first line.

Lines are buffered until the run is known to start, so that a refused run writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from dbp.plain_files import open_own
from dbp.terminal import write_error

LOGS = "logs"


class RunLog:
    """The log of this rank; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buffer: list[str] | None = None  # lines until open(); None before start() and after open()
        self._path: Path | None = None
        self._process, self._file = "", -1
        self._warned = False  # that the file cannot be written

    def start(self, folder: bool) -> None:
        """Prepare for a run: if it has a folder, buffer its lines until open() or close()."""
        self.close()
        self._buffer = [] if folder else None

    def open(self, folder: Path, rank: int, ranks: int, process: Mapping[str, object]) -> None:
        """Write the buffered lines, and all later ones, to the file.

        Args:
            folder: folder of the run.
            rank: this rank.
            ranks: number of ranks.
            process: what identifies this process, for the first line.
        """
        who = f"rank {rank} of {ranks}, {', '.join(f'{name} {value}' for name, value in process.items())}"
        with self._lock:
            self._path, self._process, self._warned = folder / LOGS / f"rank-{rank}.log", who, False
            lines, self._buffer = self._buffer or [], None
            for line in lines:
                self._append(line)

    def write(self, text: str) -> None:
        """Write one or more lines with the time; do nothing if there is no run. Never raise an error."""
        line = f"{now()} {text}\n"
        with self._lock:
            if self._buffer is not None:
                self._buffer.append(line)
            elif self._path is not None:
                self._append(line)

    def close(self) -> None:
        """End the log of the run; later lines are ignored."""
        with self._lock:
            self._buffer = self._path = None
            self._close_file()

    def _append(self, line: str) -> None:
        assert self._path is not None
        try:
            if self._file < 0:
                line = self._open_file() + line
            os.write(self._file, line.encode(errors="replace"))
        except OSError as error:
            self._close_file()  # the next line tries again
            if not self._warned:
                self._warned = True
                reason = f"{error.strerror} (errno {error.errno})" if error.errno else error
                write_error(f"warning: {self._path} cannot be written: {reason}")

    def _open_file(self) -> str:
        """Open the file and return its first line; create no folder but logs/, so that a removed run stays removed."""
        assert self._path is not None
        with contextlib.suppress(FileExistsError):
            self._path.parent.mkdir()
        self._file = open_own(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        again = " again" if os.fstat(self._file).st_size else ""
        return f"{now()} --- started{again}: {self._process}\n"

    def _close_file(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = -1


def now() -> str:
    """Return the current time in ISO format, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


run_log = RunLog()
