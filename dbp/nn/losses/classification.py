"""Losses of classes: outputs are logits, one a class, or one a yes-or-no question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import Value, cross_entropy_block, log_softmax, mean, pick, relu, reshape, sigmoid, softplus, sum_
from dbp.errors import UserError
from dbp.nn.losses.loss import Shape, as_numbers, check_alike, check_numbers
from dbp.types import Array

TOLERANCE = 1e-3  # of the sum of probabilities, which may have been stored in half precision


def _row(wrong: Any) -> int:
    """The first example with something wrong in it."""
    return int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))


def _check_classes(kind: str, targets: Array, output_shape: Shape, first: int) -> None:
    *places, classes = output_shape
    if targets.dtype.kind not in "iu" or targets.shape[1:] != tuple(places):
        wanted = f"integers of shape {tuple(places)} per example, as outputs have {output_shape}"
        remedy = "is a flatten layer missing?" if places else "use mean_squared_error for real numbers"
        raise UserError(
            f"targets of {kind} must be {wanted if places else 'one integer per example'}, but are {targets.dtype} of "
            f"shape {targets.shape[1:]} per example; {remedy}"
        )
    wrong = (targets < 0) | (targets >= classes)
    if wrong.any():
        raise UserError(
            f"targets of {kind} must lie from 0 to {classes - 1}, as the model has {classes} outputs"
            f"{' at each place' if places else ''}, but example {first + _row(wrong)} has {targets[wrong][0]}"
        )


def _check_probabilities(kind: str, targets: Array, output_shape: Shape, first: int) -> None:
    check_numbers(targets, output_shape, first)
    wrong = (targets < 0).any(axis=-1) | (np.abs(targets.sum(axis=-1, dtype=np.float64) - 1) > TOLERANCE)
    if wrong.any():
        raise UserError(
            f"targets of {kind} must be probabilities that add up to 1, but example {first + _row(wrong)} has "
            f"{targets[_row(wrong)]}"
        )


def _rows(x: Value) -> Value:
    """The last axis as rows of a matrix."""
    return x if x.ndim == 2 else reshape(x, shape=(math.prod(np.shape(x)[:-1]), np.shape(x)[-1]))


def _of_target(x: Value, targets: Array) -> Value:
    """At each place what x has for the target's class."""
    return reshape(pick(_rows(x), index=targets.reshape(-1)), shape=targets.shape)


class Classes:
    """What losses of one class out of several have in common; outputs are (examples, *places, classes)."""

    kind: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Targets are integers within the number of outputs, or probabilities of all classes."""
        _check_output(self.kind, output_shape)
        if targets.dtype.kind == "f" and targets.ndim == len(output_shape) + 1:
            _check_probabilities(self.kind, targets, output_shape, first)
        else:
            _check_classes(self.kind, targets, output_shape, first)

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Targets as indices, or as probabilities."""
        return targets.astype(np.intp if targets.ndim == len(output_shape) else dtype)

    def places(self, output_shape: Shape) -> Shape:
        """All axes but the classes'."""
        return output_shape[:-1]

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """Whether the largest output is that of the target's class, or of its most probable one."""
        classes = targets if targets.ndim < outputs.ndim else np.argmax(targets, axis=-1)
        return (np.argmax(outputs, axis=-1) == classes,)

    def predict(self, outputs: Array) -> dict[str, Array]:
        """The most probable class, and the probabilities of all."""
        return {"classes": np.argmax(outputs, axis=-1), "probabilities": np.exp(log_softmax(outputs))}


def _check_output(kind: str, output_shape: Shape) -> None:
    if not output_shape:
        raise UserError(f"{kind} takes one output per class, but the model gives one number per example")


@dataclass(frozen=True)
class CrossEntropy(Classes):
    """The negative logarithm of the probability, by softmax, of the class that the target names.

    Targets (examples, *places) of integers, or (examples, *places, classes) of probabilities, by which it is averaged.
    With label_smoothing s, targets count 1 - s and all classes together s (Szegedy et al. 2016).
    """

    kind: ClassVar[str] = "cross_entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing must be at least 0 and below 1, but is {self.label_smoothing}")

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """-log softmax(outputs)[target]."""
        certain, s = targets.ndim < outputs.ndim, self.label_smoothing
        if certain and not s:
            return cross_entropy_block(outputs, targets=targets)
        logarithms = log_softmax(outputs)
        loss = -_of_target(logarithms, targets) if certain else -sum_(logarithms * targets, axis=-1)
        return (1 - s) * loss - s * mean(logarithms, axis=-1) if s else loss


@dataclass(frozen=True)
class KullbackLeibler(Classes):
    """How much the probabilities by softmax diverge from those of the target, sum(t log(t / p)).

    Targets (examples, *places, classes) of probabilities, or integers, which stand for certainty.
    """

    kind: ClassVar[str] = "kullback_leibler"

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """The cross-entropy less the target's own entropy."""
        loss = CrossEntropy()(outputs, targets)
        if targets.ndim < outputs.ndim:
            return loss
        logarithms = np.log(np.where(targets > 0, targets, 1))
        return loss + np.sum(targets * logarithms, axis=-1)


@dataclass(frozen=True)
class Hinge(Classes):
    """By how much other outputs come within the margin of the target's one (Weston and Watkins 1999).

    Targets (examples, *places) of integers; averaged over the classes.
    """

    kind: ClassVar[str] = "hinge"
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise UserError(f"margin must be positive, but is {self.margin}")

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Targets are integers within the number of outputs."""
        _check_output(self.kind, output_shape)
        _check_classes(self.kind, targets, output_shape, first)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """The mean over the classes but the target's of max(0, margin - z[target] + z[class])."""
        own = reshape(_of_target(outputs, targets), shape=(*targets.shape, 1))
        # The target's own class adds the margin itself, which is taken off again.
        return mean(relu(outputs - own + self.margin), axis=-1) - self.margin / np.shape(outputs)[-1]


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """The cross-entropy of independent yes-or-no targets; an output is the logit of its probability.

    Outputs and targets (examples, ...), or targets (examples,) for one output; one loss for each output.
    """

    kind: ClassVar[str] = "binary_cross_entropy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Targets lie from 0 to 1 and have the outputs' shape."""
        check_numbers(targets, output_shape, first)
        wrong = ((targets < 0) | (targets > 1)).reshape(len(targets), -1).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(
                f"targets of binary_cross_entropy must lie from 0 to 1, but example {first + row} has {targets[row]}"
            )

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Targets as numbers of the outputs' shape."""
        return as_numbers(targets, output_shape, dtype)

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """log(1 + exp(z)) - y z, which is -y log p - (1 - y) log(1 - p) for p = sigmoid(z)."""
        check_alike(outputs, targets)
        return softplus(outputs) - outputs * targets

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """Whether outputs lie on their target's side of one half."""
        return ((outputs > 0) == (targets > 0.5),)

    def places(self, output_shape: Shape) -> Shape:
        """Every output is one."""
        return output_shape

    def predict(self, outputs: Array) -> dict[str, Array]:
        """The class 0 or 1 of each output, and its probability."""
        return {"classes": (outputs > 0).astype(np.int64), "probabilities": sigmoid(outputs)}
