"""The command line of dbp, in which something happens to ranks: `program.py RANKS PLACE NUMBER WAYS WORDS ...`.

RANKS are some with commas between, or "all". PLACE is what they are about to do, for the NUMBER-th time: import, or one
of PLACES. WAYS says what happens, one after the other with commas between: raise, user (an error of the user, on this
rank only), exit0, exit3, wait1.5 (so many seconds), or the name of a signal.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

RANKS, PLACE, NUMBER, WAYS = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3]), sys.argv[4]

PLACES = {
    "begin": "dbp.saving.saver:RunSaver._begin",
    "step": "dbp.training.loop:step",
    "forward": "dbp.nn:Dense.__call__",
    "sum": "dbp.parallel.sums.gradients:GradientSum.total",
    "update": "dbp.optim:Adam.update",
    "copy": "dbp.parallel:Copies.take",
    "save": "dbp.saving.saver:RunSaver.save",
    "write": "dbp.saving.saver:RunSaver._write",
    "evaluate": "dbp.run.state:Run.evaluate",
    "finish": "dbp.saving.saver:RunSaver.finish",
    "restore": "dbp.saving.restore:Restorer.restore",
}


def happen() -> None:
    """What happens to the rank."""
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
    if way.startswith("wait"):
        time.sleep(float(way.removeprefix("wait")))
    else:
        os.kill(os.getpid(), signal.Signals[way])


def before(owner: Any, name: str) -> None:
    """Have it happen before the NUMBER-th call of a function."""
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
        if PLACE == "import":
            happen()
        else:
            module, _, name = PLACES[PLACE].rpartition(":")
            before(
                functools.reduce(getattr, name.split(".")[:-1], importlib.import_module(module)), name.split(".")[-1]
            )
    return command_line(sys.argv[5:])


if __name__ == "__main__":
    sys.exit(main())
