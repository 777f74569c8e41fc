"""Ranks that come to the end of their program before MPI has started, for which the start of MPI would wait forever.

The note of such a rank is gone with its process. So `dbp run` keeps a note in which they mark their numbers.
"""

from __future__ import annotations

import os
import secrets

from dbp.process.launcher import launched_rank, process_of_launcher
from dbp.process.note import ProcessNote, mark, marks
from dbp.process.rank_note import activities, title, waiting_text

LEFT_RANKS = "DBP_LEFT_RANKS"  # environment variable of dbp run: path and title of its note


class LeftRanks:
    """The note of `dbp run`, for as long as this object lives."""

    def __init__(self) -> None:
        self._note = ProcessNote(f"dbp left {secrets.token_hex(4)}")

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variable by which ranks of this machine find the note; empty if there is none."""
        return {LEFT_RANKS: f"{self._note.path} {self._note.title}" if self._note.path else ""}


def left_ranks() -> list[int]:
    """Return the ranks that are known to have left before the start of MPI."""
    path, _, name = os.environ.get(LEFT_RANKS, "").partition(" ")
    return marks(path, name) if path else []


def leave_before_mpi() -> str:
    """Mark that this rank leaves, and return which ranks wait for it at the start of MPI, as a clause; "" if none.

    Only what the launcher has started itself is a rank that leaves: after another process, such as the first of two
    programs in a shell script, MPI may start yet.
    """
    if process_of_launcher() != os.getppid():
        return ""
    path, _, name = os.environ.get(LEFT_RANKS, "").partition(" ")
    if path:  # first, as a rank that comes to the start of MPI later looks there
        mark(path, name, launched_rank())
    found = [one for _, one in sorted(activities(title()).items()) if one.waits]
    return waiting_text(found) if found else ""
