"""The distribution function of the standard normal distribution in place, for float32 by one polynomial.

exp(x^2 / 2) times the probability of more than |x| is smooth. A polynomial in t = 1 / (1 + WIDTH |x|), without a
constant term, has a relative error of 1.4e-8 up to where the probability underflows in float32; it is a fit of least
relative error by weighted least squares. So small probabilities have as many correct digits as large ones.
"""

from __future__ import annotations

import math

import numpy as np

from dbp.autodiff import scratch
from dbp.autodiff.primitives.error_function import erfc
from dbp.types import Array

WIDTH = 0.266
POLYNOMIAL = (  # the highest power first
    0.0304739496, -0.140678378, 0.207838119, -0.106198648, 0.131294213, 0.0629800264, 0.102434702, 0.105719492,
    0.106136529,
)  # fmt: skip


def fill_with_normal_distribution(x: Array, probability: Array, bell: Array) -> None:
    """Fill arrays of the form of a contiguous x with the probability of at most x, and with exp(-x^2 / 2)."""
    with np.errstate(over="ignore"):  # the bell is 0 there
        np.multiply(x, x, out=bell)
    bell *= -0.5
    np.exp(bell, out=bell)
    if x.dtype.itemsize > 4:
        np.multiply(erfc.value(x * -math.sqrt(0.5)), 0.5, out=probability)
    else:
        _fill_with_tail(x, bell, probability)
        _take_other_side(x, probability)


def _fill_with_tail(x: Array, bell: Array, tail: Array) -> None:
    """Fill an array with the probability of more than |x|."""
    t = _like("inverse", x)
    np.abs(x, out=t)
    t *= WIDTH
    t += 1
    np.divide(1, t, out=t)
    np.multiply(t, POLYNOMIAL[0], out=tail)
    for c in POLYNOMIAL[1:]:
        tail += c
        tail *= t
    tail *= bell


def _take_other_side(x: Array, tail: Array) -> None:
    """Replace the probability p of more than |x| by 1 - p where x is positive."""
    tail -= np.greater(x, 0, out=_like("is positive", x))
    np.abs(tail, out=tail)


def _like(name: str, x: Array) -> Array:
    """Return scratch memory in the form of x."""
    return scratch.buffer(f"normal {name}", x.shape, x.dtype)
