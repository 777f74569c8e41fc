"""The watchdog: names ranks that have not arrived where others wait for them, and ends a job that stands still.

Each rank has a thread that mostly sleeps, from its first collective on. Every second it renews the note of its rank,
which the others of its node can read even if the rank was stopped, and checks whether its rank has waited for too long.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from dbp.log import run_log
from dbp.parallel.ranks.clock import Stage, StageClock
from dbp.parallel.ranks.comm import Communicator
from dbp.process.rank_note import (
    LEFT,
    OUTSIDE,
    SILENT_SECONDS,
    WAITING,
    RankActivity,
    activities,
    listed,
    rank_note,
    title,
    waiting_text,
)
from dbp.terminal import write_error

CHECK_SECONDS = 1.0  # between two checks
WARN_AFTER, END_AFTER = 60.0, 1800.0  # seconds, outside of a training, which has settings of its own
# Of waiting, after which a rank looks for ranks that have left, and again whenever it has waited twice as long. A rank
# that was stopped is known to be by then.
LEFT_SECONDS = SILENT_SECONDS + CHECK_SECONDS
LONG = (Stage.EVALUATION, Stage.CHECKPOINT)  # stages that may take long


class Watchdog:
    """The watchdog of this rank. Its methods are not collective.

    Args:
        rank: this rank.
        abort: ends all ranks with an exit code.
        say: prints a warning; by default to the log and to stderr.
    """

    def __init__(self, rank: int, abort: Callable[[int], None], say: Callable[[str], None] | None = None):
        self._rank, self._abort, self._say, self._host = rank, abort, say or _write, socket.gethostname()
        self._comm: Communicator | None = None
        self._clock = StageClock()
        self._clock.enter(Stage.WAITING)  # for the ranks to be connected
        self._warn_after, self._end_after = WARN_AFTER, END_AFTER
        self._trains, self._warned = False, 0.0
        self._mine = RankActivity(rank, WAITING, 0.0)
        self._next_look = LEFT_SECONDS

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        self._write_down()
        threading.Thread(target=self._work, name="dbp watchdog", daemon=True).start()

    def connect(self, comm: Communicator) -> None:
        """Watch the waits of this communicator from now on."""
        self._comm, self._clock, self._rank, self._abort = comm, comm.clock, comm.rank, comm.abort

    @contextlib.contextmanager
    def limits(self, warn_after: float, end_after: float, *, trains: bool = False) -> Iterator[None]:
        """Watch with other limits, inside of the with statement.

        Args:
            warn_after: seconds of waiting after which the ranks that have not arrived are named; 0 for never.
            end_after: seconds of waiting after which all ranks are ended; 0 for never.
            trains: whether this is a training, in which ranks of other nodes may wait for this one.
        """
        before = self._warn_after, self._end_after, self._trains
        self._warn_after, self._end_after, self._trains = warn_after, end_after, trains
        try:
            yield
        finally:
            self._warn_after, self._end_after, self._trains = before

    def _work(self) -> None:
        while True:
            time.sleep(CHECK_SECONDS)
            self._write_down()
            self._check()

    def _write_down(self) -> None:
        """Write down what this rank does."""
        stage, since = self._clock.current, self._clock.since
        if stage == Stage.WAITING:
            state = WAITING
        elif stage == Stage.OTHER and not self._trains:
            state = OUTSIDE
        else:
            state = f"{stage.label}, step {self._clock.step + 1}"
        self._mine = RankActivity(self._rank, state, time.perf_counter() - since)
        rank_note.write(*self._mine[:3], renewed=True)

    def _activities(self) -> list[RankActivity]:
        """Return what the ranks of this node do, as far as they have notes."""
        found = activities(title()) | {self._rank: self._mine}
        here = found.keys() if self._comm is None else self._comm.nodes.runs[self._comm.nodes.mine]
        return [found[rank] for rank in sorted(found) if rank in here]

    def _check(self) -> None:
        clock = self._clock
        waited = time.perf_counter() - clock.since
        if clock.awaited:
            self._check_awaited(waited)
            return
        if clock.current == Stage.WAITING:
            self._look_for_left(waited)
        if clock.since == self._warned and not self._must_end(waited):
            return
        if (self._warn_after and waited > self._warn_after) or self._must_end(waited):
            if clock.current == Stage.WAITING:
                self._report_wait(waited)
            elif self._trains and (text := self._slow()) is not None:
                self._report(text)

    def _check_awaited(self, waited: float) -> None:
        """Say for how long this rank has waited for something else than ranks, unless another rank of the node does."""
        first = min(one.rank for one in self._activities() if one.state == self._mine.state)
        if self._rank != first:
            return
        text = f"on {self._host} rank {self._rank} has waited for {self._clock.awaited} for {waited:.0f} s at step "
        text += f"{self._clock.step + 1}"
        if self._end_after and waited > self._end_after:
            self._end(f"{text}; all ranks end, as watch.end_after is {self._end_after:g} s")
        elif self._warn_after and waited > self._warn_after and self._clock.since != self._warned:
            self._report(text)

    def _must_end(self, waited: float) -> bool:
        return bool(self._end_after) and waited > self._end_after and self._clock.current == Stage.WAITING

    def _report_wait(self, waited: float) -> None:
        """Name the ranks that this one waits for, unless another rank does so; end all if the wait cannot end."""
        found = self._activities()
        text = self._waiting(found, waited)
        if text is None:
            self._warned = self._clock.since
        elif self._must_end(waited):
            self._end(f"{text}; all ranks end, as watch.end_after is {self._end_after:g} s")
        elif _all_have_left(found):
            self._end_without(text)
        else:
            self._report(text)

    def _look_for_left(self, waited: float) -> None:
        """End all ranks if this one waits only for ranks of its node that have come to the end of their program.

        Where there are other nodes, they may have left rightly, and a rank of another node may be late: then only
        warn_after decides.
        """
        if waited < LEFT_SECONDS:
            self._next_look = LEFT_SECONDS
        elif waited >= self._next_look and self._comm is not None and self._comm.nodes.count == 1:
            self._next_look = 2 * waited
            found = self._activities()
            if _all_have_left(found) and (text := self._waiting(found, waited)) is not None:
                self._end_without(text)

    def _end_without(self, text: str) -> None:
        self._end(f"{text}, and cannot arrive; all ranks end")

    def _report(self, text: str) -> None:
        self._warned = self._clock.since
        self._say(f"warning: {text}")

    def _end(self, text: str) -> None:
        self._say(f"dbp: error: {text}")
        time.sleep(CHECK_SECONDS / 5)  # until a launcher has passed it on
        self._abort(1)

    def _waiting(self, found: list[RankActivity], waited: float) -> str | None:
        """Return what to say of the ranks that this one waits for; None if another rank will say it."""
        if self._rank != min(one.rank for one in found if one.waits or one.rank == self._rank):
            return None
        late = [one for one in found if not one.waits]
        if late:
            return f"on {self._host} {waiting_text(found)} for {waited:.0f} s, as {'; '.join(map(str, late))}"
        if self._comm is None:
            return f"on {self._host} {waiting_text(found)} for {waited:.0f} s for other ranks to be connected"
        nodes, missing = self._comm.nodes, self._clock.missing()
        late_nodes = {node for node, run in enumerate(nodes.runs) if set(run) & set(missing)}
        if nodes.mine != min(set(range(nodes.count)) - late_nodes):
            return None
        behind = f"rank {listed(missing)}" if missing else "ranks of other nodes"
        step = self._clock.step + 1
        return f"on {self._host} {waiting_text(found)} for {waited:.0f} s at step {step} for {behind}"

    def _slow(self) -> str | None:
        """Return what to say of this rank if ranks of other nodes may wait for it."""
        if self._comm is None or self._comm.nodes.count == 1 or self._clock.current in LONG:
            return None
        found = self._activities()
        if any(one.waits for one in found if one.rank != self._rank):
            return None
        return f"on {self._host} {next(one for one in found if one.rank == self._rank)}"


def _all_have_left(found: list[RankActivity]) -> bool:
    """Return True if some ranks have not arrived, and all of them have come to the end of their program."""
    late = [one for one in found if not one.waits]
    return bool(late) and all(one.state == LEFT for one in late)


def _write(text: str) -> None:
    run_log.write(text)
    write_error(text)
