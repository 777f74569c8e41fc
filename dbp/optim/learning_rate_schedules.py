"""Learning-rate schedules: a factor on the learning rate for every step, with an optional linear warm-up.

A factor depends only on the step, the number of steps and the costs of past epochs, so schedules keep no state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import ClassVar

from dbp.checks import check_at_least, check_from_0_to_1, check_positive
from dbp.errors import UserError
from dbp.text import brief


@dataclass(frozen=True)
class Schedule(ABC):
    """A factor on the learning rate for every step.

    Args:
        warmup_steps: the number of steps in which the factor rises linearly to the schedule's first one.
    """

    kind: ClassVar[str]
    uses_costs: ClassVar[bool] = True  # False saves the collection of past costs in every step
    warmup_steps: int = 0

    @property
    def by(self) -> str:
        """Return the column of the history that the factor depends on; "" for the cost."""
        return str(getattr(self, "metric", ""))

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise UserError(f"warmup_steps must not be negative, but is {self.warmup_steps}")

    def factor(self, step: int, steps: int, costs: Sequence[float] = ()) -> float:
        """Return the factor for a step.

        Args:
            step: counted from 0.
            steps: the number of steps of the run, or up to the schedule's horizon.
            costs: of the epochs so far, on the validation data if there are any; or the values of `metric`, negative if
                larger ones are better.
        """
        rise = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return rise * self.after_warmup(max(0, step - self.warmup_steps), max(1, steps - self.warmup_steps), costs)

    def horizon(self, epochs: int) -> int | None:  # noqa: ARG002
        """Return the epochs at whose end the factor is the final one, given those of the run; None if there is none."""
        return None

    @abstractmethod
    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:
        """Return the factor of the schedule itself.

        Args:
            step: counted from 0 at the end of the warm-up.
            steps: the number of steps after the warm-up, at least 1.
            costs: of the epochs so far.
        """


def _part(step: int, steps: int) -> float:
    """Return the part of the run that is done: 0 at its first step, 1 at its last."""
    return min(1.0, step / max(1, steps - 1))


@dataclass(frozen=True)
class Constant(Schedule):
    """The factor 1 at every step."""

    kind: ClassVar[str] = "constant"
    uses_costs: ClassVar[bool] = False

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """Return the factor for this step."""
        return 1.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """A factor that is multiplied by gamma after every `every_steps` steps."""

    kind: ClassVar[str] = "step"
    uses_costs: ClassVar[bool] = False
    every_steps: int = 1000
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, every_steps=self.every_steps)
        check_from_0_to_1(gamma=self.gamma)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """Return the factor for this step."""
        return float(self.gamma ** (step // self.every_steps))


@dataclass(frozen=True)
class Exponential(Schedule):
    """A factor that is multiplied by gamma after every step."""

    kind: ClassVar[str] = "exponential"
    uses_costs: ClassVar[bool] = False
    gamma: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        check_from_0_to_1(gamma=self.gamma)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """Return the factor for this step."""
        return float(self.gamma**step)


@dataclass(frozen=True)
class ToHorizon(Schedule):
    """A schedule that comes to its final factor, and stays there.

    Args:
        epochs: the number of epochs in which it does; 0 for those of the run.
    """

    uses_costs: ClassVar[bool] = False
    epochs: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, **{"schedule.epochs": self.epochs})

    def horizon(self, epochs: int) -> int:
        """Return the epochs at whose end the factor is the final one, given those of the run."""
        return self.epochs or epochs


@dataclass(frozen=True)
class Polynomial(ToHorizon):
    """A factor final_factor + (1 - final_factor) (1 - p)^power, with p the part of the run that is done."""

    kind: ClassVar[str] = "polynomial"
    power: float = 1.0
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(power=self.power)
        check_from_0_to_1(final_factor=self.final_factor)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """Return the factor for this step."""
        left = 1 - _part(step, steps)
        return self.final_factor + (1 - self.final_factor) * float(left**self.power)


@dataclass(frozen=True)
class Cosine(ToHorizon):
    """A factor that falls along half a cosine from 1 to final_factor at the run's last step.

    This is equation 5 of Loshchilov and Hutter 2017, without restarts.
    """

    kind: ClassVar[str] = "cosine"
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_from_0_to_1(final_factor=self.final_factor)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """Return the factor for this step."""
        return _along_cosine(1.0, self.final_factor, _part(step, steps))


def _along_cosine(start: float, end: float, part: float) -> float:
    """Return the value after a part of the way from start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


