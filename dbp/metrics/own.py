"""A metric of the user's own: two functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from dbp.errors import UserError
from dbp.metrics.fitting import check_name
from dbp.metrics.metric_set import FittedMetric
from dbp.metrics.predictions import Predictions, TargetForm
from dbp.text import brief
from dbp.types import Array

HOW = "see docs/metrics.md"


@dataclass(frozen=True)
class OwnSums:
    """The sums that a user's function returns."""

    name: str
    width: int
    function: Callable[[Array, Array, Array], Any] = field(compare=False)

    def of(self, found: Predictions) -> Array:
        """Return the sums over some examples; UserError if they are not as many as at the start."""
        sums = _sums(self.name, self.function, found)
        if len(sums) != self.width:
            raise UserError(
                f"metric {self.name!r}: sums must return as many numbers for any examples, but returned {self.width} "
                f"and {len(sums)}; {HOW}"
            )
        return sums


@dataclass(frozen=True)
class Metric:
    """A metric that two functions define.

    Args:
        name: of the column in the history, an identifier.
        sums: sums(outputs, targets, weights) returns a list of numbers, each a sum over some examples. Outputs are
            (examples, ...) as the model returns them and targets as the loss takes them, numbers in the units of the
            data; weights are the example weights (examples,), or (examples, *positions) where the data has such.
        value: value(sums) returns a number, or several by name, whose columns are the metric's name, an underscore and
            theirs, from the sums over all examples.
        larger_is_better: whether an epoch with a larger value is the better one.
    """

    kind: ClassVar[str] = "own"
    needs_sample: ClassVar[bool] = True
    name: str
    sums: Callable[[Array, Array, Array], Any]
    value: Callable[[Array], Any]
    larger_is_better: bool

    def __post_init__(self) -> None:
        check_name(self.name)
        for part in ("sums", "value"):
            if not callable(getattr(self, part)):
                raise UserError(f"metric {self.name!r}: {part} must be a function, but is {brief(getattr(self, part))}")

    def fit(self, form: TargetForm) -> Sequence[FittedMetric]:
        """Return the metric of a run, whose columns the first example of the data shows; see MetricKind."""
        assert form.sample is not None
        first = _sums(self.name, self.sums, form.sample)
        columns = dict.fromkeys(_by_column(self.name, self.value(first)), bool(self.larger_is_better))

        def values(sums: Array, _: float) -> list[float]:
            found = _by_column(self.name, self.value(sums))
            if found.keys() != columns.keys():
                raise UserError(
                    f"metric {self.name!r}: value must return the same names for any sums, but returned "
                    f"{', '.join(columns)} and {', '.join(found)}; {HOW}"
                )
            return [found[name] for name in columns]

        return [FittedMetric(columns, OwnSums(self.name, len(first), self.sums), values)]


def _sums(name: str, function: Callable[[Array, Array, Array], Any], found: Predictions) -> Array:
    """Return what a user's function sums; raise UserError unless it is a list of numbers."""
    weights = np.ones(len(found.outputs)) if found.example_weights is None else found.wide_weights
    sums = function(found.outputs, found.targets, weights)
    try:
        array = np.asarray(sums, np.float64)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.ndim != 1 or not array.size:
        raise UserError(f"metric {name!r}: sums must return a list of numbers, but returned {brief(sums)}; {HOW}")
    return array


def _by_column(name: str, value: Any) -> dict[str, float]:
    """Return the value of a user's metric by column; raise UserError unless it is a number, or several by name."""
    several = value if isinstance(value, Mapping) else {"": value}
    try:
        found = {f"{name}_{key}" if key else name: float(number) for key, number in several.items()}
    except (TypeError, ValueError):
        found = {}
    if not found:
        raise UserError(f"metric {name!r}: value must return a number, or several by name, but returned {brief(value)}")
    for column in found:
        check_name(column)
    return found
