"""Where a run stands: counted in epochs and steps, with the sums of the epoch so far and its history."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.objective import Totals

History = dict[str, list[float]]
COUNTED = ("epoch", "step", "step_in_epoch", "finished", "best_epoch", "best_cost", "elapsed")  # saved as they are


@dataclass
class Progress:
    """The part of a run's state that is neither weights nor optimizer.

    Args:
        metrics: names of the loss's metrics.
    """

    metrics: tuple[str, ...]
    epoch: int = 0  # complete ones
    step: int = 0  # since the start of the run
    step_in_epoch: int = 0
    finished: bool = False
    best_epoch: int = 0  # by validation cost if there is validation, else by training cost
    best_cost: float = float("inf")
    elapsed: float = 0.0  # seconds of training, over all starts
    totals: Totals = field(init=False)
    history: History = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start_epoch()
        self._since = time.perf_counter()

    def after_step(self, totals: Totals) -> None:
        """Count a step."""
        self.step += 1
        self.step_in_epoch += 1
        self.totals = self.totals + totals

    def after_epoch(self, validation: Mapping[str, float], learning_rate: float) -> dict[str, float]:
        """Count an epoch, and give its row of the history."""
        self.epoch += 1
        row = {"epoch": float(self.epoch), "step": float(self.step), "learning_rate": learning_rate}
        row |= self.totals.means(self.metrics)
        row |= {f"validation_{name}": value for name, value in validation.items()}
        row["seconds"] = self.clock()
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        cost = row.get("validation_cost", row["cost"])
        if cost < self.best_cost:
            self.best_epoch, self.best_cost = self.epoch, cost
        self._start_epoch()
        return row

    def _start_epoch(self) -> None:
        self.step_in_epoch, self.totals = 0, Totals(0.0, 0.0, (0.0,) * len(self.metrics))

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
