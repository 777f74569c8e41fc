"""dbp status: where a run stands, told from the files in its folder, also while it goes on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbp.config.settings import Checkpoint
from dbp.errors import NOT_FINISHED, UserError
from dbp.saving.folder import BEAT, RunFolder
from dbp.text import duration

RUNNING, LOST = "running", "lost"
RUNS_ON = 3  # exit code of dbp status for a run that goes on
SILENT = 6 * BEAT  # seconds after which a run on another machine, whose lock nobody holds there, is lost
LOOK = 0.5  # seconds between two looks at a run whose end is waited for


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Args:
        run: its folder.
        state: running, finished, stopped, failed, or lost: killed before it could tell of its end.
        code: 0 finished, 75 to be continued (stopped or lost), 3 running, and others as the run ended.
        told: what it has told of itself (status.json).
        checkpoint: name of the newest one; None if there is none.
        checkpoint_age: seconds since it was written.
        silent: seconds since the run has told anything.
        left: seconds that the rest of the steps will take, if they take as long as those before; None if unknown.
    """

    run: str
    state: str
    code: int
    told: Mapping[str, Any]
    checkpoint: str | None
    checkpoint_age: float | None
    silent: float
    left: float | None

    @classmethod
    def of(cls, path: Path) -> Standing:
        """That of the run in a folder; UserError if there is none."""
        folder = RunFolder(path, Checkpoint())
        told = folder.status()
        if not told:
            raise UserError(f"folder {path} tells of no run (it holds no status.json); give the folder of a run (out)")
        silent = _age(told.get("updated"))
        state = str(told.get("state"))
        if state == RUNNING and not _alive(folder, told, silent):
            told = folder.status()  # it may have ended between the two looks
            state = str(told.get("state")).replace(RUNNING, LOST)
        newest = folder.checkpoints.files()[-1:]
        age = max(0.0, time.time() - newest[0].stat().st_mtime) if newest else None
        name = newest[0].name if newest else None
        return cls(str(path), state, _code(state, told), told, name, age, silent, _left(told))

    @property
    def text(self) -> str:
        """It in a few lines."""
        told = self.told
        lines = [f"{self.run}: {self.state}, epoch {_of(told, 'epoch')}, step {_of(told, 'step')}"]
        cost = told.get("cost")
        lines.append("" if cost is None else f"cost {cost:.4g}, ")
        lines[-1] += f"{duration(told.get('seconds', 0.0))} of training"
        if self.state != "finished" and self.left is not None:
            lines[-1] += f", about {duration(self.left)} left"
        if self.checkpoint is None or self.checkpoint_age is None:
            lines.append("no checkpoint yet")
        else:
            lines.append(f"checkpoint {self.checkpoint}, written {duration(self.checkpoint_age)} ago")
        job, ranks = f", job {told['job']}" if "job" in told else "", told.get("ranks")
        lines.append(
            f"{ranks} rank{'s' * (ranks != 1)}, host {told.get('host')}, process {told.get('process')}{job}, last "
            f"heard of {duration(self.silent)} ago; start {told.get('starts')} from step {told.get('from_step')}"
        )
        return "\n".join([*lines, *([str(told["message"])] if "message" in told else [])])

    @property
    def json(self) -> str:
        """It as one object, in which what the run has told stands beside the rest."""
        found = asdict(self)
        return json.dumps({**found.pop("told"), **found}, indent=1)


def wait_for_end(path: Path, seconds: float) -> Standing:
    """Where the run in a folder stands as soon as it no longer goes on, or after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        standing = Standing.of(path)
        if standing.state != RUNNING or time.monotonic() >= end:
            return standing
        time.sleep(LOOK)


def _alive(folder: RunFolder, told: Mapping[str, Any], silent: float) -> bool:
    """Whether the process that calls itself running is there.

    Its lock is certain on its own machine. On others it need not be seen, and a step may take long; so that it must
    have been silent for a while as well.
    """
    held = folder.held()
    if held is None or told.get("host") != socket.gethostname():
        return bool(held) or silent < SILENT
    return held


def _code(state: str, told: Mapping[str, Any]) -> int:
    if state == "failed":
        return int(told.get("code", 1))
    return {"finished": 0, RUNNING: RUNS_ON}.get(state, NOT_FINISHED)


def _age(moment: object) -> float:
    """Seconds since a time as the status has it."""
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(str(moment))).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _left(told: Mapping[str, Any]) -> float | None:
    step, steps, seconds = (told.get(name, 0) for name in ("step", "steps", "seconds"))
    return seconds / step * max(0, steps - step) if step else None


def _of(told: Mapping[str, Any], name: str) -> str:
    return f"{told.get(name, 0):,} of {told.get(name + 's', 0):,}"
