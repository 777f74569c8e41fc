"""The watch over the start of MPI, which waits for all ranks inside of a library, where no Python code can run.

Timers of the C library start a small program instead, which looks at the notes of this node's ranks.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from dbp.errors import UserError
from dbp.parallel.ranks.deadline import LibraryTimer
from dbp.process.launcher import VARIABLES, launched_here, launched_rank, launched_size
from dbp.process.left_ranks import left_ranks
from dbp.process.rank_note import WAITING, has_note_of_parent, listed, rank_note, title

REPORT_SECONDS = 10.0  # for the program to say that all ranks end; a busy node takes seconds to start it


@contextlib.contextmanager
def watch_start(warn_after: float, end_after: float) -> Iterator[None]:
    """Name the ranks of this node that have not come to the start of MPI after some seconds, and end this rank later.

    Args:
        warn_after: seconds after which they are named; 0 for never.
        end_after: seconds after which this rank ends, and the launcher all others; 0 for never.

    Raises:
        UserError: a rank has left already, so that MPI cannot start.
    """
    rank = launched_rank()
    with contextlib.ExitStack() as timers:
        if launched_size() > 1:
            if not has_note_of_parent(rank):
                rank_note.write(rank, WAITING)
            if left := left_ranks():
                raise UserError(
                    f"MPI cannot start, as {f'rank {left[0]} has' if len(left) == 1 else f'ranks {listed(left)} have'} "
                    "come to the end of the program before it; all ranks must start it, or none"
                )
            if warn_after:
                timers.enter_context(LibraryTimer(warn_after, "system", _program(rank, warn_after, ends=False)))
            if end_after:
                timers.enter_context(LibraryTimer(end_after, "system", _program(rank, end_after, ends=True)))
                timers.enter_context(LibraryTimer(end_after + REPORT_SECONDS, "_exit", 1))
        yield


def _program(rank: int, seconds: float, *, ends: bool) -> bytes:
    """Return the command that reports who is missing; it is started without the variables that make it a rank."""
    arguments = title(), rank, launched_size(), launched_here(), seconds, ends
    code = f"from dbp.process.rank_note import report_start; report_start{arguments!r}"
    folder = shlex.quote(str(Path(__file__).parents[3]))
    command = f"PYTHONPATH={folder} exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    return f"unset {' '.join(VARIABLES)}; {command}".encode()
