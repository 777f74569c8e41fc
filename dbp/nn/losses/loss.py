"""What a loss is: of each example, from the model's outputs and its target; and what is reported beside it."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np

from dbp.autodiff import ShapeError, Value
from dbp.errors import UserError
from dbp.types import Array

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
        """The loss at each place of each example, shape (examples, *places)."""
        ...

    def places(self, output_shape: Shape) -> Shape:
        """The shape of an example's losses: () for one; weights may be given to each."""
        ...

    def measure(self, outputs: Array, targets: Array) -> tuple[Array, ...]:
        """For each of the loss's metrics its value at each place, shape (examples, *places)."""
        ...

    def predict(self, outputs: Array) -> dict[str, Array]:
        """What the outputs say, by name, besides the outputs themselves."""
        ...


def check_weights(weights: Array | None, places: Shape) -> None:
    """UserError unless there is a weight for each example, or for each of its places (0 and 1 make a mask)."""
    if weights is not None and weights.shape[1:] != places[: weights.ndim - 1]:
        fitting = "one number per example" + (f", or of shape {places} per example" if places else "")
        raise UserError(f"weights must be {fitting}, but have shape {weights.shape[1:]} per example")


def check_numbers(targets: Array, output_shape: Shape, first: int) -> None:
    """Targets are finite numbers of the outputs' shape."""
    if targets.dtype.kind not in "buif":
        raise UserError(f"targets must be numbers, but are {targets.dtype}")
    shape = targets.shape[1:]
    if shape != output_shape and not (shape == () and output_shape == (1,)):
        raise UserError(f"targets must have the outputs' shape {output_shape} per example, but have {shape}")
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        row = int(np.argmax(~np.isfinite(targets).reshape(len(targets), -1).all(axis=1)))
        raise UserError(f"targets must be finite, but the one of example {first + row} is not")


def check_alike(outputs: Value, targets: Array) -> None:
    """ShapeError, as NumPy would make all pairs of them, unless outputs and targets have one shape."""
    if np.shape(outputs) != np.shape(targets):
        raise ShapeError(f"outputs have shape {np.shape(outputs)}, but targets {np.shape(targets)}")


def as_numbers(targets: Array, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Targets as numbers of the outputs' shape."""
    return targets.astype(dtype).reshape(len(targets), *output_shape)
