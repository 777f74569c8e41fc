"""Where a run stands: counted in epochs and steps, with the sums of the epoch so far and its history."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.objective import Totals

History = dict[str, list[float]]
# Saved as they are.
COUNTED = (
    "epoch",
    "step",
    "step_in_epoch",
    "evaluations",
    "products",
    "skipped",
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

    def after_skipped_step(self, evaluations: int = 1) -> None:
        """Count a step whose cost or gradient is not finite, and that changes nothing else."""
        self.step += 1
        self.evaluations += evaluations
        self.step_in_epoch += 1
        self.skipped += 1

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
