"""Linear interpolation along one axis, to a whole multiple of its length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from dbp.autodiff.tensor import Primitive
from dbp.types import Array

FIRST, LAST, ALL = slice(0, 1), slice(-1, None), slice(None)
BUT_FIRST, BUT_LAST = slice(1, None), slice(None, -1)


def _parts(x: Array, axis: int, *inner: int) -> Array:
    """Return a view of x with the axes before and after an axis as one, and that axis itself cut into `inner`."""
    return x.reshape(math.prod(x.shape[:axis]), *inner, math.prod(x.shape[axis + 1 :]))


def _terms(factor: int) -> Iterator[tuple[int, float, slice, slice]]:
    """Yield the number of an output within its input's cell, and the weight of inputs `of` in the outputs `to`.

    Outputs and inputs stand in the middle of their cells. Beyond the first and the last middle, these alone count.
    """
    for k in range(factor):
        offset = (k + 0.5) / factor - 0.5
        yield k, 1 - abs(offset), ALL, ALL
        if offset > 0:
            yield k, offset, BUT_LAST, BUT_FIRST
            yield k, offset, LAST, LAST
        elif offset < 0:
            yield k, -offset, BUT_FIRST, BUT_LAST
            yield k, -offset, FIRST, FIRST


def _interpolate(x: Array, axis: int, factor: int) -> Any:
    length = x.shape[axis]
    y = np.zeros((*x.shape[:axis], factor * length, *x.shape[axis + 1 :]), x.dtype)
    inputs, outputs = _parts(x, axis, length), _parts(y, axis, length, factor)
    for k, weight, to, of in _terms(factor):
        outputs[:, to, k] += weight * inputs[:, of]
    return y


def _interpolate_transposed(g: Array, axis: int, factor: int) -> Any:
    length = g.shape[axis] // factor
    x = np.zeros((*g.shape[:axis], length, *g.shape[axis + 1 :]), g.dtype)
    inputs, outputs = _parts(x, axis, length), _parts(g, axis, length, factor)
    for k, weight, to, of in _terms(factor):
        inputs[:, of] += weight * outputs[:, to, k]
    return x


interpolate: Primitive = Primitive(
    "interpolate",
    _interpolate,
    reverse=[lambda g, y, x, **how: interpolate_transposed(g, **how)],
    forward=[lambda t, y, x, **how: interpolate(t, **how)],
)
interpolate_transposed: Primitive = Primitive(  # the adjoint of interpolate
    "interpolate_transposed",
    _interpolate_transposed,
    reverse=[lambda c, y, g, **how: interpolate(c, **how)],
    forward=[lambda t, y, g, **how: interpolate_transposed(t, **how)],
)
