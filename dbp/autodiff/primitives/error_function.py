"""The error function and its complement, which NumPy lacks.

The rational approximations are those of Cody 1969, Rational Chebyshev approximations for the error function. They are
accurate to a few units in the last place, also for large x, where 1 - erf(x) would have no correct digit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dbp.autodiff.primitives.elementwise import exp
from dbp.autodiff.tensor import Primitive, Value
from dbp.types import Array

# Numerators P and denominators Q, the highest power first: erf(x) / x in x^2 up to NEAR, exp(x^2) erfc(x) in x up to
# FAR, and beyond it (1 / sqrt(pi) - x exp(x^2) erfc(x)) x^2 in 1 / x^2.
NEAR, FAR, UNDERFLOW = 0.46875, 4.0, 27.5  # beyond UNDERFLOW erfc is 0 in float64
NEAR_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
NEAR_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
MIDDLE_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
MIDDLE_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
FAR_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
FAR_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def _ratio(x: Array, above: tuple[float, ...], below: tuple[float, ...]) -> Array:
    ratio = _polynomial(x, above)
    ratio /= _polynomial(x, below)
    return ratio


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y *= x
        y += c
    return y


def _scaled(y: Array) -> Array:
    """Return exp(-y^2), with y^2 split so that its rounding error is not amplified by exp."""
    head = np.trunc(16 * y) / 16  # its square is exact
    scaled: Array = np.exp(-head * head) * np.exp((head - y) * (head + y))
    return scaled


def _near(y: Array) -> Array:
    return 1 - y * _ratio(y * y, NEAR_P, NEAR_Q)


def _middle(y: Array) -> Array:
    return _scaled(y) * _ratio(y, MIDDLE_P, MIDDLE_Q)


def _far(y: Array) -> Array:
    inverse = 1 / (y * y)
    return _scaled(y) * ((1 / math.sqrt(math.pi) - inverse * _ratio(inverse, FAR_P, FAR_Q)) / y)


def _erfc(x: Array) -> Any:
    flat = np.reshape(x, -1) * 1.0  # integers become floats
    y = np.minimum(np.abs(flat), UNDERFLOW)
    near, far = y <= NEAR, y > FAR
    result = np.empty_like(y)
    for part, function in ((near, _near), (far, _far), (~(near | far), _middle)):  # NaN is in the last part
        (indices,) = np.nonzero(part)
        result[indices] = function(y[indices])
    np.subtract(2, result, out=result, where=flat < 0)
    return result.reshape(np.shape(x))


def _slope(x: Value) -> Value:
    return -2 / math.sqrt(math.pi) * exp(-(x * x))


erfc = Primitive(  # 2 / sqrt(pi) times the integral of exp(-t^2) from x on
    "erfc",
    _erfc,
    reverse=[lambda g, y, x: g * _slope(x)],
    forward=[lambda t, y, x: t * _slope(x)],
)


def _erf(x: Array) -> Any:
    flat = np.reshape(x, -1) * 1.0  # integers become floats
    result = 1 - _erfc(flat)
    (near,) = np.nonzero(np.abs(flat) <= NEAR)  # where the difference would lose digits
    part = flat[near]
    result[near] = part * _ratio(part * part, NEAR_P, NEAR_Q)
    return result.reshape(np.shape(x))


erf = Primitive(  # 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x
    "erf",
    _erf,
    reverse=[lambda g, y, x: -g * _slope(x)],
    forward=[lambda t, y, x: -t * _slope(x)],
)
