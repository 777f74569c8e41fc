"""A block for normalization over any axes: (x - mean) / sqrt(variance + epsilon) scale + shift.

Its specification is that of batch normalization too, whose moments may be those of more elements than this x has, of
which other parts have the rest; see OtherParts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff.blocks.block import Block
from dbp.autodiff.primitives import allreduce, mean, reshape, sqrt, square, sum_
from dbp.autodiff.primitives.shapes import keepdims_shape, unbroadcast
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array


class OtherParts(NamedTuple):
    """The other parts of what is normalized together, each of which is normalized by a call of its own.

    Args:
        total: returns the sum of an array over all parts, given that of the part that calls it; all call it in turn.
        weight: what the elements of all parts count together.
    """

    total: Callable[[Array], Array]
    weight: float


def _total(x: Value, axes: tuple[int, ...], weights: Array | None) -> Any:
    """Return what the elements over some axes count together; those axes of weights stay at length one."""
    if weights is None:
        return max(1, math.prod(np.shape(x)[axis] for axis in axes))
    return np.add.reduce(weights, axis=axes, keepdims=True)


def _moments_of(x: Array, axes: tuple[int, ...], weights: Array | None = None) -> tuple[Array, Array]:
    """Return mean and variance over some axes, which stay at length one.

    Args:
        x: the elements.
        axes: to take the moments over.
        weights: how much each element counts, with the length of x along these axes, else 1; by default all the same.
    """
    total = _total(x, axes, weights)
    center = np.add.reduce(x if weights is None else x * weights, axis=axes, keepdims=True) / total
    distance = x - center
    squares = np.multiply(distance, distance, out=distance)
    if weights is not None:
        squares *= weights
    return center, np.add.reduce(squares, axis=axes, keepdims=True) / total


def normalize(
    x: Value,
    scale: Value,
    shift: Value,
    axes: tuple[int, ...],
    epsilon: float,
    weights: Array | None = None,
    others: OtherParts | None = None,
) -> Value:
    """Return (x - mean) / sqrt(variance + epsilon) scale + shift, composed of primitives.

    Args:
        x: the elements.
        scale: broadcast to the elements.
        shift: likewise.
        axes: to take the moments over.
        epsilon: added to the variance.
        weights: how much each element counts, with the length of x along these axes, else 1; by default all the same.
        others: the other parts of what is normalized together; None without any.
    """
    shape = keepdims_shape(x, axes)

    def mean_of(values: Value) -> Value:
        if others is not None:
            here = sum_(values if weights is None else values * weights, axis=axes)
            return allreduce(here, total=others.total) / others.weight
        if weights is None:
            return mean(values, axis=axes)
        return sum_(values * (weights / _total(x, axes, weights)), axis=axes)

    distance = x - reshape(mean_of(x), shape=shape)
    deviation = reshape(sqrt(mean_of(square(distance)) + epsilon), shape=shape)
    return distance / deviation * scale + shift


def _normalize_forward(
    x: Array,
    scale: Array,
    shift: Array,
    axes: tuple[int, ...],
    epsilon: float,
    weights: Array | None = None,
) -> tuple[Array, Any]:
    center, variance = _moments_of(x, axes, weights)
    inverse = 1 / np.sqrt(variance + epsilon)
    y = x - center
    y *= inverse
    y *= scale
    y += shift
    return y, (center, inverse)


def _normalize_backward(
    g: Array,
    _y: Array,
    kept: Any,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    x: Array,
    scale: Array,
    shift: Array,
    axes: tuple[int, ...],
    epsilon: float,  # noqa: ARG001
    weights: Array | None = None,
) -> Sequence[Array | None]:
    """Return the gradients of Ioffe and Szegedy 2015, section 3; the normalized x is computed again, not kept."""
    center, inverse = kept
    normal = x - center
    normal *= inverse
    product = g * normal
    by_scale = unbroadcast(product, scale) if wanted[1] else None
    by_shift = unbroadcast(g, shift) if wanted[2] else None
    if not wanted[0]:
        return None, by_scale, by_shift
    total = _total(x, axes, weights)
    product *= scale
    product_sum = np.add.reduce(product, axis=axes, keepdims=True)
    by_x = np.multiply(g, scale, out=product)
    sum_by_x = np.add.reduce(by_x, axis=axes, keepdims=True)
    normal *= product_sum / -total
    normal -= sum_by_x / total
    if weights is not None:
        normal *= weights
    by_x += normal
    by_x *= inverse
    return by_x, by_scale, by_shift


normalize_block = Block("normalize_block", normalize, _normalize_forward, _normalize_backward)
