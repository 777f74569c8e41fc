"""Other data than that of the training, brought into the same order by its names, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dbp.data.dataset import Dataset, Examples, Rows, paths_of, pieces_of, role_of, weights_for
from dbp.data.meaning import ColumnMeaning, Meaning, kind_of, listed, missing_names
from dbp.data.placeholders import unused_targets
from dbp.data.scaling import Numbers, are_close, check_scale, check_shift
from dbp.errors import UserError
from dbp.text import shortened
from dbp.types import Array

Remedy = Callable[[Any, Any], str]  # of two scales that are single numbers
UNKNOWN = -1  # the number of a class that the training data does not have


def meaning_of(data: Dataset) -> Meaning:
    """Return the meaning of a data set; of a class of the user's own, kind and scale of the inputs are known.

    Raises:
        UserError: a scale is none.
    """
    known: Meaning | None = getattr(data, "meaning", None)
    if known is None:
        examples = data.read(slice(0, 1))
        inputs = [column for column in examples if role_of(column) == "inputs"]
        shift = getattr(data, "shift", None)
        known = {column: ColumnMeaning(kind_of(examples[column].dtype), data.scale, shift=shift) for column in inputs}
    return {column: _with_floats(data.name, what) for column, what in known.items()}


def _with_floats(name: str, what: ColumnMeaning) -> ColumnMeaning:
    scale, shift = what.scale, what.shift
    return what._replace(
        scale=None if scale is None else check_scale(f"{name}: scale", scale),
        shift=None if shift is None else check_shift(f"{name}: shift", shift),
    )


def aligned(data: Dataset, reference: Meaning, remedy: Remedy | None, own_scale: bool = True) -> Dataset:
    """Return a data set with columns and classes in the order of the training data, by their names.

    What is not known of one of them is not compared, but kind and scale of inputs always are. Where the training data
    has names and this data has none, a warning of the result says so.

    Args:
        data: the data set.
        reference: the meaning of the training data.
        remedy: returns how the user can state the scale of the data, from the scale of the training data and that of
            the data; None if it was stated just now, so that it need not be compared.
        own_scale: whether the scale of the data is its own, rather than one for all data of the run.

    Raises:
        UserError: the numbers do not mean the same.
    """
    found, known = dict(meaning_of(data)), dict(reference)
    _check_named(data.name, found, known)
    orders: dict[str, Array] = {}
    class_numbers: dict[str, Array] = {}
    for column in [column for column in reference if column in found]:
        of_data, expected = found[column], reference[column]
        of_data, expected = _with_classes(of_data, expected), _with_classes(expected, of_data)
        found[column], known[column] = of_data, expected
        if (order := _order(data.name, column, of_data.names, expected.names)) is not None:
            orders[column] = order
            found[column] = of_data = of_data.reordered(order.tolist())
        if role_of(column) == "targets":
            _check_targets_scale(data.name, column, of_data, expected)
        elif remedy is not None:
            _check_numbers(data.name, column, of_data, expected, remedy, own_scale)
        if role_of(column) == "targets" or remedy is not None:
            _check_units(data.name, column, of_data, expected)
        if of_data.classes is not None and expected.classes is not None:
            table = _class_numbers(data.name, column, of_data.classes, expected.classes)
            if table is not None:
                class_numbers[column] = table
    warnings = _not_compared(data.name, missing_names(found, known))
    if not (orders or class_numbers or warnings):
        return data
    numbers = {column: found[column] for column in reference if column in found}
    meaning = {
        column: what._replace(kind=numbers[column].kind, scale=numbers[column].scale, shift=numbers[column].shift)
        if column in numbers
        else what
        for column, what in reference.items()
    }
    return Aligned(data, orders, class_numbers, meaning, warnings)


def _check_named(name: str, found: Meaning, expected: Meaning) -> None:
    """Raise UserError if data lacks inputs of the training data, or one of its targets if it has some of them."""
    for role in ("inputs", "targets"):
        here, there = ([one for one in known if role_of(one) == role] for known in (found, expected))
        if (role == "targets" or not there) and not here:  # targets may be left out
            continue
        if missing := [one for one in there if one not in here]:
            lacking, has = (shortened([one.removeprefix(f"{role}.") for one in known]) for known in (missing, here))
            has = f"it has {has}" if here != [role] else f"its {role} have no name"
            raise UserError(
                f"{name}: lacks the {role} {lacking}, which the training data has; {has}: name them as there"
                if missing != [role]
                else f"{name}: has {role} with names ({shortened([*here])}), but those of the training data have none"
            )


def _not_compared(name: str, missing: Sequence[str]) -> list[str]:
    """Return a warning if the data has no names to compare with those of the training data."""
    if not missing:
        return []
    return [
        f"{name}: not compared: {', '.join(missing)}, which this data does not name; they must be in the order of the "
        "training data"
    ]


def _with_classes(one: ColumnMeaning, other: ColumnMeaning) -> ColumnMeaning:
    """Return a meaning whose names are its classes, if they are the classes of the other: a column for each class."""
    if one.classes is None and one.names and other.classes and set(one.names) == set(other.classes):
        return one._replace(names=None, classes=one.names)
    return one


def _check_numbers(
    name: str, column: str, found: ColumnMeaning, expected: ColumnMeaning, remedy: Remedy, own_scale: bool
) -> None:
    """Raise UserError unless inputs have the scale of training, and its kind if the scale is not their own."""
    has_scale = found.scale is not None or found.shift is not None
    if not _same_scale(found, expected) or (found.kind != expected.kind and not (has_scale and own_scale)):
        are_numbers = isinstance(found.factor, float) and isinstance(expected.factor, float)
        if are_numbers and found.shift is expected.shift is None:
            how = remedy(expected.factor, found.factor)
        else:
            how = f"give these {column} attributes scale and shift that bring them into the units of those"
        raise UserError(
            f"{name}: {column} are {found.numbers}, but those of the training data are {expected.numbers}; {how}"
        )


def _check_units(name: str, column: str, found: ColumnMeaning, expected: ColumnMeaning) -> None:
    """Raise UserError if the units of a column are known of both and differ."""
    if found.units is None or expected.units is None:
        return
    pairs = enumerate(zip(found.units, expected.units, strict=False))
    for number, (here, there) in pairs:
        if here and there and here != there:
            which = repr(expected.names[number]) if expected.names else f"number {number}"
            raise UserError(
                f"{name}: {column} have column {which} in {listed([here])}, but those of the training data are in "
                f"{listed([there])}; convert them, or correct the attribute units"
            )


def _check_targets_scale(name: str, column: str, found: ColumnMeaning, expected: ColumnMeaning) -> None:
    """Raise UserError if targets have another scale or shift than those of training."""
    if not _same_scale(found, expected):
        raise UserError(
            f"{name}: {column} are {found.numbers}, but those of the training data are {expected.numbers}; give these "
            f"{column} attributes scale and shift that bring them into the units of those"
        )


def _same_scale(one: ColumnMeaning, other: ColumnMeaning) -> bool:
    return are_close(one.factor, other.factor) and are_close(_offset(one), _offset(other))


def _offset(what: ColumnMeaning) -> Numbers:
    return 0.0 if what.shift is None else what.shift


def _order(name: str, column: str, found: Sequence[str] | None, expected: Sequence[str] | None) -> Array | None:
    """Return the index in the data of each element along the last axis of the training data; None for the same."""
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
    if not set(found) & set(expected):
        raise _unknown_classes(name, found, expected)
    numbers = np.array([expected.index(one) if one in expected else UNKNOWN for one in found])
    return None if np.array_equal(numbers, np.arange(len(numbers))) else numbers


def _unknown_classes(name: str, unknown: Sequence[str], expected: Sequence[str]) -> UserError:
    return UserError(
        f"{name}: the training data has no class {listed(unknown)}; it has {listed(expected)}: leave these examples "
        "out, or rename their classes"
    )


class Aligned:
    """A data set with columns and classes in the order of the training data.

    Args:
        data: the data set.
        orders: by column, the index of each element along its last axis where that is another.
        class_numbers: by column, the number that each class of the data has in training, or UNKNOWN, where that is
            another.
        meaning: that of the training data, but kind, scale and shift of the data set itself, in the new order.
        warnings: besides those of the data set.
    """

    def __init__(
        self,
        data: Dataset,
        orders: Mapping[str, Array],
        class_numbers: Mapping[str, Array],
        meaning: Meaning,
        warnings: Sequence[str] = (),
    ):
        self._data, self._orders, self._class_numbers = data, orders, class_numbers
        self.name, self.input_shape, self.meaning = data.name, data.input_shape, meaning
        self.scale = next((what.scale for column, what in meaning.items() if role_of(column) == "inputs"), data.scale)
        self.row_names = getattr(data, "row_names", None)
        self.warnings: Sequence[str] = (*getattr(data, "warnings", ()), *warnings)

    def __len__(self) -> int:
        return len(self._data)

    def paths(self) -> list[Path]:
        """Return the files of the data set."""
        return paths_of(self._data)

    def pieces(self, rows: range) -> Iterable[tuple[str, int, slice]]:
        """Return where consecutive rows lie, as pieces_of() does."""
        return pieces_of(self._data, rows)

    def read(self, rows: Rows) -> Examples:
        """Read rows in the order of the training data."""
        columns = dict(self._data.read(rows))
        for name in [name for name in self._orders if name in columns]:
            order, weights = self._orders[name], weights_for(name, columns) if role_of(name) == "targets" else None
            columns[name] = np.take(columns[name], order, axis=-1)
            if weights is not None and columns[weights].ndim == columns[name].ndim:  # one for each target
                columns[weights] = np.take(columns[weights], order, axis=-1)
        for name in [name for name in self._class_numbers if name in columns]:
            columns[name] = self._renumbered(name, columns[name], unused_targets(name, columns))
        return Examples(columns)

    def _renumbered(self, name: str, targets: Array, unused: Array | None) -> Array:
        """Return targets with the class numbers of training: integers, or probabilities along the last axis.

        Args:
            name: the column.
            targets: as they are stored.
            unused: a mask of those that may be any numbers, along their first axes.
        """
        numbers = self._class_numbers[name]
        if unused is not None:
            targets = targets.copy()
            targets[unused] = 0
        if targets.dtype.kind == "f" and targets.ndim > 1 and targets.shape[-1] == len(numbers):
            known = numbers != UNKNOWN
            self._check_known(name, np.flatnonzero(targets.reshape(-1, len(numbers)).any(axis=0) & ~known))
            probabilities = np.zeros((*targets.shape[:-1], len(self._classes(self.meaning[name]))), targets.dtype)
            probabilities[..., numbers[known]] = targets[..., known]
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
        renumbered = np.asarray(numbers[classes])
        counted = np.ones(renumbered.shape, bool)
        if unused is not None:
            counted[unused] = False
        self._check_known(name, np.unique(classes[counted & (renumbered == UNKNOWN)]))
        return np.where(renumbered == UNKNOWN, 0, renumbered)  # what is left of them is not used

    def _check_known(self, name: str, unknown: Array) -> None:
        """Raise UserError if a column has classes, given by their numbers in it, that the training data has not."""
        if len(unknown):
            found = self._classes(meaning_of(self._data)[name])
            raise _unknown_classes(self.name, [found[number] for number in unknown], self._classes(self.meaning[name]))

    @staticmethod
    def _classes(what: ColumnMeaning) -> Sequence[str]:
        return what.classes or what.names or ()  # columns of targets may be those of the classes
