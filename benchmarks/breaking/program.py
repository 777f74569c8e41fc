"""The command line of dbp, in which something happens to one rank: `program.py RANK PLACE NUMBER WAYS WORDS ...`.

PLACE is what the rank is about to do, for the NUMBER-th time: import, begin, step, save, evaluate or finish. WAYS says
what happens, one after the other with commas between: raise, user (an error of the user, on this rank only), exit0,
exit3, wait1.5 (so many seconds), or the name of a signal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

RANK, PLACE, NUMBER, WAYS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


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
    from dbp.stopping import signals

    if RANK in ("all", os.environ.get("OMPI_COMM_WORLD_RANK", "0")):
        signals.enter()
        if PLACE == "import":
            happen()
        else:
            from dbp import keeping, run, train

            places = {"begin": (keeping.Keeper, "_begin"), "step": (train, "step"), "save": (keeping.Keeper, "save")}
            places |= {"evaluate": (run.Run, "evaluate"), "finish": (keeping.Keeper, "finish")}
            before(*places[PLACE])
    return command_line(sys.argv[5:])


if __name__ == "__main__":
    sys.exit(main())
