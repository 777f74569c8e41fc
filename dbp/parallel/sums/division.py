"""The division of a sum of vectors by the sum of weights, which also checks that the result is finite."""

from __future__ import annotations

import functools
import math

import numpy as np

from dbp.types import Array

# The sum of 1e9 numbers below the root of the largest float32 remains finite if it is divided by this.
SMALLEST_SAFE_DIVISOR = 1e-9


class Division:
    """The division of a sum of vectors by the sum of one of the scalars.

    Args:
        value: of this sum; zero divides by 1, which changes no bit.
        dtype: of the vectors.

    Attributes:
        cannot_overflow: True if dividing the sum cannot produce infinity, given that the squares of the numbers that
            were summed are finite in float32.
    """

    def __init__(self, value: float, dtype: np.dtype[np.generic]):
        value = value or 1.0
        power_of_two = 1 <= value < 2**60 and math.frexp(value)[0] == 0.5  # its inverse is exact, and faster
        self._operation = np.multiply if power_of_two else np.divide
        self._operand = np.asarray(1 / value if power_of_two else value, dtype)  # NumPy takes scalars more slowly
        self._changes = bool(self._operand != 1)
        self.cannot_overflow = abs(value) > SMALLEST_SAFE_DIVISOR

    @classmethod
    def by(cls, scalars: Array, index: int | None, dtype: np.dtype[np.generic]) -> Division:
        """Return the division by the scalar of an index; by 1 for None."""
        return division(1.0 if index is None else float(scalars[index]), dtype)

    def divide(self, source: Array, target: Array) -> None:
        """Write the quotient of a source to a target, which may be the source."""
        if self._changes or source is not target:
            self._operation(source, self._operand, target)

    def __call__(self, source: Array, target: Array) -> bool:
        """Write the quotient of a source to a target; return True if all of it is finite."""
        self.divide(source, target)
        # A sum of squares is finite only if all elements are; that of large finite elements may overflow.
        return math.isfinite(target.dot(target)) or bool(np.isfinite(target).all())


division = functools.lru_cache(maxsize=64)(Division)  # as most mini-batches have the same weight