@dataclass(frozen=True)
class OneCycle(ToHorizon):
    """A factor that rises from initial_factor to 1 and then falls to final_factor (Smith and Topin 2018).

    Both ways follow half a cosine.

    Args:
        rise: the part of the steps in which it rises.
        initial_factor: at the first step.
        final_factor: at the last step.
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
        """Return the factor for this step."""
        top, last = max(0.0, self.rise * steps - 1), steps - 1
        if step < top:
            return _along_cosine(self.initial_factor, 1.0, step / top)
        return _along_cosine(1.0, self.final_factor, min(1.0, (step - top) / (last - top)) if top < last else 0.0)


@dataclass(frozen=True)
class Plateau(Schedule):
    """A factor that is multiplied by gamma when the cost or a metric has not improved for more than `patience` epochs.

    Args:
        gamma: from 0 to 1.
        patience: the number of epochs without improvement that are tolerated.
        threshold: the least relative decrease of the best cost that counts as an improvement.
        cooldown: the number of epochs after a reduction that are not counted.
        final_factor: the smallest factor.
        metric: the column of the history that counts; by default the cost, on the validation data if there are any.
    """

    kind: ClassVar[str] = "plateau"
    gamma: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    final_factor: float = 0.0
    metric: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("gamma", "threshold", "final_factor")
        check_from_0_to_1(**{name: getattr(self, name) for name in names})
        check_at_least(0, patience=self.patience, cooldown=self.cooldown)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """Return the factor after epochs with these costs; from all of them, so there is no state to save."""
        factor, best, stale_epochs, cooldown_left = 1.0, math.inf, 0, 0
        for cost in costs:
            improved = cost < best * (1 - self.threshold if best > 0 else 1 + self.threshold)
            best = cost if improved else best
            stale_epochs = 0 if improved or cooldown_left else stale_epochs + 1
            cooldown_left = max(0, cooldown_left - 1)
            if stale_epochs > self.patience:
                factor, stale_epochs, cooldown_left = max(self.final_factor, factor * self.gamma), 0, self.cooldown
        return factor


@dataclass(frozen=True)
class ScheduleFunction(Schedule):
    """A factor that a function returns; from Python only.

    Args:
        function: takes the step, counted from 0 at the end of the warm-up, and the number of steps after the warm-up;
            returns the factor. It must return the same on every rank.
    """

    kind: ClassVar[str] = "function"
    uses_costs: ClassVar[bool] = False
    function: Callable[[int, int], float] = field(kw_only=True)

    def after_warmup(self, step: int, steps: int, costs: Sequence[float]) -> float:  # noqa: ARG002
        """Return the factor for this step; raise UserError unless it is a number that is not negative."""
        factor = self.function(step, steps)
        if not (isinstance(factor, Real) and 0 <= factor < math.inf):
            error = UserError(
                f"a schedule must return a factor of 0 or more, but at step {step} of {steps} it returned "
                f"{brief(factor)}; write schedule=lambda step, steps: ..."
            )
            error.on_all_ranks = True  # as all ranks ask for the same factor
            raise error
        return float(factor)


SCHEDULES: dict[str, type[Schedule]] = {
    schedule.kind: schedule for schedule in (Constant, StepDecay, Exponential, Polynomial, Cosine, OneCycle, Plateau)
}
