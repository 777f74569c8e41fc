"""The map from stored numbers to those that a model sees: a factor and a shift, one for all or one for each column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dbp.errors import UserError
from dbp.text import count_text, shortened
from dbp.types import Array

SHOWN_LETTERS = 60  # of a value in a message
TOLERANCE = 1e-6  # relative, of equal scales and shifts, as some programs store them in single precision
Numbers = float | tuple[float, ...]  # one for all elements, or one for each along the last axis


def check_scale(what: str, value: Any, remedy: str = "") -> Numbers:
    """Return a scale; raise UserError unless it is a finite number other than 0, or a list of such numbers."""
    found = _numbers(value)
    if found is None or not np.all(found):
        raise UserError(
            f"{what} must be a finite number other than 0, or one for each column, but is {_shown(value)}{remedy}"
        )
    return found


def check_shift(what: str, value: Any, remedy: str = "") -> Numbers:
    """Return a shift; raise UserError unless it is a finite number, or a list of such numbers."""
    found = _numbers(value)
    if found is None:
        raise UserError(f"{what} must be a finite number, or one for each column, but is {_shown(value)}{remedy}")
    return found


def check_width(what: str, value: Numbers | None, shape: tuple[int, ...]) -> None:
    """Raise UserError unless a scale or shift has one number, or one for each element of a column's last axis."""
    width = shape[-1] if len(shape) > 1 else 1
    if isinstance(value, tuple) and len(value) != width:
        raise UserError(
            f"{what} has {count_text(len(value), 'number')}, but there are {width} columns; give one for each, or one"
        )


def stated_for(
    name: str, column: str, shape: tuple[int, ...], scale: Any, shift: Any
) -> tuple[Numbers | None, Numbers | None]:
    """Return the scale and the shift of a column of inputs that a user states; None for one that is not stated.

    Args:
        name: of the data set, for messages.
        column: such as inputs or inputs.image.
        shape: of the column.
        scale: for all inputs, or by their names.
        shift: likewise.

    Raises:
        UserError: they are no such numbers, or do not fit the column.
    """
    found: list[Numbers | None] = []
    for key, given, check in (("scale", scale, check_scale), ("shift", shift, check_shift)):
        of_column = given.get(column.removeprefix("inputs.")) if isinstance(given, Mapping) else given
        found.append(None if of_column is None else check(f"{name}: {key}", of_column))
        check_width(f"{name}: {key}", found[-1], shape)
    return found[0], found[1]


def _numbers(value: Any) -> Numbers | None:
    """Return a value as one float, or a tuple of several; None if it is neither, or not finite."""
    try:
        found = np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        return None
    if found.dtype.kind not in "uif" or found.ndim > 1 or not found.size or not np.isfinite(found).all():
        return None
    return float(found) if found.ndim == 0 else tuple(found.astype(float).tolist())


def _shown(value: Any) -> str:
    return (repr(value) if isinstance(value, (str, bytes)) else " ".join(str(value).split()))[:SHOWN_LETTERS]


def numbers_text(value: Numbers) -> str:
    """Return one number, or the first of several, as text."""
    return f"{value:.6g}" if isinstance(value, float) else f"({shortened([f'{one:.6g}' for one in value])})"


def exact_text(value: Numbers) -> str:
    """Return one number with all its digits, or the first of several, as text."""
    return repr(value) if isinstance(value, float) else numbers_text(value)


def are_close(one: Numbers, other: Numbers) -> bool:
    """Return True if two scales or shifts are the same but for rounding."""
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=0)) if _fit(one, other) else False


def _fit(one: Numbers, other: Numbers) -> bool:
    sizes = {len(value) for value in (one, other) if isinstance(value, tuple)}
    return len(sizes) < 2


class Scaling(NamedTuple):
    """The map (number - center) * factor, for each element along the last axis.

    Subtracting first loses no digits where the center is far larger than the deviation from it.

    Args:
        center: None for 0.
        factor: None for 1.
    """

    center: Array | float | None = None
    factor: Array | float | None = None

    @classmethod
    def of(
        cls,
        scale: Numbers | None = None,
        shift: Numbers | None = None,
        mean: Numbers | None = None,
        deviation: Numbers | None = None,
    ) -> Scaling:
        """Return the map of x to (x * scale + shift - mean) / deviation; None stands for what changes nothing."""
        if shift is None and mean is None and deviation is None:
            return cls(None, None if scale is None else _as_factor(np.asarray(scale)))
        by = np.asarray(1.0 if scale is None else scale)
        center = (np.asarray(0.0 if mean is None else mean) - np.asarray(0.0 if shift is None else shift)) / by
        return cls(_as_factor(center), _as_factor(by / np.asarray(1.0 if deviation is None else deviation)))

    @property
    def is_identity(self) -> bool:
        """Return True if the map changes nothing."""
        return self.center is None and self.factor is None

    def apply(self, stored: Array, dtype: Any, copy: bool = True) -> Array:
        """Return numbers as the model sees them, in the precision of the run.

        Args:
            stored: the numbers.
            dtype: the precision.
            copy: whether they must be a new array; else they may be the stored ones, for callers that do not write.
        """
        in_order = stored.flags.c_contiguous and stored.flags.aligned
        if not copy and self.is_identity and stored.dtype == dtype and in_order:
            return stored
        if self.center is None:
            numbers = stored.astype(dtype)
            if self.factor is not None:
                numbers *= _in(self.factor, dtype)
            return numbers
        wide = np.result_type(stored.dtype, dtype)  # so that large integers and float64 lose nothing before
        numbers = np.subtract(stored, _in(self.center, wide), dtype=wide)
        if self.factor is not None:
            numbers *= _in(self.factor, wide)
        return numbers.astype(dtype, copy=False)

    def undo(self, numbers: Array) -> Array:
        """Return the numbers that the map has made these from, in their precision."""
        if self.factor is not None:
            numbers = numbers / _in(self.factor, numbers.dtype)
        return numbers if self.center is None else numbers + _in(self.center, numbers.dtype)


def _as_factor(values: Array) -> Array | float:
    return float(values) if values.ndim == 0 else values


def _in(value: Array | float, dtype: Any) -> Array | float:
    return value if isinstance(value, float) else value.astype(dtype)
