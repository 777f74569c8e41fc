"""The stall watchdog: says which ranks have not arrived where others wait for them, and ends a job that stands still.

Each rank has a thread that mostly sleeps. Every second it writes down what its rank does, where the others of its
node can read it even if the rank was stopped, and looks whether its rank has waited for too long.
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
from dbp.parallel.ranks.clock import CHECKPOINT, EVALUATION, NAMES, WAITING
from dbp.parallel.ranks.comm import Communicator

LOOK = 1.0  # seconds between two looks
SILENT = 5.0  # seconds after which a rank that has written nothing is taken to be stopped
LONG = (EVALUATION, CHECKPOINT)  # stages that may well take long


class Seen(NamedTuple):
    """What is known of a rank of this node."""

    rank: int
    stage: int
    seconds: float  # for which it has been in this stage
    step: int
    silent: float  # seconds for which it has not written down what it does

    @property
    def waits(self) -> bool:
        """Whether it waits for others."""
        return self.stage == WAITING and self.silent < SILENT

    def __str__(self) -> str:
        if self.silent >= SILENT:
            return f"rank {self.rank} has not been heard of for {self.silent:.0f} s (in {self.place})"
        return f"rank {self.rank} has been in {self.place} for {self.seconds:.0f} s"

    @property
    def place(self) -> str:
        """Stage and step."""
        return f"{NAMES[self.stage]}, step {self.step + 1}"


class Watch:
    """Watches over a run in a with statement; entering and leaving it is collective.

    Args:
        comm: the ranks.
        warn_after: seconds of waiting after which the ranks that have not arrived are named; 0 for never.
        end_after: seconds of waiting after which all ranks are ended; 0 for never.
        say: what a warning is said with.
    """

    def __init__(
        self, comm: Communicator, warn_after: float, end_after: float, say: Callable[[str], None] | None = None
    ):
        self._comm, self._warn_after, self._end_after = comm, warn_after, end_after
        self._say, self._host = say or _write, socket.gethostname()
        self._ranks = comm.nodes.runs[comm.nodes.mine]
        self._done, self._warned = threading.Event(), 0.0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        comm = self._comm
        if comm.size > 1 and (self._warn_after or self._end_after):
            self._memory = comm.shared_memory(8 * len(Seen._fields) * len(self._ranks))
            memory = np.zeros(8 * len(Seen._fields) * len(self._ranks), np.uint8)
            self._board = (memory if self._memory is None else self._memory.bytes).view(np.float64)
            self._board = self._board.reshape(len(self._ranks), -1)
            self._note()
            comm.node_barrier()
            self._thread = threading.Thread(target=self._work, name="dbp watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            if self._memory is not None:
                self._memory.free()

    def _work(self) -> None:
        while not self._done.wait(LOOK):
            self._note()
            self._look()

    def _note(self) -> None:
        """Write down what this rank does."""
        stages, now = self._comm.stages, time.monotonic()
        seconds = time.perf_counter() - stages.since
        self._board[self._comm.rank - self._ranks.start] = 1, stages.current, seconds, stages.step, now

    def _seen(self) -> list[Seen]:
        """What the ranks of this node do."""
        now = time.monotonic()
        rows = [(rank, row) for rank, row in zip(self._ranks, self._board.tolist(), strict=True) if row[0]]
        return [Seen(rank, int(row[1]), row[2], int(row[3]), now - row[4]) for rank, row in rows]

    def _look(self) -> None:
        stages = self._comm.stages
        waited = time.perf_counter() - stages.since
        if stages.since == self._warned and not self._over(waited):
            return
        if (self._warn_after and waited > self._warn_after) or self._over(waited):
            text = self._waiting(waited) if stages.current == WAITING else self._slow()
            if text is not None:
                self._tell(text, waited)

    def _over(self, waited: float) -> bool:
        return bool(self._end_after) and waited > self._end_after and self._comm.stages.current == WAITING

    def _tell(self, text: str, waited: float) -> None:
        self._warned = self._comm.stages.since
        if self._over(waited):
            self._say(f"dbp: error: {text}; all ranks end, as watch.end_after is {self._end_after:g} s")
            time.sleep(LOOK / 5)  # until a launcher has passed it on
            self._comm.abort(1)
        self._say(f"warning: {text}")

    def _waiting(self, waited: float) -> str | None:
        """What to say of the ranks that this one waits for; None if another rank will say it."""
        seen, nodes = self._seen(), self._comm.nodes
        if self._comm.rank != min(one.rank for one in seen if one.waits or one.rank == self._comm.rank):
            return None
        late = [one for one in seen if not one.waits]
        if late:
            return f"on {self._host} {waits(seen)} for {waited:.0f} s, as {'; '.join(map(str, late))}"
        missing = self._comm.stages.missing()
        late_nodes = {node for node, run in enumerate(nodes.runs) if set(run) & set(missing)}
        if nodes.mine != min(set(range(nodes.count)) - late_nodes):
            return None
        behind = f"rank {_listed(missing)}" if missing else "ranks of other nodes"
        return f"on {self._host} {waits(seen)} for {waited:.0f} s at step {self._comm.stages.step + 1} for {behind}"

    def _slow(self) -> str | None:
        """What to say of this rank if it may be what ranks of other nodes wait for."""
        seen = self._seen()
        if self._comm.nodes.count == 1 or self._comm.stages.current in LONG or any(one.waits for one in seen):
            return None
        return f"on {self._host} {next(one for one in seen if one.rank == self._comm.rank)}"


def waits(seen: Sequence[Seen]) -> str:
    """Who waits."""
    ranks = [one.rank for one in seen if one.waits]
    return f"rank {ranks[0]} waits" if len(ranks) == 1 else f"ranks {_listed(ranks)} wait"


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks[:8])) + " ..." * (len(ranks) > 8)


def _write(text: str) -> None:
    run_log.tell(text)
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
