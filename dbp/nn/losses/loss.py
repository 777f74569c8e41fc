"""The interface of losses, and checks of targets and weights that losses share."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np

from dbp.autodiff import ShapeError, Value, mean
from dbp.errors import MisfitError, UserError
from dbp.named_arrays import all_finite
from dbp.types import Array

Shape = tuple[int, ...]
# What the targets of a loss are, which decides what its outputs can be measured by: one class out of several, answers
# yes or no (one for each output), or numbers (likewise).
CLASSES, ANSWERS, NUMBERS = "classes", "answers", "numbers"


class Loss(Protocol):
    """A loss of outputs (examples, ...) for targets.

    `kind` names the loss in configs, and `default_metrics` the kinds of the metrics of dbp.metrics that are reported
    where a run sets none. An example has one loss, or one for each of its positions, such as those of a sequence. The
    cost is the mean of the losses, weighted with the example weights. A loss may have the attribute `targets_are`, one
    of CLASSES, ANSWERS and NUMBERS, by which metrics know what outputs and targets mean, and a method
    averaged(outputs, targets, axes), which returns the losses averaged over all but so many axes.
    """

    kind: ClassVar[str]
    default_metrics: ClassVar[tuple[str, ...]]

    def check(self, targets: Array, output_shape: Shape, first: int = 0) -> None:
        """Raise UserError, naming the rule, unless targets fit outputs of this shape per example.

        `first` is the number of their first example, for the message.
        """
        ...

    def prepare(self, targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Return checked targets in the form that the loss and metrics take."""
        ...

    def __call__(self, outputs: Value, targets: Array) -> Value:
        """Return the losses, of shape (examples, *loss_shape)."""
        ...

    def loss_shape(self, output_shape: Shape) -> Shape:
        """Return the shape of an example's losses, each of which may have a weight: () for one loss per example."""
        ...

    def predict(self, outputs: Array) -> dict[str, Array]:
        """Return what follows from outputs, by name, such as classes and probabilities."""
        ...


def as_weighted(losses: Value, example_weights: Array | None) -> Value:
    """Return one loss for each example weight: losses of elements that have no weights of their own are averaged."""
    axes = 1 if example_weights is None else example_weights.ndim
    return losses if losses.ndim == axes else mean(losses, axis=tuple(range(axes, losses.ndim)))


def weighted_losses(loss: Any, outputs: Value, targets: Array, example_weights: Array | None) -> Value:
    """Return the losses of outputs, one for each example weight; see as_weighted()."""
    if averaged := getattr(loss, "averaged", None):
        return averaged(outputs, targets, 1 if example_weights is None else example_weights.ndim)
    return as_weighted(loss(outputs, targets), example_weights)


def check_targets(loss: Loss, targets: Array, weights: Array | None, output_shape: Shape, first: int = 0) -> None:
    """Raise UserError unless targets and weights of some examples fit a loss.

    There must be a weight per example, or per loss of an example (0 and 1 make a mask).

    Args:
        loss: the loss.
        targets: the targets; zeros where the weight is 0.
        weights: the example weights, if there are any.
        output_shape: of the model, for one example.
        first: the number of the first example, for the message.
    """
    if weights is not None and weights.ndim < targets.ndim == 1 + len(output_shape):
        targets = _with_first_class(targets, weights == 0)
    loss.check(targets, output_shape, first)
    loss_shape = loss.loss_shape(output_shape)
    if weights is not None and weights.shape[1:] != loss_shape[: weights.ndim - 1]:
        fitting = "one number per example" + (f", or of shape {loss_shape} per example" if loss_shape else "")
        raise MisfitError(f"weights must be {fitting}, but have shape {weights.shape[1:]} per example")


def _with_first_class(targets: Array, unused: Array) -> Array:
    """Return targets with a column for each class, as probabilities have, with the first class where unused."""
    if targets.shape[: unused.ndim] == unused.shape and unused.any():
        targets = targets.copy()
        targets[unused, ..., 0] = 1
    return targets


def check_numbers(targets: Array, output_shape: Shape, first: int) -> None:
    """Raise UserError unless targets are finite numbers of the outputs' shape, or one number for one output."""
    if targets.dtype.kind not in "buif":
        raise MisfitError(f"targets must be numbers, but are {targets.dtype}")
    shape = targets.shape[1:]
    if shape != output_shape and not (shape == () and output_shape == (1,)):
        remedy = "; take cross_entropy for numbers of classes" if shape == output_shape[:-1] else ""
        raise MisfitError(f"targets must have the outputs' shape {output_shape} per example, but have {shape}{remedy}")
    check_finite(targets, first)


def check_finite(targets: Array, first: int) -> None:
    """Raise UserError, naming the first example at fault, unless targets are finite."""
    if not all_finite(targets):
        row = int(np.argmax(~np.isfinite(targets).reshape(len(targets), -1).all(axis=1)))
        raise UserError(f"targets must be finite, but the one of example {first + row} is not; set its weight to 0")


def check_same_shape(outputs: Value, targets: Array) -> None:
    """Raise ShapeError unless outputs and targets have the same shape, as NumPy would broadcast them."""
    if np.shape(outputs) != np.shape(targets):
        raise ShapeError(f"outputs have shape {np.shape(outputs)}, but targets {np.shape(targets)}")


def as_numbers(targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return targets in this dtype, of the outputs' shape; the same array if it has both."""
    return targets.astype(dtype, copy=False).reshape(len(targets), *output_shape)
