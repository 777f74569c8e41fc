"""Learning-rate schedules: a factor on the learning rate for every step, with warm-up in front of any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from dbp.errors import UserError


class Schedule(Protocol):
    """What training asks of a schedule."""

    kind: ClassVar[str]

    def factor(self, step: int, steps: int) -> float:
        """The factor for a step, counted from 0, of a run of so many steps."""
        ...


def _check(warmup_steps: int) -> None:
    if warmup_steps < 0:
        raise UserError(f"warmup_steps must not be negative, but is {warmup_steps}")


@dataclass(frozen=True)
class Constant:
    """Rises in equal parts during the warm-up, then stays at 1."""

    kind: ClassVar[str] = "constant"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        _check(self.warmup_steps)

    def factor(self, step: int, steps: int) -> float:  # noqa: ARG002
        """The factor for this step."""
        return min(1.0, (step + 1) / (self.warmup_steps + 1))


@dataclass(frozen=True)
class Cosine:
    """Rises during the warm-up, then falls along half a cosine to final_factor at the run's last step.

    Loshchilov and Hutter 2017, equation 5, without restarts.
    """

    kind: ClassVar[str] = "cosine"
    warmup_steps: int = 0
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        _check(self.warmup_steps)
        if not 0 <= self.final_factor <= 1:
            raise UserError(f"final_factor must lie from 0 to 1, but is {self.final_factor}")

    def factor(self, step: int, steps: int) -> float:
        """The factor for this step."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        part = min(1.0, (step - self.warmup_steps) / max(1, steps - 1 - self.warmup_steps))
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * part)) / 2


SCHEDULES: dict[str, type[Schedule]] = {s.kind: s for s in (Constant, Cosine)}
