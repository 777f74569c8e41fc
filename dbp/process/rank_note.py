"""The note of a rank: what it does, for the ranks of its node that wait for it. It is there before MPI has started."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from dbp.process.launcher import launched_rank, process_of_launcher, rank_above
from dbp.process.note import ProcessNote, notes
from dbp.terminal import write_error

OWNER = "DBP_RANK"  # environment variable that tells processes started by a rank that the rank has its note
SILENT_SECONDS = 5.0  # after which a rank that has not renewed its note counts as stopped
LISTED_RANKS = 8  # in a message
WAITING, LEFT, OUTSIDE = "waiting", "left", "work outside of dbp.fit"  # what a rank does, beside stages of training


class RankActivity(NamedTuple):
    """The activity of a rank of this node, as last noted."""

    rank: int
    state: str  # one of those above, or a stage and a step
    seconds: float  # for which it has done this
    silent: float = 0.0  # seconds for which it has not renewed its note

    @property
    def waits(self) -> bool:
        """Return True if it waits for others."""
        return self.state == WAITING and self.silent < SILENT_SECONDS

    def __str__(self) -> str:
        if self.state == LEFT:
            return f"rank {self.rank} has come to the end of its program"
        if self.silent >= SILENT_SECONDS:
            return f"rank {self.rank} has not responded for {self.silent:.0f} s (in {self.state})"
        return f"rank {self.rank} has been in {self.state} for {self.seconds:.0f} s"


class RankNote:
    """The note of this rank; others read it with activities()."""

    def __init__(self) -> None:
        self._note: ProcessNote | None = None
        self._process = os.getpid()
        self._rank, self._left = 0, False

    def write(self, rank: int, state: str, seconds: float = 0.0, *, renewed: bool = False) -> None:
        """Note what this rank does.

        Args:
            rank: its number.
            state: what it does.
            seconds: for which it has done so.
            renewed: whether the note is renewed again and again, so that a rank that does not has been stopped.
        """
        if self._left or self._process != os.getpid():  # a forked process has the file of its parent
            return
        if self._note is None:
            self._note = ProcessNote(title())
            os.environ[OWNER] = f"{os.getpid()} {title()} {rank}"
        self._rank, now = rank, time.monotonic()
        self._note.write(f"{rank} {now - seconds:.3f} {now if renewed else 0:.3f} {state}")

    def leave(self) -> bool:
        """Note that this rank has come to the end of its program, under the number that it had last.

        Return False in a process that the rank has forked, which is no rank.
        """
        self.write(self._rank, LEFT)
        self._left = True
        return self._process == os.getpid()


rank_note = RankNote()


def title() -> str:
    """Return the title of the notes of this job: launchers name it, or one of them starts all its ranks on a node."""
    return f"dbp {os.environ.get('PMIX_NAMESPACE') or process_of_launcher()}"


def has_note_of_parent(rank: int) -> bool:
    """Return True if a process that has started this one is this rank and has its note."""
    process, _, owner = os.environ.get(OWNER, "").partition(" ")
    return owner == f"{title()} {rank}" and process != str(os.getpid())


def is_started_by_rank() -> bool:
    """Return True if a rank has started this process, which then has the variables of a rank, but is none."""
    return has_note_of_parent(launched_rank()) or rank_above() is not None


def activities(of: str) -> dict[int, RankActivity]:
    """Return what the ranks on this machine do whose notes have a title, by rank."""
    found = {}
    for text in notes(of):
        with contextlib.suppress(ValueError):  # it is being written
            rank, since, renewed, state = text.split(" ", 3)
            now = time.monotonic()
            silent = now - float(renewed) if float(renewed) else 0.0
            found[int(rank)] = RankActivity(int(rank), state, now - float(since), silent)
    return found


def waiting_text(activities: Sequence[RankActivity]) -> str:
    """Return which ranks wait, as a clause."""
    ranks = [one.rank for one in activities if one.waits]
    return f"rank {ranks[0]} waits" if len(ranks) == 1 else f"ranks {listed(ranks)} wait"


def listed(ranks: Sequence[int]) -> str:
    """Return the numbers of ranks as text, of many the first ones."""
    return ", ".join(map(str, ranks[:LISTED_RANKS])) + " ..." * (len(ranks) > LISTED_RANKS)


def report_start(of: str, rank: int, size: int, here: int, seconds: float, ends: bool) -> None:
    """Print which ranks of this node have not come to the start of MPI, if no other rank of the node says so.

    Args:
        of: title of the notes.
        rank: the waiting rank that asks.
        size: ranks of the job.
        here: ranks of this node; 0 if unknown.
        seconds: for which it has waited.
        ends: whether all ranks end now.
    """
    found = activities(of)
    waiting = sorted(number for number, one in found.items() if one.waits)
    if rank != min(waiting, default=rank):
        return
    late = [str(one) for _, one in sorted(found.items()) if not one.waits]
    if here == size and (absent := sorted(set(range(size)) - found.keys() - {rank})):
        late.append(_absent_text(absent, sees_others=bool(found.keys() - {rank})))
    if not late and not {0, size - 1} & {rank, *waiting}:
        return  # the ranks of another node wait for the same ranks, and say so
    others = "; ".join(late) if late else "ranks of other nodes have not come to it"
    clause = waiting_text([found[number] for number in waiting]) if waiting else f"rank {rank} waits"
    text = f"on {socket.gethostname()} {clause} for {seconds:g} s for the start of MPI, as {others}"
    if ends:
        write_error(f"dbp: error: {text}; all ranks end, as all must start it within {seconds:g} s")
    else:
        write_error(f"warning: {text}; all ranks must come to it, or none")


def _absent_text(ranks: Sequence[int], *, sees_others: bool) -> str:
    """Return what is known of ranks of this node that have no note, as a clause.

    Args:
        ranks: their numbers.
        sees_others: whether this rank has seen the note of another rank, as it cannot through walls of containers.
    """
    who = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {listed(ranks)}"
    if sees_others:
        return f"{who} {'has' if len(ranks) == 1 else 'have'} ended, or not imported dbp"
    return f"nothing is known of {who}, which may have ended, may not import dbp, or may run in another container"
