"""The progress of a run: counts of epochs and steps, the sums of the current epoch, and the history."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dbp.cost.mini_batch import ExampleSums
from dbp.metrics.metric_set import VALIDATION, MetricSet
from dbp.run.not_finite import NotFiniteRecord
from dbp.types import Array

STOPPED_EARLY = "stopped early"  # the beginning of the outcome of a run that early stopping has ended
STOPPED_BY_LISTENER = "stopped by listener"  # likewise, of one that a listener has ended; its name follows
VALIDATION_TABLES = "validation/"  # the beginning of the names of tables of the validation data
EPOCH = "epoch/"  # the beginning of the names of sums over the current epoch among the tables of a checkpoint
History = dict[str, list[float]]
# The fields of Progress that a checkpoint stores under their own names.
STORED = (
    "epoch",
    "step",
    "step_in_epoch",
    "evaluations",
    "products",
    "length",
    "finished",
    "outcome",
    "best_epoch",
    "best_step",
    "best_value",
    "elapsed",
)


def invalid_attribute(attributes: Mapping[str, Any]) -> str | None:
    """Return what is wrong with stored attributes of a Progress; None if nothing is."""
    defaults = {name: Progress.__dataclass_fields__[name].default for name in STORED} | asdict(NotFiniteRecord())
    for name, default in defaults.items():
        value = attributes.get(name)
        if type(value) is not type(default) or (type(value) is int and value < 0):
            return f"its {name} is {value!r}"
    return None


def comparable_columns(metrics: MetricSet, validation: bool) -> list[str]:
    """Return the columns of the history that epochs can be compared by.

    Args:
        metrics: of the run.
        validation: whether the run has validation data.
    """
    of_validation = [f"{VALIDATION}{name}" for name in ("cost", *metrics.columns)]
    return ["cost", *metrics.training.columns, *(of_validation if validation else [])]


def is_better(value: float, best: float, larger: bool) -> bool:
    """Return True if a value is better than another; one that is not finite is never better.

    Args:
        value: the value.
        best: the other one.
        larger: whether the larger one is better.
    """
    if not (math.isfinite(value) and math.isfinite(best)):
        return math.isfinite(value)
    return value > best if larger else value < best


def _counted(column: str, values: Sequence[float]) -> list[float]:
    """Return the values of a column that count; one example of the validation data can spoil a value of it."""
    return [value for value in values if math.isfinite(value)] if column.startswith(VALIDATION) else [*values]


def epochs_since_best(column: str, values: Sequence[float], least_change: float, larger: bool = False) -> int:
    """Return how many epochs have passed since a value was better than all before it by at least least_change.

    Validation values that are not finite do not count.

    Args:
        column: the name of the values in the history.
        values: one for each epoch.
        least_change: how much better a value must be.
        larger: whether larger values are better.
    """
    best, since = math.nan, 0
    for value in _counted(column, values):
        worse = value - least_change if larger else value + least_change
        if is_better(worse, best, larger):
            best, since = value, 0
        else:
            since += 1
    return since


@dataclass
class Progress:
    """The part of a run's state that is neither weights nor optimizer state.

    Args:
        metrics: of the run.
        best_by: the column of the history that decides which epoch is the best, and when early stopping ends the run.
        epoch: complete epochs.
        step: steps since the start of the run, skipped ones included.
        step_in_epoch: steps of the current epoch.
        evaluations: evaluations of the cost by the optimizer, since the start of the run.
        products: products with second derivatives, since the start of the run.
        length: the last step's learning rate, or the step length that a line search found.
        finished: whether the run has ended and its last checkpoint is being written.
        outcome: why the run ended before its last epoch; "" if it did not.
        best_epoch: the number of the best epoch.
        best_step: the step at its end.
        best_value: its value in the column best_by.
        elapsed: seconds of training, over all starts.
        not_finite: the record of steps whose cost or gradient was not finite.
        totals: sums over the examples of the current epoch.
        history: one list per column, with one number per epoch; NaN for epochs in which a metric was not taken.
        tables: arrays of metrics from the last evaluation, by names such as "validation/confusion_matrix".
    """

    metrics: MetricSet = field(default_factory=MetricSet)
    best_by: str = "cost"
    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    evaluations: int = 0
    products: int = 0
    length: float = 0.0
    finished: bool = False
    outcome: str = ""
    best_epoch: int = 0
    best_step: int = 0
    best_value: float = math.nan
    elapsed: float = 0.0
    not_finite: NotFiniteRecord = field(default_factory=NotFiniteRecord)
    totals: ExampleSums = field(init=False)
    history: History = field(default_factory=dict)
    tables: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start_epoch()
        self._since = time.perf_counter()

    @property
    def updates(self) -> int:
        """Return the number of steps that updated the weights."""
        return self.step - self.not_finite.skipped_steps

    @property
    def skipped_in_epoch(self) -> int:
        """Return the number of skipped steps of the current epoch."""
        return self.not_finite.skipped_steps - int(sum(self.history.get("skipped", [])))

    def after_step(self, totals: ExampleSums, evaluations: int = 1, products: int = 0) -> None:
        """Count a step that updated the weights."""
        self._count(evaluations)
        self.products += products
        self.totals = self.totals + totals
        self.not_finite.after_step(self.step)

    def after_skipped_step(self, evaluations: int = 1) -> None:
        """Count a step whose cost or gradient is not finite and which changes nothing else."""
        self._count(evaluations)
        self.not_finite.after_skipped_step()

    def _count(self, evaluations: int) -> None:
        self.step += 1
        self.step_in_epoch += 1
        self.evaluations += evaluations

    def to_minimize(self, column: str) -> list[float]:
        """Return the values of a column after each epoch that count, negative if larger ones are better."""
        values = _counted(column, self.history.get(column, []))
        return [-value for value in values] if self.metrics.larger_is_better(column) else values

    @property
    def cost(self) -> float | None:
        """Return the cost of the current epoch, else of the last one; None if it is not finite, as JSON has no NaN."""
        cost = self.totals.cost if self.totals.example_weight else [math.nan, *self.history.get("cost", [])][-1]
        return cost if math.isfinite(cost) else None

    def after_epoch(self, validation: Mapping[str, float], length: Mapping[str, float]) -> dict[str, float]:
        """Count an epoch and return its row of the history.

        Args:
            validation: cost and metrics on the validation data.
            length: the length of the last step, under its name: learning_rate or step_length.
        """
        self.epoch += 1
        row = {name: float(getattr(self, name)) for name in ("epoch", "step", "evaluations", "products")}
        row |= {"skipped": float(self.skipped_in_epoch), **length}
        means = self.totals.values(self.metrics.training)
        if row["skipped"] and row["skipped"] == self.step_in_epoch:
            means = dict.fromkeys(means, math.nan)
        row |= means
        row |= {f"{VALIDATION}{name}": value for name, value in validation.items()}
        row["seconds"] = self.clock()
        for name in {**row, **self.history}:
            column = self.history.setdefault(name, [math.nan] * (self.epoch - 1))
            column.append(row.get(name, math.nan))
        value = row[self.best_by]
        if is_better(value, self.best_value, self.metrics.larger_is_better(self.best_by)):
            self.best_epoch, self.best_step, self.best_value = self.epoch, self.step, value
        self._start_epoch()
        return row

    @property
    def is_best(self) -> bool:
        """Return True if the run is at the end of its best epoch."""
        return self.best_step == self.step > 0

    def forget_best(self) -> None:
        """Let the epochs to come decide alone which is the best."""
        self.best_epoch, self.best_step, self.best_value = 0, 0, math.nan

    def _start_epoch(self) -> None:
        training = self.metrics.training
        self.step_in_epoch, self.totals = 0, ExampleSums(0.0, 0.0, np.zeros(training.width), training.target_weights)

    def clock(self) -> float:
        """Return the seconds of training so far."""
        now = time.perf_counter()
        self.elapsed += now - self._since
        self._since = now
        return self.elapsed

    def to_attributes(self) -> dict[str, Any]:
        """Return all but the history and arrays, as plain values by name."""
        self.clock()
        sums = self.metrics.training.named_sums(self.totals.metrics)
        return (
            {name: getattr(self, name) for name in STORED}
            | asdict(self.not_finite)
            | {"best_by": self.best_by}
            | {"epoch_weight": self.totals.example_weight, "epoch_loss": self.totals.loss}
            | {f"epoch_{name}": float(found[0]) for name, found in sums if len(found) == 1}
        )

    def to_tables(self) -> dict[str, Array]:
        """Return the arrays that checkpoints keep: the tables of the last evaluation, and sums of the current epoch."""
        sums = self.metrics.training.named_sums(self.totals.metrics)
        return {**self.tables, **{f"{EPOCH}{name}": found.copy() for name, found in sums if len(found) > 1}}

    def restore(
        self, attributes: Mapping[str, Any], history: Mapping[str, Any], tables: Mapping[str, Array] | None = None
    ) -> None:
        """Take over the values of to_attributes() and to_tables(), and a history.

        Metrics that the run had not taken so far are NaN until the next epoch begins.
        """
        for name in STORED:
            setattr(self, name, attributes[name])
        self.not_finite = NotFiniteRecord(**{name: attributes[name] for name in asdict(NotFiniteRecord())})
        known = dict(tables or {})
        training = self.metrics.training
        sums = np.zeros(training.width)
        for name, found in training.named_sums(sums):  # views of them
            given = attributes.get(f"epoch_{name}") if len(found) == 1 else known.get(f"{EPOCH}{name}")
            without = math.nan if self.step_in_epoch else 0.0
            is_known = isinstance(given, (float, np.ndarray)) and np.size(given) == len(found)
            found[:] = np.asarray(given).reshape(-1) if is_known else without
        self.totals = ExampleSums(attributes["epoch_weight"], attributes["epoch_loss"], sums, training.target_weights)
        self.history = {name: [float(x) for x in column] for name, column in history.items()}
        self.tables = {name: table for name, table in known.items() if not name.startswith(EPOCH)}
        if attributes.get("best_by") != self.best_by:  # the value of the best epoch is one of another column
            self.forget_best()
        self._since = time.perf_counter()

    def history_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the history as one array per column."""
        return {name: np.array(column) for name, column in self.history.items()}
