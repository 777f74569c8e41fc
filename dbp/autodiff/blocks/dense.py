"""A block for a dense layer: activation(x w + b), with ReLU or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.primitives import relu, reshape
from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.tensor import OutputSlot, PlannedNode, Value
from dbp.types import Array

PIECE = 1 << 18  # elements of a gradient computed in one matrix product; fewer would cost speed
TILE = 64  # rows of a piece are a multiple of it, as matrix products work on tiles of rows


def _dense(x: Value, w: Value, b: Value | None, relu_after: bool) -> Value:
    z = rows_of(x) @ w
    z = z if b is None else z + b
    z = relu(z) if relu_after else z
    return reshape(z, shape=(*np.shape(x)[:-1], np.shape(w)[1]))


def _dense_forward(x: Array, w: Array, b: Array | None, relu_after: bool) -> tuple[Array, None]:
    y = np.matmul(rows_of(x), w)
    if b is not None:
        y += b
    if relu_after:
        np.maximum(y, 0, out=y)
    return y.reshape(*x.shape[:-1], w.shape[1]), None


def _dense_backward(
    g: Array,
    y: Array,
    _kept: None,
    wanted: Sequence[bool],
    slots: Sequence[OutputSlot | None],
    x: Array,
    w: Array,
    _b: Array | None,
    relu_after: bool,
) -> Sequence[Array | None]:
    if relu_after:
        g = g * (y > 0)
    gz = rows_of(g)
    by_b = _bias_gradient(gz, slots[2]) if wanted[2] else None
    by_w = _weight_gradient(rows_of(x), gz, slots[1]) if wanted[1] else None
    return np.matmul(gz, w.T).reshape(x.shape) if wanted[0] else None, by_w, by_b


def _bias_gradient(gz: Array, slot: OutputSlot | None) -> Array:
    """Return the sum of gz over its rows."""
    found: Array = np.add.reduce(gz, axis=0, out=slot and slot.array)
    if slot is not None:
        slot.on_ready(0)
    return found


def _weight_gradient(x: Array, gz: Array, slot: OutputSlot | None) -> Array:
    """Return x^T gz, computed from its last rows to its first: the last can be sent while the others are computed."""
    array, on_ready = slot or OutputSlot(np.empty((x.shape[1], gz.shape[1]), np.result_type(x, gz)), lambda start: None)
    rows = max(1, -(-PIECE // (gz.shape[1] * TILE))) * TILE
    for start in reversed(range(0, x.shape[1], rows)):
        np.matmul(x[:, start : start + rows].T, gz, out=array[start : start + rows])
        if start:
            on_ready(start * gz.shape[1])
    return array


def _dense_tangent(
    tangents: Sequence[Array | None], y: Array, x: Array, w: Array, _b: Array | None, relu_after: bool
) -> Array:
    """Return the tangent of the output for the tangents of x, w and b, None for one that has none."""
    (tx, tw, tb), rows = tangents, rows_of(y)
    t: Array = np.zeros_like(rows) if tx is None else np.matmul(rows_of(tx), w)
    if tw is not None:
        t += np.matmul(rows_of(x), tw)
    if tb is not None:
        t += tb
    if relu_after:
        t *= rows > 0
    return t.reshape(y.shape)


def _planned_dense(inputs: Sequence[Array], options: Options, output: Array) -> PlannedNode | None:
    """Return the same passes on fixed memory, for matrices whose weight's gradient is a single product.

    The method dot() takes less time than matmul(), with the same bits for matrices of several rows and columns.
    """
    (x, w, b), relu_after = inputs, options["relu_after"]
    if x.ndim != 2 or w.size > PIECE or min(*x.shape, *w.shape) < 2:
        return None
    xt, wt, zeros = x.T, w.T, np.zeros_like(output)  # NumPy compares arrays faster than an array and a number
    gz, is_positive = np.empty_like(output), np.empty(output.shape, np.bool_)

    def forward() -> None:
        x.dot(w, output)
        if b is not None:
            np.add(output, b, output)
        if relu_after:
            np.maximum(output, zeros, out=output)

    def backward(g: Array, targets: Sequence[Array | None]) -> None:
        by_x, by_w, by_b = targets
        if relu_after:
            np.greater(output, zeros, is_positive)
            gz[...] = is_positive
            g = np.multiply(gz, g, gz)
        if by_b is not None:
            np.add.reduce(g, axis=0, out=by_b)
        if by_w is not None:
            xt.dot(g, by_w)
        if by_x is not None:
            g.dot(wt, by_x)

    return PlannedNode(forward, backward, [True] * 3)


dense_block = Block("dense_block", _dense, _dense_forward, _dense_backward, _dense_tangent, _planned_dense)
dense_block.separable = True
