"""Find the state of a run from the files in its folder, also while it is running (dbp status)."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbp.config.settings import Checkpoint
from dbp.errors import NOT_FINISHED, UserError
from dbp.files import reading_from
from dbp.saving.folder import HEARTBEAT_SECONDS, RunFolder
from dbp.text import duration, printable, table

RUNNING, LOST = "running", "lost"
STILL_RUNNING = 3  # exit code of dbp status --quiet for a run that is running
SILENT_SECONDS = (
    6 * HEARTBEAT_SECONDS
)  # after this time without an update a run is lost, if its lock cannot be seen from here
POLL_SECONDS = 0.5  # between two reads of a run's status while waiting for its end


@dataclass(frozen=True)
class RunStatus:
    """The state of a run and how far it has come.

    Args:
        run: its folder.
        state: running, finished, stopped, failed, or lost: killed before it could record its end.
        code: exit code of dbp status --quiet: 0 for finished, 75 to be resumed (stopped or lost), 3 for running, else
            that of the run.
        values: what the run records about itself (status.json).
        checkpoint: name of the newest checkpoint; None if there is none.
        checkpoint_age: seconds since that was written.
        silent: seconds since the last update of status.json.
        left: seconds for the remaining steps at the speed of the steps so far; None if unknown.
    """

    run: str
    state: str
    code: int
    values: Mapping[str, Any]
    checkpoint: str | None
    checkpoint_age: float | None
    silent: float
    left: float | None

    @classmethod
    def of(cls, path: Path) -> RunStatus:
        """Read the status of the run in a folder.

        Raises:
            UserError: the folder holds no run.
        """
        folder = RunFolder(path, Checkpoint())
        values = folder.status()
        if not values:
            raise UserError(f"folder {path} holds no run (there is no status.json); give the folder of a run (out)")
        silent = _age(values.get("updated"))
        state = str(values.get("state"))
        if state == RUNNING and not _is_alive(folder, values, silent):
            values = folder.status()  # read again, as it may have ended in the meantime
            state = str(values.get("state")).replace(RUNNING, LOST)
        newest = folder.checkpoints.files()[-1:]
        age = max(0.0, time.time() - newest[0].stat().st_mtime) if newest else None
        name = newest[0].name if newest else None
        return cls(str(path), state, _code(state, values), values, name, age, silent, _seconds_left(values))

    @property
    def text(self) -> str:
        """Return a report of a few lines."""
        values = self.values
        lines = [f"{self.run}: {self.state}, epoch {_progress(values, 'epoch')}, step {_progress(values, 'step')}"]
        cost = values.get("cost")
        lines.append("" if cost is None else f"cost {cost:.4g}, ")
        lines[-1] += f"{duration(values.get('seconds', 0.0))} of training"
        if self.state != "finished" and self.left is not None:
            lines[-1] += f", about {duration(self.left)} left"
        if self.checkpoint is None or self.checkpoint_age is None:
            lines.append("no checkpoint yet")
        else:
            lines.append(f"checkpoint {self.checkpoint}, written {duration(self.checkpoint_age)} ago")
        job, ranks = f", job {values['job']}" if "job" in values else "", values.get("ranks")
        lines.append(
            f"{ranks} rank{'s' * (ranks != 1)}, host {values.get('host')}, process {values.get('process')}{job}, last "
            f"update {duration(self.silent)} ago; start {values.get('starts')} from step {values.get('from_step')}"
        )
        return printable("\n".join([*lines, *([values["message"]] if "message" in values else [])]))

    @property
    def fields(self) -> dict[str, Any]:
        """Return all fields and values by name."""
        fields = asdict(self)
        return {**fields.pop("values"), **fields}


def runs_in(path: Path) -> list[RunStatus]:
    """Return the status of each run in a folder of runs, by name; none if it holds none."""
    with reading_from(path):
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
    found = []
    for folder in folders:
        with contextlib.suppress(UserError):  # it holds no run
            found.append(RunStatus.of(folder))
    return found


def text_of_runs(runs: Sequence[RunStatus]) -> str:
    """Return a table with a line for each run."""
    rows = [["run", "state", "epoch", "cost", "time", "left"]]
    for status in runs:
        values = status.values
        rows.append(
            [
                Path(status.run).name,
                status.state,
                f"{values.get('epoch', 0):,}/{values.get('epochs', 0):,}",
                f"{values['cost']:.4g}" if "cost" in values else "-",
                duration(values.get("seconds", 0.0)),
                duration(status.left) if status.state == RUNNING and status.left else "-",
            ]
        )
    return printable("\n".join(table(rows, left=(0, 1), below=0)))


def wait_for_end(path: Path, seconds: float) -> RunStatus:
    """Wait until a run is no longer running, but at most for some seconds, and return its status then."""
    end = time.monotonic() + seconds
    while True:
        status = RunStatus.of(path)
        if status.state != RUNNING or time.monotonic() >= end:
            return status
        time.sleep(POLL_SECONDS)


def _is_alive(folder: RunFolder, values: Mapping[str, Any], silent: float) -> bool:
    """Return True if the process of a run that is recorded as running exists.

    On the run's machine the lock of its folder decides. Another machine may not see that lock: there the process counts
    as dead only after some time without an update as well.
    """
    held = folder.is_locked()
    if held is None or values.get("host") != socket.gethostname():
        return bool(held) or silent < SILENT_SECONDS
    return held


def _code(state: str, values: Mapping[str, Any]) -> int:
    if state == "failed":
        return int(values.get("code", 1))
    return {"finished": 0, RUNNING: STILL_RUNNING}.get(state, NOT_FINISHED)


def _age(moment: object) -> float:
    """Return the seconds since a time of status.json; 0 if it is none."""
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(str(moment))).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _seconds_left(values: Mapping[str, Any]) -> float | None:
    step, steps, seconds = (values.get(name, 0) for name in ("step", "steps", "seconds"))
    return seconds / step * max(0, steps - step) if step else None


def _progress(values: Mapping[str, Any], name: str) -> str:
    return f"{values.get(name, 0):,} of {values.get(name + 's', 0):,}"
