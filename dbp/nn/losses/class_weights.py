"""Class weights: factors on the losses of examples by class, from settings or from how often each class occurs."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np

from dbp.errors import UserError, unknown
from dbp.nn.losses.loss import Shape
from dbp.text import brief
from dbp.types import Array

BALANCED = "balanced"


class ClassWeighted:
    """Base of losses with class weights.

    The setting `class_weights` is "balanced", a table of factors by the names or numbers of classes (1 for those that
    it leaves out), or None. The factors themselves, with one row for each class or one for each output, are known once
    the classes of the data are: with_factors() sets them.
    """

    class_weights: str | Mapping[str, float] | None
    _factors: Array | None = None

    @property
    def factors(self) -> Array | None:
        """Return the factors that with_factors() has set."""
        return self._factors

    def check_class_weights(self) -> None:
        """Raise UserError unless the setting has one of its forms."""
        given = self.class_weights
        if given is None or given == BALANCED:
            return
        if not isinstance(given, Mapping):
            raise UserError(
                f'class_weights must be "{BALANCED}" or a table of factors by class, such as {{ cat = 2.0 }}, but is '
                f"{brief(given)}"
            )
        for name, factor in given.items():
            if not isinstance(factor, Real) or isinstance(factor, bool) or not 0 <= factor < math.inf:
                rule = "must be 0 or a positive number"
                raise UserError(f"class_weights of {str(name)!r} {rule}, but is {brief(factor)}")

    def with_factors(self, factors: Any) -> Self:
        """Return this loss with the factors of its classes."""
        found = copy.copy(self)
        object.__setattr__(found, "_factors", np.array(factors, np.float64))
        return found

    def factors_in_table(self, count: int, classes: Sequence[str]) -> Array:
        """Return the factors that the table has for each class; raise UserError for a class that there is not.

        Args:
            count: of classes.
            classes: their names; empty if they are not known.
        """
        assert isinstance(self.class_weights, Mapping)
        numbers = {str(number): number for number in range(count)} | {name: n for n, name in enumerate(classes)}
        factors = np.ones(count)
        for name, factor in self.class_weights.items():
            if str(name) not in numbers:
                raise unknown("class of class_weights", str(name), list(classes) or [*map(str, range(count))])
            factors[numbers[str(name)]] = factor
        return factors

    def factors_for(self, count: int, dtype: np.dtype[Any]) -> Array:
        """Return the factors; without names of classes, by the numbers in the table."""
        if self._factors is not None:
            return self._factors.astype(dtype)
        if self.class_weights == BALANCED:
            raise UserError(
                f'class_weights = "{BALANCED}" is counted over the training data of a run; give this loss its factors '
                "with with_factors()"
            )
        return self.factors_in_table(count, ()).astype(dtype)


def balanced(totals: Array) -> Array:
    """Return the factors by which all classes weigh the same, on average 1; 1 for a class without examples.

    The factor of a class is n / (k n_c) for n examples, n_c of them in the class, and k classes with examples, as
    scikit-learn's `class_weight="balanced"`.

    Args:
        totals: the sums of example weights by class, along the last axis.
    """
    present = totals > 0
    mean = totals.sum(axis=-1, keepdims=True) / np.maximum(1, present.sum(axis=-1, keepdims=True))
    return np.where(present, mean / np.where(present, totals, 1), 1.0)


def spread_weights(weights: Array | None, shape: Shape) -> Array:
    """Return a weight in float64 for each of the targets of this shape, given those of examples or positions."""
    if weights is None:
        return np.ones(shape)
    given = weights.astype(np.float64)
    return np.broadcast_to(given.reshape(given.shape + (1,) * (len(shape) - given.ndim)), shape)
