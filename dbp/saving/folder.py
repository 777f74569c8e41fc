"""The folder of a run: its lock, its status, its checkpoints, and the text files beside them. Rank 0 only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dbp.config.settings import Checkpoint
from dbp.errors import StorageError, UserError
from dbp.files import write_file, writing_to
from dbp.log import now
from dbp.run.provenance import process

if TYPE_CHECKING:
    from dbp.checkpoint import CheckpointFolder

STATUS, LOCK, STOP = "status.json", ".lock", "stop"
LOOKS, BETWEEN = 5, 0.1  # at a lock that is held, as who only looks holds it for a moment, and seconds between them
BEAT = 10.0  # seconds after which the status of a run that goes on is written again
HELD = (errno.EWOULDBLOCK, errno.EACCES)  # of a lock that another process has
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, 524)  # 524: of NFS, without a name


class RunFolder:
    """The files of a run.

    Args:
        path: of the folder.
        saving: which checkpoints are kept.
    """

    def __init__(self, path: Path, saving: Checkpoint):
        self.path, self._saving = path, saving
        self._lock: TextIO | None = None
        self._status: dict[str, Any] = {}
        self._beat, self._telling = 0.0, threading.Lock()

    @cached_property
    def checkpoints(self) -> CheckpointFolder:
        """Those of the run."""
        from dbp.checkpoint import CheckpointFolder, Keep

        return CheckpointFolder(self.path / "checkpoints", Keep(self._saving.keep, self._saving.keep_every))

    @property
    def stop_file(self) -> Path:
        """Whose presence asks the run to stop."""
        return self.path / STOP

    # --- the lock ---------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Keep others from running here, for as long as this process lives.

        The system gives the lock back at the end of the process, however it ends, so that none is ever left behind.

        Raises:
            UserError: another run has it.
            StorageError: the folder cannot be written to.
        """
        with writing_to(self.path, "; see --out for another folder"):
            self.path.mkdir(parents=True, exist_ok=True)
            while not self._lock_file():
                pass

    def held(self) -> bool | None:
        """Whether a process holds the lock; None where that cannot be told. Nothing is written."""
        try:
            with (self.path / LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False

    def taken(self, unknown: str) -> UserError:
        """What to say if another run goes on here: where, as its process has told, or that this is unknown."""
        where = _read(self.path / LOCK) or unknown
        return UserError(
            f"folder {self.path} belongs to a run that is going on ({where}); wait for its end, stop it, or choose "
            "another folder with --out"
        )

    def _lock_file(self) -> bool:
        """Whether the file that was locked is still the one of that name; an owner removes it at its end."""
        path = self.path / LOCK
        self._lock = path.open("a+")
        try:
            _take(self._lock)
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:  # then two runs at once are the user's own affair
                return True
            self._lock.close()
            self._lock = None
            if error.errno not in HELD:
                raise
            raise self.taken("it has not told where") from None
        if not path.exists() or not os.path.samestat(os.fstat(self._lock.fileno()), path.stat()):
            self._lock.close()
            return False
        self._lock.truncate(0)
        self._lock.write(", ".join(f"{name} {value}" for name, value in process().items()))
        self._lock.flush()
        return True

    def unlock(self) -> None:
        """Give it back."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink(missing_ok=True)
                self._lock.close()
            self._lock = None

    # --- the status -------------------------------------------------------------------------------------

    def check_starts(self, step: int, most_starts: int) -> int:
        """How often the run was started from a step without getting on; UserError if that was too often.

        Args:
            step: where it is to begin.
            most_starts: so many starts from the same step are allowed; 0 for any number.
        """
        earlier = self.status()
        again = earlier.get("from_step") == step and earlier.get("state") not in ("finished", None)
        starts = int(earlier.get("starts", 0)) if again else 0
        if most_starts and starts >= most_starts:
            raise UserError(
                f"the run in {self.path} was started {starts} times from step {step} and never came to its next "
                "checkpoint; see why it ended, then start it with --retry, or save more often (checkpoint.every_steps)"
            )
        return starts

    def begin(self, step: int, most_starts: int, retry: bool) -> None:
        """A run begins, or goes on from a step; UserError if it has done so too often without getting on.

        Args:
            step: where it begins.
            most_starts: so many starts from the same step are allowed; 0 for any number.
            retry: count anew.
        """
        starts = 1 if retry else 1 + self.check_starts(step, most_starts)
        self._status = {"from_step": step, "starts": starts, "started": now()} | process()
        with writing_to(self.path):
            for left in self.path.glob(".*.partial"):  # by a process that was killed or whose disk was full
                left.unlink()

    def status(self) -> dict[str, Any]:
        """What is told of the run by the last process that wrote to the folder; nothing if there is none."""
        try:
            status = json.loads((self.path / STATUS).read_text())
        except (OSError, ValueError):
            return {}
        return status if isinstance(status, dict) else {}

    def tell(self, state: str, **more: Any) -> None:
        """Write the status: running, finished, stopped or failed, and more by name."""
        with self._telling:
            self._status |= {"state": state, "updated": now()} | more
            self._beat = time.monotonic()
            self.commit(STATUS, json.dumps(self._status, indent=1) + "\n")

    def beat(self, status: Callable[[], Mapping[str, Any]]) -> None:
        """The run goes on: write so, and where it stands, now and then; the next checkpoint tells of a failing disk."""
        if time.monotonic() - self._beat > BEAT:
            with contextlib.suppress(StorageError):
                self.tell("running", **status())

    def forget_starts(self) -> None:
        """Count starts without progress anew; for a run that does not go on at the moment."""
        if status := self.status():
            self.commit(STATUS, json.dumps(status | {"starts": 0}, indent=1) + "\n")

    # --- other files ------------------------------------------------------------------------------------

    def commit(self, name: str, text: str) -> None:
        """Commit a text file."""
        write_file(self.path / name, text.encode())

    def write_script(self, name: str, text: str) -> None:
        """The batch script that the run's jobs use; the folder is made if there is none."""
        with writing_to(self.path, "; see --out for another folder"):
            self.path.mkdir(parents=True, exist_ok=True)
        self.commit(name, text)

    def commit_history(self, history: Mapping[str, Sequence[float]]) -> None:
        """The history as a table."""
        rows = zip(*history.values(), strict=True)
        lines = [",".join(history), *(",".join(f"{x:.10g}" for x in row) for row in rows)]
        self.commit("history.csv", "\n".join(lines) + "\n")


def _take(file: TextIO) -> None:
    """Lock a file; OSError if another has it for longer than a look takes."""
    for left in reversed(range(LOOKS)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno not in HELD or not left:
                raise
        time.sleep(BETWEEN)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
