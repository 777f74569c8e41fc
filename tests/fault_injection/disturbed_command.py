"""Run dbp's command line with a fault in some ranks: `disturbed_command.py RANKS MOMENT NUMBER WAYS ...`.

RANKS are numbers with commas between, or "all". The fault comes before the NUMBER-th MOMENT, which is import or one of
MOMENTS. WAYS, with commas between, are carried out in turn: raise, user (an error of the user, on this rank only),
exit0, exit3, wait1.5 (seconds), until:FILE (until that is in the run's folder), or the name of a signal. The words of
the command line follow.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 100.0  # seconds for a file to come
RANKS, MOMENT, NUMBER, WAYS = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3]), sys.argv[4]

MOMENTS = {
    "begin": "dbp.saving.saver:RunSaver._begin",
    "step": "dbp.training.loop:step",
    "forward": "dbp.nn:Dense.__call__",
    "sum": "dbp.parallel.sums.gradients:GradientSum.total",
    "update": "dbp.optim:Adam.update",
    "copy": "dbp.parallel:Copies.take",
    "save": "dbp.saving.saver:RunSaver.save",
    "write": "dbp.saving.checkpoint_writing:CheckpointWriting._write",
    "evaluate": "dbp.cost.objective:Objective.evaluate",
    "finish": "dbp.saving.saver:RunSaver.finish",
    "restore": "dbp.saving.restore:Restorer.restore",
}


def happen() -> None:
    """Carry out all WAYS on this rank."""
    for way in WAYS.split(","):
        _happen(way)


def _happen(way: str) -> None:
    from dbp.errors import UserError

    if way == "raise":
        raise ZeroDivisionError("as was asked for")
    if way == "user":
        raise UserError("found on one rank only")
    if way.startswith("exit"):
        sys.exit(int(way.removeprefix("exit")))
    if way.startswith("until:"):
        wait_for(Path(sys.argv[sys.argv.index("--out") + 1]) / way.removeprefix("until:"))
    elif way.startswith("wait"):
        time.sleep(float(way.removeprefix("wait")))
    else:
        os.kill(os.getpid(), signal.Signals[way])


def wait_for(file: Path) -> None:
    """Wait for a file."""
    ends = time.monotonic() + LIMIT
    while not file.exists():
        if time.monotonic() > ends:
            raise TimeoutError(f"{file} does not come")
        time.sleep(0.01)


def interpose(owner: Any, name: str) -> None:
    """Make a function call happen() before its NUMBER-th call."""
    function: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == NUMBER:
            happen()
        return function(*arguments, **more)

    setattr(owner, name, wrapped)


def main() -> int:
    """Run the command line."""
    from dbp.cli import main as command_line
    from dbp.saving.stopping import signals

    if {"all", os.environ.get("OMPI_COMM_WORLD_RANK", "0")} & set(RANKS):
        signals.enter()
        if MOMENT == "import":
            happen()
        else:
            module, _, name = MOMENTS[MOMENT].rpartition(":")
            interpose(
                functools.reduce(getattr, name.split(".")[:-1], importlib.import_module(module)), name.split(".")[-1]
            )
    return command_line(sys.argv[5:])


if __name__ == "__main__":
    sys.exit(main())
