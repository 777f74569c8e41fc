"""Blocks for normalizations of each row, which is the last axis: layer normalization, and that by the root mean square.

All that is done with some rows is done while they are in the cache. Sums along rows are inner products of single rows,
so that their bits do not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff import scratch
from dbp.autodiff.blocks.block import Block
from dbp.autodiff.blocks.channels import pieces
from dbp.autodiff.cotangents import array_in
from dbp.autodiff.primitives import mean, reshape, sqrt, square
from dbp.autodiff.primitives.shapes import keepdims_shape, rows_of
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array


def _mean_of(x: Value) -> Value:
    """Return the mean of each row, with the last axis at length one."""
    return reshape(mean(x, axis=-1), shape=keepdims_shape(x, -1))


def _row_means(a: Array, b: Array) -> Array:
    """Return the mean of the products of a (rows, n) and b (rows, n) or (n,) in each row, (rows, 1)."""
    means: Array = np.vecdot(a, b)[:, None]
    means /= max(1, a.shape[1])
    return means


def _multiply(rows: Array, values: Array, out: Array) -> Array:
    """Write the product of rows with values that are broadcast to `out`.

    NumPy takes less time to repeat the values there first than to broadcast them, here and in _subtract().
    """
    np.copyto(out, values)
    out *= rows
    return out


def _subtract(rows: Array, values: Array, out: Array) -> None:
    """Write the rows less values that are broadcast to `out`."""
    np.copyto(out, values)
    np.subtract(rows, out, out=out)


def _layer_normalize(x: Value, scale: Value, shift: Value, epsilon: float) -> Value:
    distance = x - _mean_of(x)
    return distance / sqrt(_mean_of(square(distance)) + epsilon) * scale + shift


def _layer_normalize_forward(x: Array, scale: Array, shift: Array, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    y = np.empty(x.shape, np.result_type(x, scale, shift))
    rows, outputs = rows_of(x), rows_of(y)
    center, inverse = np.empty((2, len(rows), 1), y.dtype)
    ones = np.ones(rows.shape[1], y.dtype)
    for piece in pieces(rows):
        part = outputs[piece]
        center[piece] = _row_means(rows[piece], ones)
        _subtract(rows[piece], center[piece], part)
        inverse[piece] = 1 / np.sqrt(_row_means(part, part) + epsilon)
        part *= inverse[piece]
        part *= scale
        part += shift
    return y, (center, inverse)


def _layer_normalize_backward(
    g: Array,
    _y: Array,
    kept: tuple[Array, Array],
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    x: Array,
    scale: Array,
    shift: Array,  # noqa: ARG001
    epsilon: float,  # noqa: ARG001
    memory: Array | None = None,
) -> Sequence[Array | None]:
    """Return the gradients of Ba, Kiros and Hinton 2016; the normalized x is computed again, not kept."""
    center, inverse = kept
    rows, cotangents = rows_of(x), rows_of(g)
    by_x = rows_of(array_in(memory, x.shape, np.result_type(g, scale))) if wanted[0] else None
    by_scale, by_shift = np.zeros((2, rows.shape[1]), np.result_type(g, scale))
    for piece in pieces(rows):
        here = cotangents[piece]
        distance, share = (scratch.buffer(name, here.shape, center.dtype) for name in ("distance", "share"))
        _subtract(rows[piece], center[piece], distance)
        _multiply(here, inverse[piece], share)
        by_scale += np.einsum("ij,ij->j", share, distance)
        by_shift += np.add.reduce(here, axis=0)
        if by_x is not None:
            part = _multiply(share, scale, by_x[piece])
            distance *= np.square(inverse[piece]) * _row_means(part, distance)
            distance += _row_means(share, scale)
            part -= distance
    found = None if by_x is None else by_x.reshape(x.shape), by_scale, by_shift
    return [array if want else None for array, want in zip(found, wanted, strict=True)]


def _layer_normalize_tangent(
    tangents: Sequence[Array | None],
    y: Array,
    kept: tuple[Array, Array],
    x: Array,
    scale: Array,
    shift: Array,  # noqa: ARG001
    epsilon: float,  # noqa: ARG001
) -> Array:
    """Return the tangent of the output for the tangents of x, scale and shift, None for one that has none."""
    (tx, t_scale, t_shift), (center, inverse) = tangents, kept
    normal = (rows_of(x) - center) * inverse
    t = np.zeros(normal.shape, y.dtype)
    if tx is not None:
        of_x = rows_of(tx)
        t += (of_x - _row_means(of_x, np.ones_like(scale)) - normal * _row_means(of_x, normal)) * (inverse * scale)
    if t_scale is not None:
        t += normal * t_scale
    if t_shift is not None:
        t += t_shift
    return t.reshape(y.shape)


layer_normalize_block = Block(
    "layer_normalize_block",
    _layer_normalize,
    _layer_normalize_forward,
    _layer_normalize_backward,
    _layer_normalize_tangent,
    new_cotangents=True,
    takes_memory=True,
)


def _rms_normalize(x: Value, scale: Value, epsilon: float) -> Value:
    return x / sqrt(_mean_of(square(x)) + epsilon) * scale


def _rms_normalize_forward(x: Array, scale: Array, epsilon: float) -> tuple[Array, Array]:
    y = np.empty(x.shape, np.result_type(x, scale))
    rows, outputs = rows_of(x), rows_of(y)
    inverse = np.empty((len(rows), 1), y.dtype)
    for piece in pieces(rows):
        inverse[piece] = 1 / np.sqrt(_row_means(rows[piece], rows[piece]) + epsilon)
        part = _multiply(rows[piece], inverse[piece], outputs[piece])
        part *= scale
    return y, inverse


def _rms_normalize_backward(
    g: Array,
    _y: Array,
    inverse: Array,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    x: Array,
    scale: Array,
    epsilon: float,  # noqa: ARG001
    memory: Array | None = None,
) -> Sequence[Array | None]:
    """Return g scale / rms less its part along x, for x, and g x / rms for the scale."""
    rows, cotangents = rows_of(x), rows_of(g)
    by_x = rows_of(array_in(memory, x.shape, np.result_type(g, scale))) if wanted[0] else None
    by_scale = np.zeros(rows.shape[1], np.result_type(g, scale))
    for piece in pieces(rows):
        here = cotangents[piece]
        share = _multiply(here, inverse[piece], scratch.buffer("share", here.shape, inverse.dtype))
        by_scale += np.einsum("ij,ij->j", share, rows[piece])
        if by_x is not None:
            part = _multiply(share, scale, by_x[piece])
            part -= _multiply(rows[piece], np.square(inverse[piece]) * _row_means(part, rows[piece]), share)
    return None if by_x is None else by_x.reshape(x.shape), by_scale if wanted[1] else None


rms_normalize_block = Block(
    "rms_normalize_block",
    _rms_normalize,
    _rms_normalize_forward,
    _rms_normalize_backward,
    new_cotangents=True,
    takes_memory=True,
)
