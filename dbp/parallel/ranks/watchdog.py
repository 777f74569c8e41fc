"""The watchdog: names ranks that have not arrived where others wait for them, and ends a job that stands still.

Each rank has a thread that mostly sleeps. Every second it writes down what its rank does, where the others of its node
can read it even if the rank was stopped, and checks whether its rank has waited for too long.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dbp.log import run_log
from dbp.parallel.ranks.clock import Stage
from dbp.parallel.ranks.comm import Communicator

CHECK_SECONDS = 1.0  # between two checks
SILENT_SECONDS = 5.0  # after which a rank that has written nothing counts as stopped
LONG = (Stage.EVALUATION, Stage.CHECKPOINT)  # stages that may take long
LISTED_RANKS = 8  # in a message


class RankActivity(NamedTuple):
    """The activity of a rank of this node, as last written down."""

    rank: int
    stage: int
    seconds: float  # for which it has been in this stage
    step: int
    silent: float  # seconds for which it has not written down what it does

    @property
    def waits(self) -> bool:
        """Return True if it waits for others."""
        return self.stage == Stage.WAITING and self.silent < SILENT_SECONDS

    def __str__(self) -> str:
        if self.silent >= SILENT_SECONDS:
            return f"rank {self.rank} has not been heard of for {self.silent:.0f} s (in {self.where})"
        return f"rank {self.rank} has been in {self.where} for {self.seconds:.0f} s"

    @property
    def where(self) -> str:
        """Return stage and step as text."""
        return f"{Stage(self.stage).label}, step {self.step + 1}"


class Watchdog:
    """The watchdog of a run, in a with statement; entering and leaving it is collective.

    Args:
        comm: the ranks.
        warn_after: seconds of waiting after which the ranks that have not arrived are named; 0 for never.
        end_after: seconds of waiting after which all ranks are ended; 0 for never.
        say: prints a warning; by default to the log and to stderr.
    """

    def __init__(
        self, comm: Communicator, warn_after: float, end_after: float, say: Callable[[str], None] | None = None
    ):
        self._comm, self._warn_after, self._end_after = comm, warn_after, end_after
        self._say, self._host = say or _write, socket.gethostname()
        self._ranks = comm.nodes.runs[comm.nodes.mine]
        self._ended, self._warned = threading.Event(), 0.0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watchdog:
        comm = self._comm
        if comm.size > 1 and (self._warn_after or self._end_after):
            length = 8 * len(RankActivity._fields) * len(self._ranks)
            self._memory = comm.node.allocate(length)
            memory = np.zeros(length, np.uint8) if self._memory is None else self._memory.bytes
            self._board = memory.view(np.float64).reshape(len(self._ranks), -1)
            self._write_down()
            comm.node.barrier()
            self._thread = threading.Thread(target=self._work, name="dbp watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            if self._memory is not None:
                self._memory.free()

    def _work(self) -> None:
        while not self._ended.wait(CHECK_SECONDS):
            self._write_down()
            self._check()

    def _write_down(self) -> None:
        """Write down what this rank does."""
        clock, now = self._comm.clock, time.monotonic()
        seconds = time.perf_counter() - clock.since
        self._board[self._comm.rank - self._ranks.start] = 1, clock.current, seconds, clock.step, now

    def _activities(self) -> list[RankActivity]:
        """Return what the ranks of this node do."""
        now = time.monotonic()
        rows = [(rank, row) for rank, row in zip(self._ranks, self._board.tolist(), strict=True) if row[0]]
        return [RankActivity(rank, int(row[1]), row[2], int(row[3]), now - row[4]) for rank, row in rows]

    def _check(self) -> None:
        clock = self._comm.clock
        waited = time.perf_counter() - clock.since
        if clock.since == self._warned and not self._must_end(waited):
            return
        if (self._warn_after and waited > self._warn_after) or self._must_end(waited):
            text = self._waiting(waited) if clock.current == Stage.WAITING else self._slow()
            if text is not None:
                self._report(text, waited)

    def _must_end(self, waited: float) -> bool:
        return bool(self._end_after) and waited > self._end_after and self._comm.clock.current == Stage.WAITING

    def _report(self, text: str, waited: float) -> None:
        self._warned = self._comm.clock.since
        if self._must_end(waited):
            self._say(f"dbp: error: {text}; all ranks end, as watch.end_after is {self._end_after:g} s")
            time.sleep(CHECK_SECONDS / 5)  # until a launcher has passed it on
            self._comm.abort(1)
        self._say(f"warning: {text}")

    def _waiting(self, waited: float) -> str | None:
        """Return what to say of the ranks that this one waits for; None if another rank will say it."""
        activities, nodes = self._activities(), self._comm.nodes
        if self._comm.rank != min(one.rank for one in activities if one.waits or one.rank == self._comm.rank):
            return None
        late = [one for one in activities if not one.waits]
        if late:
            return f"on {self._host} {waiting_text(activities)} for {waited:.0f} s, as {'; '.join(map(str, late))}"
        missing = self._comm.clock.missing()
        late_nodes = {node for node, run in enumerate(nodes.runs) if set(run) & set(missing)}
        if nodes.mine != min(set(range(nodes.count)) - late_nodes):
            return None
        behind = f"rank {_listed(missing)}" if missing else "ranks of other nodes"
        step = self._comm.clock.step + 1
        return f"on {self._host} {waiting_text(activities)} for {waited:.0f} s at step {step} for {behind}"

    def _slow(self) -> str | None:
        """Return what to say of this rank if ranks of other nodes may wait for it."""
        activities = self._activities()
        if self._comm.nodes.count == 1 or self._comm.clock.current in LONG or any(one.waits for one in activities):
            return None
        return f"on {self._host} {next(one for one in activities if one.rank == self._comm.rank)}"


def waiting_text(activities: Sequence[RankActivity]) -> str:
    """Return which ranks wait, as a clause."""
    ranks = [one.rank for one in activities if one.waits]
    return f"rank {ranks[0]} waits" if len(ranks) == 1 else f"ranks {_listed(ranks)} wait"


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks[:LISTED_RANKS])) + " ..." * (len(ranks) > LISTED_RANKS)


def _write(text: str) -> None:
    run_log.write(text)
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
