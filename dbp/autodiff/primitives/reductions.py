"""Reductions and functions along axes: mean, variance, maximum, log-sum-exp, softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dbp.autodiff.primitives.arithmetic import is_equal, where
from dbp.autodiff.primitives.elementwise import exp, square
from dbp.autodiff.primitives.shapes import Axes, axes_of, broadcast_back, keepdims_shape, reshape, sum_
from dbp.autodiff.tensor import Primitive, Value
from dbp.types import Array


def _count(x: Value, axis: Axes) -> int:
    return math.prod(n for n, k in zip(np.shape(x), keepdims_shape(x, axis), strict=True) if k == 1)


def mean(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """Return the mean over some axes, by default over all."""
    return sum_(x, axis=axis, keepdims=keepdims) / _count(x, axis)


def variance(x: Value, axis: Axes = None) -> Value:
    """Return the mean squared distance from the mean over some axes, by default over all."""
    difference = x - reshape(mean(x, axis), shape=keepdims_shape(x, axis))
    return mean(square(difference), axis)


def _largest(x: Value, y: Value, axis: Axes) -> Value:
    """Return 1 where x is the maximum along the axis, 1 / n where n elements are."""
    mask = is_equal(x, broadcast_back(y, x, axis))
    return mask / broadcast_back(sum_(mask, axis=axis), x, axis)


max_: Primitive = Primitive(
    "max",
    lambda x, axis=None, keepdims=False: np.max(x, axis=axes_of(axis), keepdims=keepdims),
    reverse=[lambda g, y, x, axis=None, keepdims=False: broadcast_back(g, x, axis) * _largest(x, y, axis)],
    forward=[lambda t, y, x, axis=None, keepdims=False: sum_(t * _largest(x, y, axis), axis=axis, keepdims=keepdims)],
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
