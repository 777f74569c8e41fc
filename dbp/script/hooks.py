"""The hooks of a script that imports dbp: for an exception that ends it, and for the end of one rank of several."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from dbp.errors import Interrupted, UserError
from dbp.log import run_log
from dbp.process.launcher import launched_rank, launched_size
from dbp.process.left_ranks import leave_before_mpi
from dbp.process.rank_note import OUTSIDE, is_started_by_rank, rank_note
from dbp.terminal import write_error


def set_hooks() -> None:
    """Set sys.excepthook, and for one of several ranks an exit hook, which other ranks learn from that it has left."""
    before, process = sys.excepthook, os.getpid()
    is_rank = launched_size() > 1 and not is_started_by_rank()

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, TypeError):
            _add_hint(error)
        if launched_size() > 1 and os.getpid() == process:  # a forked process is no rank
            from dbp.parallel import end_script, is_connected

            if is_rank or is_connected():  # a process that a rank has started may be the one that starts MPI
                end_script(error)
        _end(error, lambda: before(kind, error, trace))

    sys.excepthook = hook
    if is_rank:
        rank_note.write(launched_rank(), OUTSIDE)
        atexit.register(leave)


def _add_hint(error: TypeError) -> None:
    """Add a line to the traceback of an argument that a class of dbp does not have."""
    from dbp.script.argument_hint import argument_hint

    if (hint := argument_hint(error)) is not None:
        error.add_note(hint)


def leave() -> None:
    """Note that this rank has come to the end of its program; if others wait for it to start MPI, end all ranks."""
    if not rank_note.leave() or "mpi4py.MPI" in sys.modules:
        return
    if waiting := leave_before_mpi():
        from dbp.parallel import end_script

        end_script(
            UserError(
                f"it has come to the end of the program, while {waiting} for the start of MPI; all ranks must start "
                "it, for instance by dbp.fit, or none"
            )
        )


def _end(error: BaseException, show: Callable[[], Any]) -> None:
    """End a script of one process: a mistake of the user takes one line, and an exit code of its own."""
    if hasattr(sys, "ps1") or not isinstance(error, (UserError, Interrupted)):
        run_log.write("".join(traceback.format_exception(error)).rstrip())
        show()
        return
    if isinstance(error, UserError):
        run_log.write(f"error: {error}")
        write_error(f"dbp: error: {error}")
    else:
        write_error("\ndbp: interrupted")
    raise SystemExit(error.exit_code)  # which Python obeys in this hook
