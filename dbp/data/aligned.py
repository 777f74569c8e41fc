"""Other data than that of the training, brought into the same order by its names, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dbp.data.dataset import Dataset, Examples, Rows, check_scale, role_of, weights_for, without_placeholders
from dbp.data.meaning import ColumnMeaning, Meaning, kind_of, listed
from dbp.errors import UserError
from dbp.types import Array

Remedy = Callable[[float, float], str]
SCALE_TOLERANCE = 1e-6  # relative, as some programs store a scale in single precision


def meaning_of(data: Dataset) -> Meaning:
    """Return the meaning of a data set; of a class of the user's own, kind and scale of the inputs are known.

    Raises:
        UserError: a scale is none.
    """
    known: Meaning | None = getattr(data, "meaning", None)
    if known is None:
        examples = data.read(slice(0, 1))
        inputs = [column for column in examples if role_of(column) == "inputs"]
        known = {column: ColumnMeaning(kind_of(examples[column].dtype), data.scale) for column in inputs}
    return {column: _with_float_scale(f"{data.name}: scale", what) for column, what in known.items()}


def _with_float_scale(name: str, what: ColumnMeaning) -> ColumnMeaning:
    return what if what.scale is None else what._replace(scale=check_scale(name, what.scale))


def aligned(data: Dataset, reference: Meaning, remedy: Remedy | None, own_scale: bool = True) -> Dataset:
    """Return a data set with columns and classes in the order of the training data, by their names.

    What is not known of one of them is not compared, but kind and scale of inputs always are.

    Args:
        data: the data set.
        reference: the meaning of the training data.
        remedy: returns how the user can state the scale of the data, from the scale of the training data and that of
            the data; None if it was stated just now, so that it need not be compared.
        own_scale: whether the scale of the data is its own, rather than one for all data of the run.

    Raises:
        UserError: the numbers do not mean the same.
    """
    found = meaning_of(data)
    orders: dict[str, Array] = {}
    class_numbers: dict[str, Array] = {}
    for column in [column for column in reference if column in found]:
        of_data, expected = found[column], reference[column]
        of_data, expected = _with_classes(of_data, expected), _with_classes(expected, of_data)
        if role_of(column) != "targets" and remedy is not None:
            _check_units(data.name, column, of_data, expected, remedy, own_scale)
        if (order := _order(data.name, column, of_data.names, expected.names)) is not None:
            orders[column] = order
        if of_data.classes is not None and expected.classes is not None:
            table = _class_numbers(data.name, column, of_data.classes, expected.classes)
            if table is not None:
                class_numbers[column] = table
    return Aligned(data, orders, class_numbers, reference) if orders or class_numbers else data


def _with_classes(one: ColumnMeaning, other: ColumnMeaning) -> ColumnMeaning:
    """Return a meaning whose names are its classes, if they are the classes of the other: a column for each class."""
    if one.classes is None and one.names and other.classes and set(one.names) == set(other.classes):
        return one._replace(names=None, classes=one.names)
    return one


def _check_units(
    name: str, column: str, found: ColumnMeaning, expected: ColumnMeaning, remedy: Remedy, own_scale: bool
) -> None:
    """Raise UserError unless inputs have the scale of training, and its kind if the scale is not their own."""
    same_scale = math.isclose(found.factor, expected.factor, rel_tol=SCALE_TOLERANCE)
    if not same_scale or (found.kind != expected.kind and (found.scale is None or not own_scale)):
        raise UserError(
            f"{name}: {column} are {found.units}, but those of the training data are {expected.units}; "
            f"{remedy(expected.factor, found.factor)}"
        )


def _order(name: str, column: str, found: Sequence[str] | None, expected: Sequence[str] | None) -> Array | None:
    """Return the place in the data of each element along the last axis of the training data; None for the same."""
    if found is None or expected is None or tuple(found) == tuple(expected):
        return None
    if sorted(found) != sorted(expected) or len(set(found)) < len(found):
        raise UserError(
            f"{name}: {column} have the columns {listed(found)}, but those of the training data are "
            f"{listed(expected)}; convert the data again with these columns"
        )
    return np.array([found.index(one) for one in expected])


def _class_numbers(name: str, column: str, found: Sequence[str], expected: Sequence[str]) -> Array | None:
    """Return the number that each class of the data has in training; None if it is the same for all."""
    if not found and not expected:
        return None
    if not found or not expected:
        here, there = ("numbers", "classes") if expected else ("classes", "numbers")
        classes = listed(found or expected)
        raise UserError(
            f"{name}: {column} are {here}, but those of the training data are {there} ({classes} are the classes); "
            "convert the table of numbers with --classes, which names the class of each number"
        )
    if unknown := [one for one in found if one not in expected]:
        raise UserError(
            f"{name}: the training data has no class {listed(unknown)}; it has {listed(expected)}: leave these "
            "examples out, or rename their classes"
        )
    numbers = np.array([expected.index(one) for one in found])
    return None if np.array_equal(numbers, np.arange(len(numbers))) else numbers


class Aligned:
    """A data set with columns and classes in the order of the training data.

    Args:
        data: the data set.
        orders: by column, the place of each element along its last axis where that is another.
        class_numbers: by column, the number that each class of the data has in training where that is another.
        reference: the meaning of the training data.
    """

    def __init__(
        self, data: Dataset, orders: Mapping[str, Array], class_numbers: Mapping[str, Array], reference: Meaning
    ):
        self._data, self._orders, self._class_numbers = data, orders, class_numbers
        self.name, self.scale, self.input_shape, self.meaning = data.name, data.scale, data.input_shape, reference
        self.warnings: Sequence[str] = getattr(data, "warnings", ())

    def __len__(self) -> int:
        return len(self._data)

    def read(self, rows: Rows) -> Examples:
        """Read rows in the order of the training data."""
        columns = dict(without_placeholders(self._data.read(rows)))
        for name in [name for name in self._orders if name in columns]:
            order, weights = self._orders[name], weights_for(name, columns) if role_of(name) == "targets" else None
            columns[name] = np.take(columns[name], order, axis=-1)
            if weights is not None and columns[weights].ndim == columns[name].ndim:  # one for each target
                columns[weights] = np.take(columns[weights], order, axis=-1)
        for name in [name for name in self._class_numbers if name in columns]:
            columns[name] = self._renumbered(name, columns[name], self._class_numbers[name])
        return Examples(columns)

    def _renumbered(self, name: str, targets: Array, numbers: Array) -> Array:
        """Return targets with the class numbers of training: integers, or probabilities along the last axis."""
        if targets.dtype.kind == "f" and targets.ndim > 1 and targets.shape[-1] == len(numbers):
            count = len(self.meaning[name].classes or ())
            probabilities = np.zeros((*targets.shape[:-1], count), targets.dtype)
            probabilities[..., numbers] = targets
            return probabilities
        if targets.ndim > 1 and targets.shape[-1] == len(numbers) > 1:  # one class for each position, or 0 and 1
            raise UserError(
                f"{self.name}: has its classes in another order than the training data, and its {name} could be "
                "numbers of classes or one column per class; give it the order of the training data"
            )
        classes = targets.astype(np.int64)
        if (classes != targets).any() or (classes < 0).any() or (classes >= len(numbers)).any():
            raise UserError(
                f"{self.name}: {name} must be numbers of the {len(numbers)} classes that the attribute classes "
                f"names, but go from {targets.min()} to {targets.max()}"
            )
        return numbers[classes]
