"""The lock of a run's folder: a file in it that one process holds for as long as it lives."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import TextIO

from dbp.errors import UserError
from dbp.files import writing_to
from dbp.plain_files import open_plain, read_plain
from dbp.run.provenance import process
from dbp.text import printable

LOCK_FILE, MAX_BYTES = ".lock", 1 << 10
# A process that only checks a lock, as is_held() does, holds it for a moment: so locking is tried several times.
ATTEMPTS = 5
RETRY_SECONDS = 0.1
HELD = (errno.EWOULDBLOCK, errno.EACCES)  # errors of a lock that another process holds
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, 524)  # errors of systems without locks; 524: NFS


class FolderLock:
    """The lock of a folder.

    Args:
        folder: its path; it is made for the lock if there is none.
    """

    def __init__(self, folder: Path):
        self._folder, self._file = folder, folder / LOCK_FILE
        self._lock: TextIO | None = None
        self._made: list[Path] = []  # folders that did not exist before, the innermost first

    def lock(self) -> None:
        """Lock the folder against other runs for as long as this process lives.

        The system releases the lock when the process ends, in whatever way.

        Raises:
            UserError: another run holds the lock.
            StorageError: the folder cannot be written to.
        """
        with writing_to(self._folder, "; see --out for another folder"):
            self._made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
            self._folder.mkdir(parents=True, exist_ok=True)
        with writing_to(self._file, "; see --out for another folder"):
            while not self._is_taken():
                pass

    def is_held(self) -> bool | None:
        """Return whether a process holds the lock; None if the system does not tell. Nothing is written."""
        try:
            with os.fdopen(open_plain(self._file, os.O_RDONLY)) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False

    def error(self, unknown: str) -> UserError:
        """Return the error for a folder that another run has locked.

        Args:
            unknown: what to say if that run has not written where it runs.
        """
        where = printable(_read(self._file)) or unknown
        return UserError(
            f"folder {self._folder} belongs to a run that is still running ({where}); wait for its end, stop it, or "
            "choose another folder with --out"
        )

    def _is_taken(self) -> bool:
        """Lock the file; return False if it has been removed meanwhile, so that it must be tried again."""
        self._lock = os.fdopen(open_plain(self._file, os.O_RDWR | os.O_CREAT), "r+")
        try:
            _take(self._lock)
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:  # nothing then prevents two runs at once
                return True
            self._lock.close()
            self._lock = None
            if error.errno not in HELD:
                raise
            raise self.error("it has not written where") from None
        found = os.fstat(self._lock.fileno())
        if found.st_nlink > 1:  # as in a copy of the folder by hard links, in which it must not be written
            self._file.unlink()
        if not self._file.exists() or not os.path.samestat(found, self._file.stat()):
            self._lock.close()
            return False
        self._lock.truncate(0)
        self._lock.write(", ".join(f"{name} {value}" for name, value in process().items()))
        self._lock.flush()
        return True

    def unlock(self) -> None:
        """Release the lock, and remove the folder if it was made for it and has stayed empty."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)
                self._lock.close()
                for path in self._made:
                    path.rmdir()
            self._lock = None


def _take(file: TextIO) -> None:
    """Lock a file; raise OSError if another process holds the lock for longer than a check takes."""
    for left in reversed(range(ATTEMPTS)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno not in HELD or not left:
                raise
        time.sleep(RETRY_SECONDS)


def _read(path: Path) -> str:
    try:
        return read_plain(path, MAX_BYTES).strip()
    except OSError:
        return ""
