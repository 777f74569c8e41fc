"""The events of a run as lines of JSON, in events.jsonl."""

from __future__ import annotations

import json
import math
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from dbp.listeners.appended_file import AppendedFile
from dbp.listeners.events import End, Event, Start

NAME = "events.jsonl"
KINDS = {"Start": "start", "Step": "step", "Epoch": "epoch", "CheckpointWritten": "checkpoint", "End": "end"}


class JsonLog:
    """A listener that writes a line of JSON for each event: its kind, the time in UTC seconds, and its fields.

    The numbers in `values` stand among the fields, and one that is not finite is null, as JSON has none. A start cuts
    off what an earlier one wrote after the checkpoint that it resumes from.

    Args:
        folder: the run's.
        every: steps from one line to the next.
    """

    def __init__(self, folder: Path, every: int):
        self.every, self._file = every, AppendedFile(folder / NAME)

    def __call__(self, event: Event) -> None:
        """Write the event."""
        if isinstance(event, Start):
            self._file.keep(lambda lines: ((line, _is_before(line, event)) for line in lines))
        self._file.append(line_of(event).encode())
        if isinstance(event, End):
            self._file.close()


def line_of(event: Event) -> str:
    """Return the line of an event."""
    own = {field.name: getattr(event, field.name) for field in fields(event)}
    kind = {"event": KINDS[type(event).__name__], "time": round(time.time(), 3)}
    return json.dumps(_plain({**kind, **own.pop("values", {}), **own}), ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bool, int, str, type(None))):
        return value
    if hasattr(value, "items"):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)


def _is_before(line: bytes, start: Start) -> bool:
    """Return True if a line is whole, and of an event before the state that a start resumes from."""
    try:
        entry = json.loads(line)
        after = entry["epoch"] > start.epoch if entry["event"] == KINDS["Epoch"] else entry["step"] > start.step
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return start.step > 0 and not after and line.endswith(b"\n")
