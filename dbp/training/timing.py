"""Timing of a run: each rank's seconds by stage, with its waiting for other ranks apart."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from dbp.parallel import Communicator, Stage

LARGE_SHARE, LARGE_SECONDS = 0.3, 1.0  # of the stage data: from both on the user is told what helps
OF_A_STEP = [stage for stage in Stage if stage not in (Stage.EVALUATION, Stage.CHECKPOINT)]


@dataclass(frozen=True)
class Timing:
    """The clocks of all ranks.

    Args:
        hosts: the host of each rank.
        seconds: the seconds of each rank, by stage.
        steps: the steps in this time.
    """

    hosts: Sequence[str]
    seconds: Sequence[Sequence[float]]
    steps: int

    @classmethod
    def gathered(cls, comm: Communicator, steps: int) -> Timing:
        """Gather the clocks as they are now; collective."""
        comm.clock.enter(comm.clock.current)
        everyones = comm.gather((socket.gethostname(), list(comm.clock.seconds)))
        return cls([host for host, _ in everyones], [seconds for _, seconds in everyones], steps)

    def own_work(self, rank: int) -> float:
        """Return the seconds of a rank in steps, without waiting."""
        return sum(self.seconds[rank][stage] for stage in OF_A_STEP if stage != Stage.WAITING)

    def __str__(self) -> str:
        """Return one line: the mean time of a step by stage, and which ranks work least and most."""
        ranks = range(len(self.seconds))
        mean = [sum(self.seconds[rank][stage] for rank in ranks) / len(ranks) for stage in Stage]
        whole = sum(mean[stage] for stage in OF_A_STEP)
        parts = ", ".join(f"{stage.label} {mean[stage] / whole:.0%}" for stage in OF_A_STEP if mean[stage])
        line = f"a step took {self._per_step(whole)}: {parts}"
        if len(ranks) == 1:
            return line
        least, most = min(ranks, key=self.own_work), max(ranks, key=self.own_work)
        extremes = [f"{self._per_step(self.own_work(rank))} (rank {rank})" for rank in (least, most)]
        return f"{line}; own work {' to '.join(extremes)}"

    @property
    def waits_for_data(self) -> bool:
        """Return True if the stage data takes so large a part of a step that advice is due."""
        of_data = sum(seconds[Stage.DATA] for seconds in self.seconds)
        whole = sum(seconds[stage] for seconds in self.seconds for stage in OF_A_STEP)
        return of_data > LARGE_SHARE * whole and of_data > LARGE_SECONDS * len(self.seconds)

    def _per_step(self, seconds: float) -> str:
        milliseconds = seconds / self.steps * 1e3
        return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"

    def table(self) -> str:
        """Return comma-separated values: a line per rank with its seconds by stage."""
        lines = [f"rank,host,{','.join(stage.label for stage in Stage)}"]
        for rank, (host, seconds) in enumerate(zip(self.hosts, self.seconds, strict=True)):
            lines.append(f"{rank},{host},{','.join(f'{s:.6f}' for s in seconds)}")
        return "\n".join(lines) + "\n"
