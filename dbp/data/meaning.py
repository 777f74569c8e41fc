"""The meaning of the numbers in a data set: their kind, scale and units, and the names of columns and classes.

The meaning of a run's data is that of its training data, and checkpoints keep it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.data.scaling import Numbers, Scaling, exact_text, numbers_text
from dbp.errors import DataError, UserError
from dbp.text import count_text, shortened

INTEGERS, FLOATS = "integers", "floats"
NO_TEXTS = "it must be a list of texts"


class ColumnMeaning(NamedTuple):
    """The meaning of one column of a data set, such as its inputs.

    Args:
        kind: INTEGERS or FLOATS.
        scale: by which the numbers are multiplied when they are used; None if none was stated, which is 1.
        names: of the elements along the last axis; None if they are not known.
        classes: the name of each class number; empty if the targets are numbers; None if that is not known.
        shift: what is added then; None if none was stated, which is 0.
        units: of the elements along the last axis, "" where there is none; None if they are not known.
        mean: of the training data after that, which the run subtracts; None for 0.
        deviation: by which the run divides the difference; None for 1.
    """

    kind: str
    scale: Numbers | None = None
    names: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    shift: Numbers | None = None
    units: tuple[str, ...] | None = None
    mean: Numbers | None = None
    deviation: Numbers | None = None

    @property
    def factor(self) -> Numbers:
        """Return the factor by which the numbers are multiplied."""
        return 1.0 if self.scale is None else self.scale

    @property
    def scaling(self) -> Scaling:
        """Return the map from stored numbers to those that the model sees."""
        return Scaling.of(self.scale, self.shift, self.mean, self.deviation)

    @property
    def standardization(self) -> Scaling:
        """Return the last part of that map, by mean and deviation."""
        return Scaling.of(mean=self.mean, deviation=self.deviation)

    @property
    def numbers(self) -> str:
        """Return kind, scale and shift in words."""
        shift = "" if self.shift is None else f" and shift {numbers_text(self.shift)}"
        return f"{self.kind} with scale {numbers_text(self.factor)}{shift}"

    def reordered(self, order: Sequence[int]) -> ColumnMeaning:
        """Return the meaning of the column with its elements along the last axis in another order."""
        changed: dict[str, Any] = {
            name: tuple(values[i] for i in order)
            for name in ("scale", "shift", "names", "units")
            if isinstance(values := getattr(self, name), tuple)
        }
        return self._replace(**changed)

    def in_full(self) -> str:
        """Return all of the meaning as text, however long its lists are."""
        known = {name: value for name, value in self._asdict().items() if name != "kind" and value is not None}
        return "; ".join([self.kind, *(f"{name} {value}" for name, value in known.items())])

    def __str__(self) -> str:
        numbers = {name: getattr(self, name) for name in ("scale", "shift", "mean", "deviation")}
        parts = [self.kind, *(f"{name} {exact_text(value)}" for name, value in numbers.items() if value is not None)]
        parts += [f"columns {listed(self.names)}"] if self.names else []
        parts += [f"units {listed(self.units)}"] if self.units else []
        parts += [f"classes {listed(self.classes)}"] if self.classes else []
        return "; ".join(parts)


Meaning = Mapping[str, ColumnMeaning]  # by the name of the column: inputs, targets


def kind_of(dtype: Any) -> str:
    """Return whether numbers of a type are integers or floats."""
    return FLOATS if np.dtype(dtype).kind == "f" else INTEGERS


# --- as text ----------------------------------------------------------------------------------------


def meaning_text(meaning: Meaning) -> str:
    """Return the meaning as JSON, as checkpoints store it."""
    return json.dumps({column: what._asdict() for column, what in meaning.items()})


def parse_meaning(text: str) -> Meaning:
    """Return the meaning that a checkpoint stores; raise DataError if no run has written it."""
    try:
        return {str(column): _column_from(values) for column, values in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"its record of the data is not valid ({error})") from None


def _column_from(values: Mapping[str, Any]) -> ColumnMeaning:
    found = {name: value for name in ColumnMeaning._fields if (value := values.get(name)) is not None}
    if found.get("kind") not in (INTEGERS, FLOATS):
        raise ValueError(f"kind {found.get('kind')!r}")
    for name in ("scale", "shift", "mean", "deviation"):
        if isinstance(numbers := found.get(name), list):
            found[name] = numbers = tuple(numbers)
        for number in numbers if isinstance(numbers, tuple) else [] if numbers is None else [numbers]:
            if type(number) is not float:
                raise ValueError(f"{name} {number!r}")
    lists: dict[str, Any] = {name: texts(found[name]) for name in ("names", "classes", "units") if name in found}
    return ColumnMeaning(**found | lists)


def texts(values: Any) -> tuple[str, ...]:
    """Return names from a list of them; raise ValueError if they are no texts."""
    try:
        found = [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        raise ValueError(f"{NO_TEXTS} in UTF-8") from None
    except TypeError:  # from what cannot be iterated over, such as an empty attribute of HDF5
        raise ValueError(NO_TEXTS) from None
    if isinstance(values, (str, bytes)) or not all(isinstance(value, str) for value in found):
        raise ValueError(NO_TEXTS)
    return tuple(map(str, found))


def check_names(column: str, kind: str, names: tuple[str, ...], shape: Sequence[int]) -> tuple[str, ...]:
    """Return names that belong to a column; raise UserError if they do not fit.

    Args:
        column: the column, in words.
        kind: "names" or "units", of the elements along the last axis, or "classes".
        names: the names.
        shape: of the column, with one row per example.
    """
    width = shape[-1] if len(shape) > 1 else 1
    if kind in ("names", "units") and len(names) != width:
        one = "name" if kind == "names" else "unit"
        raise UserError(
            f"{column} need a {one} for each of {count_text(width, 'column')}, but have {count_text(len(names), one)}"
        )
    if kind == "classes" and len(set(names)) < len(names):
        raise UserError(f"{column} must have classes of different names, but have {listed(names)}")
    return names


def meaning_differences(stored: Meaning, now: Meaning, with_units: bool = False) -> list[str]:
    """Return a line for each list of names that is known of both and differs, and if asked for, kinds and scales."""
    lines = []
    for column in stored.keys() & now.keys():
        numbers = [what[column].numbers for what in (stored, now)]
        if with_units and column.startswith("inputs") and numbers[0] != numbers[1]:
            lines.append(f"{column} are {numbers[0]} in the checkpoint, {numbers[1]} now")
        for name in ("names", "classes", "units"):
            was, found = getattr(stored[column], name), getattr(now[column], name)
            if was is not None and found is not None and was != found:
                lines.append(f"{name} of {column}: {listed(was)} in the checkpoint, {listed(found)} now")
    return sorted(lines)


def missing_names(found: Meaning, reference: Meaning) -> list[str]:
    """Return the names, in words, that the reference has for a column of the data and the data has not."""
    return [
        f"{name} of {column} ({listed(known)})"
        for column in reference
        if column in found
        for name in ("names", "classes")
        if (known := getattr(reference[column], name)) and getattr(found[column], name) is None
    ]


def listed(names: Sequence[str]) -> str:
    """Return the first names with commas, or "none", in one line whatever characters they have."""
    text = shortened([name or '""' for name in names]) or "none"
    return "".join(character if character.isprintable() else "?" for character in text)
