"""The logs that a run writes by itself, as listeners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dbp.listeners.csv_log import CsvLog
from dbp.listeners.events import Event
from dbp.listeners.json_log import JsonLog
from dbp.listeners.listener import Listener
from dbp.listeners.tensorboard_log import TensorBoardLog

Log = Callable[[Path, int], Callable[[Event], object]]  # makes a listener for a folder, with an entry every few steps
LOGS: dict[str, Log] = {"tensorboard": TensorBoardLog, "json": JsonLog, "csv": CsvLog}


def logs(folder: Path, names: tuple[str, ...], every: int) -> list[Listener]:
    """Return logs as listeners, which do not end the run if the disk fails.

    Args:
        folder: of the run.
        names: of the logs, in LOGS.
        every: steps from one entry to the next.
    """
    return [Listener(LOGS[name](folder, every), every, harmless=True) for name in names]
