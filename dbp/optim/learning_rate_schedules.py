"""Learning-rate schedules: a factor on the learning rate for every step, with warm-up in front of any."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dbp.checks import check_at_least, check_from_0_to_1, check_positive
from dbp.errors import UserError


@dataclass(frozen=True)
class Schedule(ABC):
    """A factor for every step, which depends on nothing else than what factor() is told.

    Args:
        warmup_steps: in which it rises, in equal parts, to where the schedule begins.
    """

    kind: ClassVar[str]
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise UserError(f"warmup_steps must not be negative, but is {self.warmup_steps}")

    def factor(self, step: int, steps: int, costs: Sequence[float] = ()) -> float:
        """The factor for a step.

        Args:
            step: counted from 0.
            steps: of the run.
            costs: of the epochs so far: those of the validation data, if there are any.
        """
        rise = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return rise * self.after_warmup(max(0, step - self.warmup_steps), max(1, steps - self.warmup_steps), costs)

    @abstractmethod
    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:
        """The factor of the schedule itself, which begins after the warm-up."""


def _part(step: int, steps: int) -> float:
    """What part of a run is over, from 0 at its first step to 1 at its last."""
    return min(1.0, step / max(1, steps - 1))


@dataclass(frozen=True)
class Constant(Schedule):
    """Stays at 1."""

    kind: ClassVar[str] = "constant"

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """The factor for this step."""
        return 1.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Is multiplied by gamma after every so many steps."""

    kind: ClassVar[str] = "step"
    every_steps: int = 1000
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, every_steps=self.every_steps)
        check_from_0_to_1(gamma=self.gamma)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """The factor for this step."""
        return float(self.gamma ** (step // self.every_steps))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Is multiplied by gamma after every step."""

    kind: ClassVar[str] = "exponential"
    gamma: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        check_from_0_to_1(gamma=self.gamma)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """The factor for this step."""
        return float(self.gamma**step)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Falls from 1 to final_factor at the run's last step, as (1 - part)^power does to 0."""

    kind: ClassVar[str] = "polynomial"
    power: float = 1.0
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(power=self.power)
        check_from_0_to_1(final_factor=self.final_factor)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """The factor for this step."""
        left = 1 - _part(step, steps)
        return self.final_factor + (1 - self.final_factor) * float(left**self.power)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Falls along half a cosine from 1 to final_factor at the run's last step.

    Loshchilov and Hutter 2017, equation 5, without restarts.
    """

    kind: ClassVar[str] = "cosine"
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_from_0_to_1(final_factor=self.final_factor)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """The factor for this step."""
        return _along_cosine(1.0, self.final_factor, _part(step, steps))


def _along_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rises along half a cosine from initial_factor to 1, then falls to final_factor (Smith and Topin 2018).

    Args:
        rise: part of the steps in which it rises.
        initial_factor: at the first step.
        final_factor: at the last.
    """

    kind: ClassVar[str] = "one_cycle"
    rise: float = 0.3
    initial_factor: float = 0.04
    final_factor: float = 4e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("rise", "initial_factor", "final_factor")
        check_from_0_to_1(**{name: getattr(self, name) for name in names})

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """The factor for this step."""
        top, last = max(0.0, self.rise * steps - 1), steps - 1
        if step < top:
            return _along_cosine(self.initial_factor, 1.0, step / top)
        return _along_cosine(1.0, self.final_factor, min(1.0, (step - top) / (last - top)) if top < last else 0.0)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Is multiplied by gamma where the cost of epochs has not become better for more than `patience` of them.

    Args:
        gamma: the factor.
        patience: epochs without a better cost that are waited for.
        threshold: by what part a cost must be smaller than the best so far to be better.
        cooldown: epochs after a reduction that do not count.
        final_factor: below which it does not go.
    """

    kind: ClassVar[str] = "plateau"
    gamma: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("gamma", "threshold", "final_factor")
        check_from_0_to_1(**{name: getattr(self, name) for name in names})
        check_at_least(0, patience=self.patience, cooldown=self.cooldown)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """The factor after epochs with these costs: found from all of them, so that a resumed run needs no more."""
        factor, best, waited, rest = 1.0, math.inf, 0, 0
        for cost in costs:
            better = cost < best * (1 - self.threshold)
            best = cost if better else best
            waited = 0 if better or rest else waited + 1
            rest = max(0, rest - 1)
            if waited > self.patience:
                factor, waited, rest = max(self.final_factor, factor * self.gamma), 0, self.cooldown
        return factor


SCHEDULES: dict[str, type[Schedule]] = {
    schedule.kind: schedule for schedule in (Constant, StepDecay, Exponential, Polynomial, Cosine, OneCycle, Plateau)
}
