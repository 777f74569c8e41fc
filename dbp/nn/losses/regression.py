"""Regression losses: the distance of outputs from targets of the same shape, one loss per output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import Value, abs_, clip, square, squared_error_block
from dbp.checks import check_positive
from dbp.nn.losses.loss import NUMBERS, Shape, as_numbers, check_numbers, check_same_shape
from dbp.types import Array


class Regression:
    """Base of regression losses.

    Outputs and targets (examples, ...), or targets (examples,) for one output.
    """

    targets_are: ClassVar[str] = NUMBERS
    default_metrics: ClassVar[tuple[str, ...]] = ("mean_absolute_error",)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Raise UserError unless targets are finite numbers of the outputs' shape."""
        check_numbers(targets, output_shape, first)

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Return targets in this dtype, of the outputs' shape."""
        return as_numbers(targets, output_shape, dtype)

    def loss_shape(self, output_shape: Shape) -> Shape:
        """Return the outputs' shape: one loss per output."""
        return output_shape

    def predict(self, outputs: Array) -> dict[str, Array]:  # noqa: ARG002
        """Return nothing: the outputs are the prediction."""
        return {}


@dataclass(frozen=True)
class MeanSquaredError(Regression):
    """Squared difference, averaged over all outputs."""

    kind: ClassVar[str] = "mean_squared_error"

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return (output - target)^2 per output."""
        check_same_shape(outputs, targets)
        return square(outputs - targets)

    def averaged(self, outputs: Value, targets: Array, axes: int) -> Value:
        """Return the losses averaged over all but the first axes, in few passes."""
        check_same_shape(outputs, targets)
        return squared_error_block(outputs, targets, axes=axes)

    def draw(self, outputs: Array, numbers: np.random.Generator) -> Array:
        """Return targets from the distribution whose negative log probability the loss is: normal, variance 1/2."""
        noise = numbers.normal(0, math.sqrt(0.5), outputs.shape)
        return np.asarray(outputs + noise, outputs.dtype)


@dataclass(frozen=True)
class MeanAbsoluteError(Regression):
    """Absolute difference, averaged over all outputs."""

    kind: ClassVar[str] = "mean_absolute_error"

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return |output - target| per output."""
        check_same_shape(outputs, targets)
        return abs_(outputs - targets)

    def draw(self, outputs: Array, numbers: np.random.Generator) -> Array:
        """Return targets from the distribution whose negative log probability the loss is: Laplace's, of scale 1."""
        return np.asarray(outputs + numbers.laplace(size=outputs.shape), outputs.dtype)


@dataclass(frozen=True)
class Huber(Regression):
    """Huber loss: quadratic for differences up to delta, linear beyond (Huber 1964)."""

    kind: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        check_positive(delta=self.delta)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return d (|r| - d / 2) with r = output - target and d = min(|r|, delta)."""
        check_same_shape(outputs, targets)
        size = abs_(outputs - targets)
        d = clip(size, low=0.0, high=self.delta)
        return d * (size - 0.5 * d)
