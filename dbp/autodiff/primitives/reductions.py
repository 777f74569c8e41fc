"""Reductions and functions along axes: mean, norm, extremes, products, cumulated sums, log-sum-exp, softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dbp.autodiff.primitives.arithmetic import is_equal, where
from dbp.autodiff.primitives.elementwise import exp, sqrt, square
from dbp.autodiff.primitives.shapes import (
    Axes,
    axes_of,
    broadcast_back,
    concatenate,
    flip,
    keepdims_shape,
    reduced_axes,
    reshape,
    sum_,
    take,
    transpose,
)
from dbp.autodiff.tensor import Primitive, Value, array_of
from dbp.types import Array


def _count(x: Value, axis: Axes) -> int:
    return math.prod(np.shape(x)[i] for i in reduced_axes(x, axis))


def mean(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """Return the mean over some axes, by default over all."""
    return sum_(x, axis=axis, keepdims=keepdims) / _count(x, axis)


def variance(x: Value, axis: Axes = None, keepdims: bool = False, ddof: float = 0) -> Value:
    """Return the mean squared distance from the mean over some axes, by default over all.

    Args:
        x: the numbers.
        axis: the axes.
        keepdims: whether the axes stay, with length 1.
        ddof: what is subtracted from the number of elements, by which the sum is divided.
    """
    difference = x - mean(x, axis, keepdims=True)
    return sum_(square(difference), axis=axis, keepdims=keepdims) / (_count(x, axis) - ddof)


def std(x: Value, axis: Axes = None, keepdims: bool = False, ddof: float = 0) -> Value:
    """Return the square root of the variance over some axes, by default over all; its derivative is 0 where it is 0."""
    return _root(variance(x, axis, keepdims, ddof))


def norm(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """Return the square root of the sum of squares over some axes, by default over all; its derivative at 0 is 0."""
    return _root(sum_(square(x), axis=axis, keepdims=keepdims))


def _root(x: Value) -> Value:
    """Return the square root of what is not negative, with the derivative 0 at 0."""
    is_zero = x == 0
    return where(is_zero, 0, sqrt(where(is_zero, 1, x)))


def _extreme(x: Value, y: Value, axis: Axes) -> Value:
    """Return 1 where x is the extreme y along the axis, 1 / n where n elements are."""
    mask = is_equal(x, broadcast_back(y, x, axis))
    return mask / broadcast_back(sum_(mask, axis=axis), x, axis)


max_: Primitive = Primitive(
    "max",
    lambda x, axis=None, keepdims=False: np.max(x, axis=axes_of(axis), keepdims=keepdims),
    reverse=[lambda g, y, x, axis=None, keepdims=False: broadcast_back(g, x, axis) * _extreme(x, y, axis)],
    forward=[lambda t, y, x, axis=None, keepdims=False: sum_(t * _extreme(x, y, axis), axis=axis, keepdims=keepdims)],
)


min_: Primitive = Primitive(
    "min",
    lambda x, axis=None, keepdims=False: np.min(x, axis=axes_of(axis), keepdims=keepdims),
    reverse=[lambda g, y, x, axis=None, keepdims=False: broadcast_back(g, x, axis) * _extreme(x, y, axis)],
    forward=[lambda t, y, x, axis=None, keepdims=False: sum_(t * _extreme(x, y, axis), axis=axis, keepdims=keepdims)],
)


def prod(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """Return the product over some axes, by default over all; its derivatives hold where factors are 0, too.

    Factors are multiplied in pairs, the products in pairs again, so that no derivative divides by a factor.
    """
    removed = sorted(reduced_axes(x, axis))
    kept = [i for i in range(np.ndim(x)) if i not in removed]
    rest = tuple(np.shape(x)[i] for i in kept)
    factors = reshape(transpose(x, axes=(*removed, *kept)), shape=(_count(x, axis), *rest))
    while (count := np.shape(factors)[0]) > 1:
        half = count // 2
        pairs = take(factors, index=slice(0, half)) * take(factors, index=slice(half, 2 * half))
        factors = concatenate(pairs, take(factors, index=slice(2 * half, None))) if count % 2 else pairs
    found = sum_(factors, axis=0) if np.shape(factors)[0] else np.ones(rest, array_of(x).dtype)
    return reshape(found, shape=keepdims_shape(x, axis) if keepdims else rest)


def _cumulated_back(g: Value, axis: int) -> Value:
    """Return for each element the sum of it and of all that follow it along the axis."""
    return flip(cumsum(flip(g, axis), axis=axis), axis)


cumsum: Primitive = Primitive(  # along one axis
    "cumsum",
    lambda x, axis=-1: np.cumsum(x, axis=axis),
    reverse=[lambda g, y, x, axis=-1: _cumulated_back(g, axis)],
    forward=[lambda t, y, x, axis=-1: cumsum(t, axis=axis)],
)


def _logsumexp(x: Array, axis: Axes = None) -> Any:
    axes = axes_of(axis)
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # the result for no elements, or for -inf only, is -inf
        total = top + np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True))
    return np.squeeze(total, axis=axes)


def _share(x: Value, y: Value, axis: Axes) -> Value:
    """Return exp(x) / exp(y), each element's share of the sum; zero where all are -inf."""
    return exp(x - broadcast_back(where(y == -np.inf, 0, y), x, axis))


logsumexp: Primitive = Primitive(  # log(sum(exp(x))), without overflow
    "logsumexp",
    _logsumexp,
    reverse=[lambda g, y, x, axis=None: broadcast_back(g, x, axis) * _share(x, y, axis)],
    forward=[lambda t, y, x, axis=None: sum_(t * _share(x, y, axis), axis=axis)],
)


def _sum_along(x: Value, axis: int) -> Value:
    return sum_(x, axis=axis, keepdims=True)


def _log_softmax(x: Array, axis: int = -1) -> Any:
    top = np.maximum.reduce(x, axis=axis, keepdims=True, initial=-np.inf)  # np.max with less overhead
    shifted = np.subtract(x, top)
    if shifted.size:
        shifted -= np.log(np.add.reduce(np.exp(shifted), axis=axis, keepdims=True))
    return shifted


log_softmax: Primitive = Primitive(
    "log_softmax",
    _log_softmax,
    reverse=[lambda g, y, x, axis=-1: g - exp(y) * _sum_along(g, axis)],
    forward=[lambda t, y, x, axis=-1: t - _sum_along(exp(y) * t, axis)],
)
softmax: Primitive = Primitive(
    "softmax",
    lambda x, axis=-1: np.exp(_log_softmax(x, axis)),
    reverse=[lambda g, y, x, axis=-1: y * (g - _sum_along(g * y, axis))],
    forward=[lambda t, y, x, axis=-1: y * (t - _sum_along(t * y, axis))],
)
