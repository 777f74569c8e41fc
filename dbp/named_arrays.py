"""Arrays of a single column without a name, or a dict of several by name: what a model takes and returns.

Several are a dict, and no other mapping, as all steps of a plain training ask which of both they have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dbp.types import Array, Arrays, Shapes


def each(function: Callable[[Any], Any], given: Any) -> Any:
    """Return the function of an array, or of each array by name; None for None."""
    if isinstance(given, dict):
        return {name: function(array) for name, array in given.items()}
    return None if given is None else function(given)


def first_of(given: Any) -> Any:
    """Return an array, or the first of several by name."""
    return next(iter(given.values())) if isinstance(given, dict) else given


def all_of(given: Any) -> list[Any]:
    """Return a list of an array, or of all arrays by name; empty for None."""
    return [*given.values()] if isinstance(given, dict) else [] if given is None else [given]


def as_dict(given: Any, alone: str = "") -> dict[str, Any]:
    """Return what is given by name as a dict; anything else under the name `alone`."""
    return dict(given) if isinstance(given, Mapping) else {alone: given}


def row_count(arrays: Arrays) -> int:
    """Return the number of examples of arrays."""
    return len(first_of(arrays))


def zeros_of(shapes: Shapes, count: int, dtype: Any) -> Any:
    """Return zeros for a number of examples of these shapes: an array, or several by name."""
    return each(lambda shape: np.zeros((count, *shape), dtype), shapes)


def shapes_of(arrays: Any) -> Any:
    """Return the shape of an example in arrays (examples, ...): one shape, or several by name."""
    return each(lambda array: tuple(np.shape(array)[1:]), arrays)


def same_form(one: Arrays, other: Arrays) -> bool:
    """Return True if both are arrays without a name, or both have arrays of the same names."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys()
    return not isinstance(one, dict) and not isinstance(other, dict)


def all_finite(array: Array) -> bool:
    """Return True if all numbers of an array are finite."""
    if array.dtype.kind not in "fc":
        return True
    if array.flags.c_contiguous and array.dtype.char in "fd":  # for which the product is faster than the check
        flat = array.reshape(-1)
        with np.errstate(all="ignore"):
            if math.isfinite(np.dot(flat, flat)):  # else some may be so large that their squares are not
                return True
    return bool(np.isfinite(array).all())
