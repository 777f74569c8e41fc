"""The folder of a run: its lock, its status, its checkpoints, and the text files beside them. Rank 0 only."""

from __future__ import annotations

import contextlib
import errno
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dbp.checks import LARGEST, MAX_CONFIG_BYTES
from dbp.config.config_file import RUN_CONFIG
from dbp.config.settings import Checkpoint
from dbp.errors import StorageError, UserError
from dbp.files import reading_from, write_file, writing_to
from dbp.log import LOGS, now
from dbp.plain_files import read_plain
from dbp.run.provenance import process
from dbp.saving.folder_lock import FolderLock
from dbp.text import count_text

if TYPE_CHECKING:
    from dbp.checkpoint import CheckpointFolder

STATUS_FILE, STOP_FILE = "status.json", "stop"
# Files that a run writes, besides its checkpoints and those in folders.
RUN_FILES = (RUN_CONFIG, "history.csv", "timing.csv", "trace.json", "steps.csv", "events.jsonl", STATUS_FILE)
# The first line of the run's config.toml, by which it is told from a config that a user has written.
WRITTEN_BY_DBP = "# Written by dbp: the settings of the run in this folder. dbp train with this file resumes it.\n"
HEARTBEAT_SECONDS = 10.0  # between two writings of the status of a running run
MAX_STATUS_BYTES = 1 << 16
# The entries of a status, by their type.
COUNTS = ("epoch", "epochs", "step", "steps", "ranks", "starts", "from_step", "process", "code")
SECONDS, MAX_SECONDS = ("seconds", "step_seconds", "save_seconds"), 1e12
TEXTS = ("state", "updated", "started", "host", "job", "checkpoint", "message")
FOLDERS = ("checkpoints", LOGS, "tensorboard")
REPLACED = tuple(name for name in RUN_FILES if name != STATUS_FILE)  # files that each run writes anew
OF_ITS_OWN = "a run needs a folder of its own"
ABSENT = (errno.ENOENT, errno.ENOTDIR)


