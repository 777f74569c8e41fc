"""Data sets: rows of inputs, targets and weights, in memory or in an HDF5 file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from dbp.data.meaning import ColumnMeaning, Meaning, check_names, kind_of, texts
from dbp.errors import UserError
from dbp.files import machine_memory
from dbp.text import brief
from dbp.types import Array

SHOWN_LETTERS = 60  # of a value in a message
Rows = slice | Array  # consecutive rows, or row numbers in any order


class Examples(NamedTuple):
    """Some rows of a data set; weights are None if all examples have weight 1."""

    inputs: Array
    targets: Array | None
    weights: Array | None

    def __len__(self) -> int:
        return len(self.inputs)


@runtime_checkable
class Dataset(Protocol):
    """The interface of data for training. It may have a `meaning` besides: see ColumnMeaning."""

    name: str
    scale: float | None
    input_shape: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def read(self, rows: Rows) -> Examples:
        """Read rows as they are stored."""
        ...


def scaled(inputs: Array, scale: float | None, dtype: Any) -> Array:
    """Return inputs in the precision of the run, multiplied by the scale of the data set if it has one."""
    numbers = inputs.astype(dtype)
    if scale is not None:
        numbers *= scale
    return numbers


def without_placeholders(examples: Examples) -> Examples:
    """Return examples with zeros for the targets whose weight is 0, and for the inputs if an example's are all 0.

    What stands there, such as NaN or class -100, must count nowhere, but 0 times infinity is not 0.
    """
    inputs, targets, weights = examples
    if weights is None or weights.all():
        return examples
    unused = weights == 0
    if (rows := unused.reshape(len(unused), -1).all(axis=1)).any():
        inputs = inputs.copy()
        inputs[rows] = 0
    if targets is not None:
        if unused.ndim > targets.ndim:
            unused = unused.all(axis=tuple(range(targets.ndim, unused.ndim)))
        if targets.shape[: unused.ndim] == unused.shape:  # else the check of weights refuses them
            targets = targets.copy()
            targets[unused] = 0
    return Examples(inputs, targets, weights)


def counting_rows(weights: Array) -> Array:
    """Return for each example whether any of its weights is not 0."""
    return np.asarray((weights != 0).reshape(len(weights), -1).any(axis=1))


def check_scale(what: str, value: Any, remedy: str = "") -> float:
    """Return a scale of inputs; raise UserError unless it is one finite number other than 0."""
    number = float("nan")
    if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "uif":
        number = float(value)
    if not np.isfinite(number) or number == 0:
        shown = repr(value) if isinstance(value, (str, bytes)) else str(value)
        raise UserError(f"{what} must be one finite number other than 0, but is {shown[:SHOWN_LETTERS]}{remedy}")
    return number


def check_columns(name: str, inputs: Any, targets: Any = None, weights: Any = None) -> None:
    """Raise UserError unless all columns of a data set are numbers with one row per example."""
    for column, array in (("inputs", inputs), ("targets", targets), ("weights", weights)):
        if array is None:
            continue
        if array.dtype.kind not in "buif":
            raise UserError(f"{name}: {column} must be numbers, but have type {array.dtype}")
        if not array.shape or (column != "inputs" and array.shape[0] != inputs.shape[0]):
            rows = f"; inputs have {inputs.shape[0]} rows and {column}" if column != "inputs" else f", but {column}"
            raise UserError(
                f"{name}: every column needs one row per example{rows} have {array.shape[0] if array.shape else 'none'}"
            )
        if 0 in array.shape[1:]:
            raise UserError(f"{name}: {column} have shape {array.shape}, so an example has no numbers")
    shape = inputs.shape
    if shape[0] == 0:
        raise UserError(f"{name}: has no examples")
    if len(shape) < 2:
        raise UserError(
            f"{name}: inputs must have at least two axes, examples and features, but have shape "
            f"{shape}; reshape one feature to (examples, 1)"
        )
    needed = 4 * math.prod(shape[1:])  # in float32; a model is built with two examples
    if 2 * needed > (memory := machine_memory()):
        raise UserError(
            f"{name}: an example of inputs has shape {shape[1:]} and takes {needed:,} bytes, too many for the memory "
            f"of this machine ({memory:,}); is the first axis that of the examples?"
        )


class ArrayDataset:
    """Examples in memory, on every rank that has this object.

    Args:
        inputs: numbers (examples, ...).
        targets: (examples,) or (examples, ...), as the loss requires.
        weights: (examples,), or (examples, *positions) if an example has several losses; 0 leaves one out.
        scale: factor by which inputs are multiplied when they are used.
        name: name for messages.
        input_names: the names of the elements along the last axis of the inputs.
        classes: the name of each class number.

    Other data, such as that for validation, is brought into the order of these names.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        weights: Any = None,
        scale: float | None = None,
        name: str = "the arrays",
        input_names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
    ):
        self._inputs = np.asarray(inputs)
        self._targets = np.asarray(targets)
        self._weights = None if weights is None else np.asarray(weights)
        self.name, self.scale = name, None if scale is None else check_scale(f"{name}: scale", scale)
        check_columns(name, self._inputs, self._targets, self._weights)
        self.input_shape = self._inputs.shape[1:]
        names = (("names", "input_names", input_names), ("classes", "classes", classes))
        given = {kind: _texts(f"{name}: {key}", found) for kind, key, found in names if found is not None}
        for kind, column, array in (("names", "inputs", self._inputs), ("classes", "targets", self._targets)):
            if kind in given:
                check_names(f"{name}: {column}", kind, given[kind], array.shape)
        self.meaning: Meaning = {
            "inputs": ColumnMeaning(kind_of(self._inputs.dtype), self.scale, given.get("names")),
            "targets": ColumnMeaning(kind_of(self._targets.dtype), classes=given.get("classes")),
        }

    def __len__(self) -> int:
        return len(self._inputs)

    def read(self, rows: Rows) -> Examples:
        """Return rows."""
        weights = None if self._weights is None else self._weights[rows]
        return Examples(self._inputs[rows], self._targets[rows], weights)


def _texts(what: str, given: Any) -> tuple[str, ...]:
    """Return names as a tuple; raise UserError if they are no list of texts."""
    try:
        return texts(given)
    except (TypeError, ValueError):
        raise UserError(f"{what} must be a list of texts, but is {brief(given)}") from None
