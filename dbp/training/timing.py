"""Timing of a run: each rank's seconds by stage, with its waiting for other ranks apart."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from dbp.parallel import Communicator, Stage

LARGE_SHARE, LARGE_SECONDS = 0.3, {Stage.DATA: 1.0, Stage.WAITING: 10.0}  # from both on the user is told what helps
UNEVEN = 1.25  # from this ratio of the most to the least work of a rank on, one rank holds up the others
SHOWN_SHARE, WIDTH = 0.01, 80  # of a stage to be named in the line; of that line
OF_A_STEP = [stage for stage in Stage if stage not in (Stage.EVALUATION, Stage.CHECKPOINT)]


@dataclass(frozen=True)
class Timing:
    """The clocks of all ranks.

    Args:
        hosts: the host of each rank.
        seconds: the seconds of each rank, by stage.
        steps: the steps in this time.
        memory: the most memory that each rank has had, in bytes, with what it shares with others.
    """

    hosts: Sequence[str]
    seconds: Sequence[Sequence[float]]
    steps: int
    memory: Sequence[int]

    @classmethod
    def gathered(cls, comm: Communicator, steps: int) -> Timing:
        """Gather the clocks as they are now; collective."""
        comm.clock.enter(comm.clock.current)
        mine = socket.gethostname(), list(comm.clock.seconds), peak_memory()
        hosts, seconds, memory = zip(*comm.gather(mine), strict=True)
        return cls(hosts, seconds, steps, memory)

    def own_work(self, rank: int) -> float:
        """Return the seconds of a rank in steps, without waiting."""
        return sum(self.seconds[rank][stage] for stage in OF_A_STEP if stage != Stage.WAITING)

    def __str__(self) -> str:
        """Return the mean time of a step with its largest stages, and which ranks work least and most."""
        mean = [sum(seconds[stage] for seconds in self.seconds) / len(self.seconds) for stage in Stage]
        whole = sum(mean[stage] for stage in OF_A_STEP)
        line, mark = f"a step took {self._per_step(whole)}", ":"
        for stage in sorted(OF_A_STEP, key=lambda stage: -mean[stage]):
            share = f"{mark} {stage.label} {mean[stage] / whole:.0%}"
            if mean[stage] >= SHOWN_SHARE * whole and len(line) + len(share) <= WIDTH:
                line, mark = line + share, ","
        if len(self.seconds) == 1:
            return line
        extremes = [f"{self._per_step(self.own_work(rank))} (rank {rank})" for rank in self._extremes]
        return f"{line}\nown work in a step: {' to '.join(extremes)}"

    @property
    def _extremes(self) -> tuple[int, int]:
        """Return the ranks that work least and most."""
        ranks = range(len(self.seconds))
        return min(ranks, key=self.own_work), max(ranks, key=self.own_work)

    def takes_long(self, stage: Stage) -> bool:
        """Return True if a stage takes so large a part of a step that advice is due."""
        of_stage = sum(seconds[stage] for seconds in self.seconds)
        whole = sum(seconds[stage] for seconds in self.seconds for stage in OF_A_STEP)
        return of_stage > LARGE_SHARE * whole and of_stage > LARGE_SECONDS[stage] * len(self.seconds)

    @property
    def advice_on_waiting(self) -> str:
        """Return what helps if ranks wait for one another for a large part of a step; "" if they do not."""
        if not self.takes_long(Stage.WAITING):
            return ""
        least, most = self._extremes
        if self.own_work(most) > UNEVEN * self.own_work(least):
            return (
                f"ranks wait for rank {most} on {self.hosts[most]}, which works longest: see with dbp doctor whether "
                "other programs use its cores, or ranks share them"
            )
        return (
            "ranks wait for one another: if no other programs use their cores (dbp doctor), give each more to do in a "
            "step by a larger batch_size, or start fewer ranks"
        )

    def _per_step(self, seconds: float) -> str:
        milliseconds = seconds / self.steps * 1e3
        return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"

    def table(self) -> str:
        """Return comma-separated values: a line per rank with its seconds by stage, and its memory in bytes."""
        lines = [f"rank,host,{','.join(stage.label for stage in Stage)},memory"]
        for rank, (host, seconds, memory) in enumerate(zip(self.hosts, self.seconds, self.memory, strict=True)):
            lines.append(f"{rank},{host},{','.join(f'{s:.6f}' for s in seconds)},{memory}")
        return "\n".join(lines) + "\n"


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
