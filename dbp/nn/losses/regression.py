"""Losses of numbers: how far outputs are from targets of the same shape, one loss for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import Value, abs_, clip, square
from dbp.errors import UserError
from dbp.nn.losses.loss import Shape, as_numbers, check_alike, check_numbers
from dbp.types import Array


class Regression:
    """What losses of numbers have in common.

    Outputs and targets (examples, ...), or targets (examples,) for one output.
    """

    metrics: ClassVar[tuple[str, ...]] = ("mean_absolute_error",)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Targets are finite numbers of the outputs' shape."""
        check_numbers(targets, output_shape, first)

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Targets as numbers of the outputs' shape."""
        return as_numbers(targets, output_shape, dtype)

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """The absolute difference."""
        return (np.abs(outputs - targets),)

    def places(self, output_shape: Shape) -> Shape:
        """Every output is one."""
        return output_shape

    def predict(self, outputs: Array) -> dict[str, Array]:  # noqa: ARG002
        """Nothing besides the outputs."""
        return {}


@dataclass(frozen=True)
class MeanSquaredError(Regression):
    """The square of the difference."""

    kind: ClassVar[str] = "mean_squared_error"

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """(output - target)^2."""
        check_alike(outputs, targets)
        return square(outputs - targets)


@dataclass(frozen=True)
class MeanAbsoluteError(Regression):
    """The size of the difference."""

    kind: ClassVar[str] = "mean_absolute_error"

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """|output - target|."""
        check_alike(outputs, targets)
        return abs_(outputs - targets)


@dataclass(frozen=True)
class Huber(Regression):
    """Half the square of differences up to delta, and delta times the rest of larger ones (Huber 1964)."""

    kind: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise UserError(f"delta must be positive, but is {self.delta}")

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """d (|output - target| - d / 2), d being that size, at most delta."""
        check_alike(outputs, targets)
        size = abs_(outputs - targets)
        d = clip(size, low=0.0, high=self.delta)
        return d * (size - 0.5 * d)
