"""Losses: of each example, from the model's outputs and its target; and what is reported beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from dbp.autodiff import Array, Value, log_softmax, pick, sigmoid, softplus, sum_
from dbp.errors import UserError, unknown

Shape = tuple[int, ...]


class Loss(Protocol):
    """What the objective asks of a loss."""

    kind: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """UserError, naming the rule, if targets do not fit outputs of this shape; first is their first row."""
        ...

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """The targets in the form in which the loss takes them."""
        ...

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """The loss of each example, shape (examples,)."""
        ...

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """For each of the loss's metrics its value per example, shape (examples,)."""
        ...

    def predict(self, outputs: Array) -> dict[str, Array]:
        """What the outputs say, by name, besides the outputs themselves."""
        ...


def _example_mean(x: Value) -> Value:
    """The mean over all axes but the first."""
    return sum_(x, axis=tuple(range(1, np.ndim(x)))) / math.prod(np.shape(x)[1:])


def _check_numbers(targets: Array, output_shape: Shape, first: int) -> None:
    if targets.dtype.kind not in "buif":
        raise UserError(f"targets must be numbers, but are {targets.dtype}")
    shape = targets.shape[1:]
    if shape != output_shape and not (shape == () and output_shape == (1,)):
        raise UserError(f"targets must have the outputs' shape {output_shape} per example, but have {shape}")
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        row = int(np.argmax(~np.isfinite(targets).reshape(len(targets), -1).all(axis=1)))
        raise UserError(f"targets must be finite, but the one of example {first + row} is not")


@dataclass(frozen=True)
class CrossEntropy:
    """The negative logarithm of the probability, by softmax, of the class that the target names.

    Outputs (examples, classes), targets (examples,) of integers from 0 to classes - 1.
    """

    kind: ClassVar[str] = "cross_entropy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Targets are integers, one per example, within the number of outputs."""
        if len(output_shape) != 1:
            raise UserError(f"cross_entropy takes one row of outputs per example, not shape {output_shape}")
        if targets.dtype.kind not in "iu" or targets.ndim != 1:
            raise UserError(
                f"targets of cross_entropy must be one integer per example, but are {targets.dtype} of shape "
                f"{targets.shape[1:]} per example; use mean_squared_error for real numbers"
            )
        wrong = (targets < 0) | (targets >= output_shape[0])
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(
                f"targets of cross_entropy must lie from 0 to {output_shape[0] - 1}, as the model has "
                f"{output_shape[0]} outputs, but example {first + row} has {targets[row]}"
            )

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:  # noqa: ARG002
        """Targets as indices."""
        return targets.astype(np.intp)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """-log softmax(outputs)[target]."""
        return -pick(log_softmax(outputs), index=targets)

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """Whether the largest output is that of the target's class."""
        return (np.argmax(outputs, axis=1) == targets,)

    def predict(self, outputs: Array) -> dict[str, Array]:
        """The most probable class, and the probabilities of all."""
        return {"classes": np.argmax(outputs, axis=1), "probabilities": np.exp(log_softmax(outputs))}


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """The cross-entropy of independent yes-or-no targets; an output is the logit of its probability.

    Outputs and targets (examples, n), or targets (examples,) for one output; averaged over the outputs.
    """

    kind: ClassVar[str] = "binary_cross_entropy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Targets lie from 0 to 1 and have the outputs' shape."""
        _check_numbers(targets, output_shape, first)
        wrong = ((targets < 0) | (targets > 1)).reshape(len(targets), -1).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(
                f"targets of binary_cross_entropy must lie from 0 to 1, but example {first + row} has {targets[row]}"
            )

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Targets as numbers of the outputs' shape."""
        return targets.astype(dtype).reshape(len(targets), *output_shape)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """log(1 + exp(z)) - y z, which is -y log p - (1 - y) log(1 - p) for p = sigmoid(z)."""
        return _example_mean(softplus(outputs) - outputs * targets)

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """The part of the outputs that lie on their target's side of one half."""
        return (np.mean((outputs > 0) == (targets > 0.5), axis=tuple(range(1, outputs.ndim))),)

    def predict(self, outputs: Array) -> dict[str, Array]:
        """The class 0 or 1 of each output, and its probability."""
        return {"classes": (outputs > 0).astype(np.int64), "probabilities": sigmoid(outputs)}


@dataclass(frozen=True)
class MeanSquaredError:
    """The squared difference of output and target, averaged over the outputs.

    Outputs and targets (examples, ...), or targets (examples,) for one output.
    """

    kind: ClassVar[str] = "mean_squared_error"
    metrics: ClassVar[tuple[str, ...]] = ("mean_absolute_error",)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Targets are finite numbers of the outputs' shape."""
        _check_numbers(targets, output_shape, first)

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Targets as numbers of the outputs' shape."""
        return targets.astype(dtype).reshape(len(targets), *output_shape)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """The mean over the outputs of (output - target)^2."""
        difference = outputs - targets
        return _example_mean(difference * difference)

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """The absolute difference, averaged over the outputs."""
        return (np.mean(np.abs(outputs - targets), axis=tuple(range(1, outputs.ndim))),)

    def predict(self, outputs: Array) -> dict[str, Array]:  # noqa: ARG002
        """Nothing besides the outputs."""
        return {}


LOSSES: dict[str, type[Loss]] = {loss.kind: loss for loss in (CrossEntropy, BinaryCrossEntropy, MeanSquaredError)}


def loss_named(name: str) -> Loss:
    """The loss of that name; UserError for an unknown one."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]()


__all__ = ["LOSSES", "BinaryCrossEntropy", "CrossEntropy", "Loss", "MeanSquaredError", "loss_named"]
