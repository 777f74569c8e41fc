"""Where a run stands: counted in epochs and steps, with the sums of the epoch so far and its history."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.cost.objective import Totals

History = dict[str, list[float]]
# Saved as they are.
COUNTED = (
    "epoch",
    "step",
    "step_in_epoch",
    "evaluations",
    "products",
    "skipped",
    "way_back",
    "way_back_before",
    "trouble_step",
    "gone_back",
    "rate_factor",
    "length",
    "finished",
    "outcome",
    "best_epoch",
    "best_step",
    "best_value",
    "elapsed",
)


def complaint(attributes: Mapping[str, Any]) -> str | None:
    """What is wrong with attributes that to_attributes() is said to have given; None if nothing is."""
    for name in COUNTED:
        value, usual = attributes.get(name), Progress.__dataclass_fields__[name].default
        if type(value) is not type(usual) or (type(value) is int and value < 0):
            return f"its {name} is {value!r}"
    return None


def columns(metrics: tuple[str, ...], validation: bool) -> list[str]:
    """Those of the history by which epochs are compared."""
    own = ["cost", *metrics]
    return [*own, *(f"validation_{name}" for name in own)] if validation else own


def better(column: str, value: float, best: float) -> bool:
    """Whether a value of a column of the history is better than another, which may be no number."""
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return value > best if column.endswith("accuracy") else value < best


def epochs_since_best(column: str, values: Sequence[float], least_change: float) -> int:
    """How many epochs have passed since a value was better than all before, by at least so much."""
    best, since = math.nan, 0
    for value in values:
        worse = value - least_change if column.endswith("accuracy") else value + least_change
        if better(column, worse, best):
            best, since = value, 0
        else:
            since += 1
    return since


@dataclass
class Progress:
    """The part of a run's state that is neither weights nor optimizer.

    Args:
        metrics: names of the loss's metrics.
        best_by: column of the history by which the best epoch is found.
    """

    metrics: tuple[str, ...]
    best_by: str = "cost"
    epoch: int = 0  # complete ones
    step: int = 0  # since the start of the run
    step_in_epoch: int = 0
    evaluations: int = 0  # of the cost, by the optimizer, since the start of the run
    products: int = 0  # with second derivatives
    skipped: int = 0  # steps of the epoch whose cost or gradient was not finite
    way_back: int = 0  # the step of the last checkpoint that the settings ask for, whenever the run is interrupted
    way_back_before: int = 0  # and that of the one before it
    trouble_step: int = 0  # the last after which cost or gradient was not finite, and the run has gone back
    gone_back: int = 0  # how often it has since it was last beyond that step
    rate_factor: float = 1.0  # on the learning rate, as it has gone back
    length: float = 0.0  # of the last step: its learning rate, or what a line search found
    finished: bool = False
    outcome: str = ""  # why the optimizer could not go on, if it could not
    best_epoch: int = 0
    best_step: int = 0  # at its end
    best_value: float = math.nan
    elapsed: float = 0.0  # seconds of training, over all starts
    totals: Totals = field(init=False)
    history: History = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start_epoch()
        self._since = time.perf_counter()

    def after_step(self, totals: Totals, evaluations: int = 1, products: int = 0) -> None:
        """Count a step."""
        self.step += 1
        self.evaluations += evaluations
        self.products += products
        self.step_in_epoch += 1
        self.totals = self.totals + totals
        if self.step > self.trouble_step:
            self.gone_back = 0

    def after_skipped_step(self, evaluations: int = 1) -> None:
        """Count a step whose cost or gradient is not finite, and that changes nothing else."""
        self.step += 1
        self.evaluations += evaluations
        self.step_in_epoch += 1
        self.skipped += 1

    def mark(self) -> None:
        """A checkpoint that the settings ask for is due now."""
        if self.way_back != self.step:
            self.way_back_before, self.way_back = self.way_back, self.step

    def ways_back(self, best: bool) -> set[int]:
        """The steps of the checkpoints that the run may have to go back to; with the one that was the best then."""
        steps = {self.way_back, self.way_back_before}
        return steps | {self._best_at(self.way_back_before)} if best else steps

    def way_back_from_here(self) -> int | None:
        """The step of the last checkpoint from before now that the settings have asked for; None if there is none.

        Every other time in a row it is that of the one before: the last may hold weights on their way to infinity.
        """
        steps = [step for step in (self.way_back, self.way_back_before) if step < self.step]
        return steps[min(self.gone_back % 2, len(steps) - 1)] if steps else None

    def after_going_back(self, later: Progress, factor: float) -> None:
        """Count that the run has gone back to here, and goes on with its learning rate times a factor.

        Args:
            later: where cost or gradient was not finite.
            factor: besides the one that there was.
        """
        self.trouble_step = max(later.trouble_step, later.step)
        self.gone_back = later.gone_back + 1
        self.way_back_before = min(self.way_back, later.way_back_before)
        self.rate_factor = later.rate_factor * factor
        self.elapsed = later.elapsed

    @property
    def costs(self) -> list[float]:
        """Of the epochs so far, on the validation data if there are any."""
        return self.history.get("validation_cost") or self.history.get("cost", [])

    @property
    def cost(self) -> float | None:
        """Of the epoch so far, or else of the last one; None if it is no number, for which JSON has no word."""
        cost = self.totals.cost if self.totals.weight else [math.nan, *self.history.get("cost", [])][-1]
        return cost if math.isfinite(cost) else None

    def after_epoch(self, validation: Mapping[str, float], length: Mapping[str, float]) -> dict[str, float]:
        """Count an epoch, and give its row of the history.

        Args:
            validation: cost and metrics on the validation data.
            length: of the last step, by what it is called.
        """
        self.epoch += 1
        row = {name: float(getattr(self, name)) for name in ("epoch", "step", "evaluations", "products", "skipped")}
        row |= length
        means = self.totals.means(self.metrics)
        if self.skipped and self.skipped == self.step_in_epoch:
            means = dict.fromkeys(means, math.nan)
        row |= means
        row |= {f"validation_{name}": value for name, value in validation.items()}
        row["seconds"] = self.clock()
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        value = row[self.best_by]
        if better(self.best_by, value, self.best_value):
            self.best_epoch, self.best_step, self.best_value = self.epoch, self.step, value
        self._start_epoch()
        return row

    @property
    def is_best(self) -> bool:
        """Whether the run is at the end of its best epoch."""
        return self.best_step == self.step > 0

    def _best_at(self, step: int) -> int:
        """The step of the best of the epochs that had ended by then; 0 if there is none."""
        found, best = 0, math.nan
        for ended, value in zip(self.history.get("step", []), self.history.get(self.best_by, []), strict=True):
            if ended <= step and better(self.best_by, value, best):
                found, best = int(ended), value
        return found

    def _start_epoch(self) -> None:
        self.skipped, self.step_in_epoch, self.totals = 0, 0, Totals(0.0, 0.0, (0.0,) * len(self.metrics))

    def clock(self) -> float:
        """Seconds of training so far."""
        now = time.perf_counter()
        self.elapsed += now - self._since
        self._since = now
        return self.elapsed

    def to_attributes(self) -> dict[str, Any]:
        """All but the history, as plain values by name."""
        self.clock()
        sums = dict(zip(self.metrics, self.totals.metrics, strict=True))
        return (
            {name: getattr(self, name) for name in COUNTED}
            | {"epoch_weight": self.totals.weight, "epoch_loss": self.totals.loss}
            | {f"epoch_{name}": value for name, value in sums.items()}
        )

    def restore(self, attributes: Mapping[str, Any], history: Mapping[str, Any]) -> None:
        """Take up what to_attributes() gave, and the history."""
        for name in COUNTED:
            setattr(self, name, attributes[name])
        sums = tuple(attributes[f"epoch_{name}"] for name in self.metrics)
        self.totals = Totals(attributes["epoch_weight"], attributes["epoch_loss"], sums)
        self.history = {name: [float(x) for x in column] for name, column in history.items()}
        self._since = time.perf_counter()

    def history_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The history by column."""
        return {name: np.array(column) for name, column in self.history.items()}
