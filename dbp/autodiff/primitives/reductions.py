"""Functions along axes: means, variance, maximum, softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dbp.autodiff.primitives.elementwise import exp, square
from dbp.autodiff.primitives.shapes import Axes, kept, reshape, spread, sum_
from dbp.autodiff.tensor import Array, Primitive, Value


def _count(x: Value, axis: Axes) -> int:
    return math.prod(n for n, k in zip(np.shape(x), kept(x, axis), strict=True) if k == 1)


def mean(x: Value, axis: Axes = None) -> Value:
    """The mean over some axes, or over all."""
    return sum_(x, axis=axis) / _count(x, axis)


def variance(x: Value, axis: Axes = None) -> Value:
    """The mean squared distance from the mean, over some axes or over all."""
    difference = x - reshape(mean(x, axis), shape=kept(x, axis))
    return mean(square(difference), axis)


def _largest(x: Value, y: Value, axis: Axes) -> Value:
    """One where x is the largest along the axis; shared in equal parts where several are."""
    mask = is_equal(x, spread(y, x, axis))
    return mask / spread(sum_(mask, axis=axis), x, axis)


is_equal = Primitive(  # 1 where a = b, else 0; its derivative is zero
    "is_equal",
    lambda a, b: np.equal(a, b).astype(a.dtype),
    reverse=[None, None],
    forward=[None, None],
)
max_: Primitive = Primitive(
    "max",
    lambda x, axis=None: np.max(x, axis=axis),
    reverse=[lambda g, y, x, axis=None: spread(g, x, axis) * _largest(x, y, axis)],
    forward=[lambda t, y, x, axis=None: sum_(t * _largest(x, y, axis), axis=axis)],
)


def _logsumexp(x: Array, axis: Axes = None) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    return np.reshape(top, np.shape(np.sum(x, axis=axis))) + np.log(np.sum(np.exp(x - top), axis=axis))


logsumexp: Primitive = Primitive(  # log(sum(exp(x))), without overflow
    "logsumexp",
    _logsumexp,
    reverse=[lambda g, y, x, axis=None: spread(g, x, axis) * exp(x - spread(y, x, axis))],
    forward=[lambda t, y, x, axis=None: sum_(t * exp(x - spread(y, x, axis)), axis=axis)],
)


def _last_axis_sum(x: Value) -> Value:
    return spread(sum_(x, axis=-1), x, -1)


def _log_softmax(x: Array) -> Any:
    shifted = x - np.maximum.reduce(x, axis=-1, keepdims=True)  # as np.max, without its detours
    shifted -= np.log(np.add.reduce(np.exp(shifted), axis=-1, keepdims=True))
    return shifted


log_softmax: Primitive = Primitive(  # along the last axis
    "log_softmax",
    _log_softmax,
    reverse=[lambda g, y, x: g - exp(y) * _last_axis_sum(g)],
    forward=[lambda t, y, x: t - _last_axis_sum(exp(y) * t)],
)
softmax: Primitive = Primitive(  # along the last axis
    "softmax",
    lambda x: np.exp(_log_softmax(x)),
    reverse=[lambda g, y, x: y * (g - _last_axis_sum(g * y))],
    forward=[lambda t, y, x: y * (t - _last_axis_sum(t * y))],
)