class RunFolder:
    """The folder of a run.

    Args:
        path: its path.
        settings: which checkpoints are kept.
    """

    def __init__(self, path: Path, settings: Checkpoint):
        self.path, self._settings = path, settings
        self._lock = FolderLock(path)
        self._status: dict[str, Any] = {}
        self._last_heartbeat, self._status_lock = 0.0, threading.Lock()

    @cached_property
    def checkpoints(self) -> CheckpointFolder:
        """Return the run's checkpoints."""
        from dbp.checkpoint import CheckpointFolder, Keep

        return CheckpointFolder(self.path / "checkpoints", Keep(self._settings.keep, self._settings.keep_every))

    @property
    def stop_file(self) -> Path:
        """Return the path of the file that asks the run to stop."""
        return self.path / STOP_FILE

    def lock(self) -> None:
        """Lock the folder; see FolderLock."""
        self._lock.lock()

    def unlock(self) -> None:
        """Release the lock; see FolderLock."""
        self._lock.unlock()

    def is_locked(self) -> bool | None:
        """Return whether a process holds the lock; None if the system does not tell. Nothing is written."""
        return self._lock.is_held()

    def locked_error(self, unknown: str) -> UserError:
        """Return the error for a folder that another run has locked; see FolderLock.error()."""
        return self._lock.error(unknown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()

    def check_contents(self, data: Iterable[Path]) -> None:
        """Check that the folder holds neither the data of its run, nor files that no run has written, nor links.

        Args:
            data: its files.

        Raises:
            UserError: it does.
            StorageError: the system does not tell.
        """
        with reading_from(self.path):
            self._check_contents(data)

    def _check_contents(self, data: Iterable[Path]) -> None:
        run = self.path.resolve()
        for name in FOLDERS:
            if (self.path / name).is_symlink():
                raise UserError(
                    f"{OF_ITS_OWN}, but {self.path / name} is a link; put a folder in its place, or choose another "
                    "place for the whole run with --out"
                )
        for file in data:
            if file.resolve().is_relative_to(run):
                raise UserError(f"{OF_ITS_OWN}, but {self.path} holds its data {file}; choose another with --out")
        files = (self.path / name for name in REPLACED)
        others = [file.name for file in files if file.is_file() and not file.is_symlink()]  # a link alone is replaced
        if others and not self.has_config:
            raise UserError(
                f"{OF_ITS_OWN}, but {self.path} holds a {others[0]} that no run has written, and that would be lost; "
                "choose another with --out"
            )

    @property
    def has_config(self) -> bool:
        """Return True if the folder holds the config that a run has written; raise StorageError if it is unreadable."""
        with reading_from(self.path / RUN_CONFIG):
            try:
                return read_plain(self.path / RUN_CONFIG, MAX_CONFIG_BYTES).startswith(WRITTEN_BY_DBP)
            except OSError as error:
                if error.errno in (None, *ABSENT):  # no file, or one that no run writes, such as a link or a large one
                    return False
                raise

    # --- the status -------------------------------------------------------------------------------------

    def check_starts(self, step: int, most_starts: int) -> int:
        """Return how often the run was started from a step without reaching its next checkpoint.

        Args:
            step: the step that it starts from.
            most_starts: starts from the same step that are allowed; 0 for any number.

        Raises:
            UserError: it was started that often already.
        """
        earlier = self.status()
        again = earlier.get("from_step") == step and earlier.get("state") not in ("finished", None)
        starts = int(earlier.get("starts", 0)) if again else 0
        if most_starts and starts >= most_starts:
            times = count_text(starts, "time")
            raise UserError(
                f"the run in {self.path} was started {times} from step {step} and never came to its next checkpoint; "
                "see why it ended, then start it with --retry, or save more often (checkpoint.every_steps)"
            )
        return starts

    def begin(self, step: int, most_starts: int, retry: bool) -> None:
        """Start a run in this folder: count the start, and remove files that a killed process has left.

        Args:
            step: the step that it starts from.
            most_starts: starts from the same step that are allowed; 0 for any number.
            retry: whether to count anew.

        Raises:
            UserError: it was started too often without reaching its next checkpoint.
        """
        starts = 1 if retry else 1 + self.check_starts(step, most_starts)
        self._status = {"from_step": step, "starts": starts, "started": now()} | process()
        with writing_to(self.path):
            for name in RUN_FILES:
                for left in self.path.glob(f".{name}.*.partial"):  # by a process that was killed or whose disk was full
                    left.unlink()

    def status(self) -> dict[str, Any]:
        """Return the status that a process wrote last, without entries that no run writes; empty if there is none."""
        try:
            status = json.loads(read_plain(self.path / STATUS_FILE, MAX_STATUS_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return {name: value for name, value in status.items() if _is_entry(name, value)} if _is_status(status) else {}

    def write_status(self, state: str, **more: Any) -> None:
        """Write the status.

        Args:
            state: running, finished, stopped or failed.
            more: other entries, by name.
        """
        with self._status_lock:
            self._status |= {"state": state, "updated": now()} | more
            self._last_heartbeat = time.monotonic()
            self.commit(STATUS_FILE, json.dumps(self._status, indent=1) + "\n")

    def write_failure(self, message: str, code: int) -> None:
        """Write that the run has failed, on a rank other than 0, if the status of the run can be seen here.

        Args:
            message: the reason.
            code: exit code of the run.
        """
        if (status := self.status()).get("state") == "running":
            status |= {"state": "failed", "updated": now(), "message": message, "code": code}
            self.commit(STATUS_FILE, json.dumps(status, indent=1) + "\n")

    def write_heartbeat(self, status: Callable[[], Mapping[str, Any]]) -> None:
        """Write the status if the last one is old. Errors are ignored: the next checkpoint reports a failing disk.

        Args:
            status: returns the entries of the status.
        """
        if time.monotonic() - self._last_heartbeat > HEARTBEAT_SECONDS:
            with contextlib.suppress(StorageError):
                self.write_status("running", **status())

    def reset_starts(self) -> None:
        """Count starts from the same step anew, for a run that is not running."""
        if status := self.status():
            self.commit(STATUS_FILE, json.dumps(status | {"starts": 0}, indent=1) + "\n")

    # --- other files ------------------------------------------------------------------------------------

    def commit(self, name: str, text: str) -> None:
        """Write a text file."""
        write_file(self.path / name, text.encode())

    def write_script(self, name: str, text: str) -> None:
        """Write the batch script of the run's jobs, and create the folder if it is missing."""
        with writing_to(self.path, "; see --out for another folder"):
            self.path.mkdir(parents=True, exist_ok=True)
        self.commit(name, text)

    def commit_history(self, history: Mapping[str, Sequence[float]]) -> None:
        """Write the history as comma-separated values."""
        rows = zip(*history.values(), strict=True)
        lines = [",".join(history), *(",".join(f"{x:.10g}" for x in row) for row in rows)]
        self.commit("history.csv", "\n".join(lines) + "\n")


def _is_status(status: Any) -> bool:
    return isinstance(status, dict) and isinstance(status.get("state"), str)


def _is_entry(name: str, value: Any) -> bool:
    """Return True for an entry of a status with a value of its type."""
    if name in COUNTS:
        return type(value) is int and 0 <= value <= LARGEST
    if name in SECONDS:
        return isinstance(value, (int, float)) and 0 <= value < MAX_SECONDS
    return type(value) is float if name == "cost" else name in TEXTS and isinstance(value, str)
