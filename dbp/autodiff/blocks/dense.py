"""A block for a dense layer: activation(x w + b), with ReLU or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.primitives import relu, reshape
from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.tensor import OutputSlot, PlannedNode, Value
from dbp.types import Array

PIECE = 1 << 18  # elements of a gradient computed in one matrix product, at least; fewer would cost speed
PIECE_ROWS = 512  # rows of it, at least; likewise
TILE = 64  # rows of a piece are a multiple of it, as matrix products work on tiles of rows
HOT_ELEMENTS = 1 << 14  # of outputs that get bias and ReLU together, while they are in the cache


def _dense(x: Value, w: Value, b: Value | None, relu_after: bool) -> Value:
    z = rows_of(x) @ w
    z = z if b is None else z + b
    z = relu(z) if relu_after else z
    return reshape(z, shape=(*np.shape(x)[:-1], np.shape(w)[1]))


def _dense_forward(x: Array, w: Array, b: Array | None, relu_after: bool) -> tuple[Array, None]:
    y = np.matmul(rows_of(x), w)
    _finish(y, b, relu_after, np.zeros_like(y[: _hot_rows(y)]))
    return y.reshape(*x.shape[:-1], w.shape[1]), None


def _hot_rows(y: Array) -> int:
    """Return how many rows of outputs stay in the cache while several operations follow each other."""
    return max(1, HOT_ELEMENTS // max(1, y.shape[1]))


def _finish(y: Array, b: Array | None, relu_after: bool, zeros: Array) -> None:
    """Write relu(y + b), or y + b, to y, piece by piece.

    Args:
        y: matrix of sums.
        b: None without a bias.
        relu_after: whether ReLU follows.
        zeros: of a piece, as NumPy is three times slower where it compares with a single zero.
    """
    if not relu_after:
        if b is not None:
            np.add(y, b, y)
        return
    for start in range(0, len(y), len(zeros)):
        piece = y[start : start + len(zeros)]
        if b is not None:
            np.add(piece, b, piece)
        np.maximum(piece, zeros[: len(piece)], out=piece)


def _gate(g: Array, y: Array, zeros: Array) -> Array:
    """Return g where the output y of ReLU is positive, else zero, piece by piece.

    Args:
        g: matrix of cotangents.
        y: matrix of outputs.
        zeros: of a piece.
    """
    gated = np.empty_like(y)
    for start in range(0, len(y), len(zeros)):
        rows = slice(start, start + len(zeros))
        part = gated[rows]
        part[...] = np.greater(y[rows], zeros[: len(part)])  # faster than to multiply by booleans
        np.multiply(part, g[rows], part)
    return gated


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
    gz = rows_of(g)
    if relu_after:
        outputs = rows_of(y)
        gz = _gate(gz, outputs, np.zeros_like(outputs[: _hot_rows(outputs)]))
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
    for rows in _pieces(x.shape[1], gz.shape[1]):
        np.matmul(x[:, rows].T, gz, out=array[rows])
        if rows.start:
            on_ready(rows.start * gz.shape[1])
    return array


def _pieces(rows: int, columns: int) -> list[slice]:
    """Return the rows of a weight's gradient that are computed in one product each, from the last to the first."""
    length = max(PIECE_ROWS, -(-PIECE // (columns * TILE)) * TILE)
    return [slice(start, start + length) for start in reversed(range(0, rows, length))]


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
    """Return the same passes on fixed memory, for matrices.

    The method dot() takes less time than matmul(), with the same bits for matrices of several rows and columns.
    """
    (x, w, b), relu_after = inputs, options["relu_after"]
    if x.ndim != 2 or min(*x.shape, *w.shape) < 2:
        return None
    wt, zeros = w.T, np.zeros_like(output[: _hot_rows(output)])
    pieces = [(x[:, rows].T, rows) for rows in _pieces(*w.shape)]
    multiply = np.ndarray.dot if len(pieces) == 1 else np.matmul  # dot() copies parts of columns

    def forward() -> None:
        x.dot(w, output)
        _finish(output, b, relu_after, zeros)

    def backward(g: Array, targets: Sequence[Array | None]) -> None:
        by_x, by_w, by_b = targets
        if relu_after:
            g = _gate(g, output, zeros)
        if by_b is not None:
            np.add.reduce(g, axis=0, out=by_b)
        if by_w is not None:
            for xt, rows in pieces:
                multiply(xt, g, by_w[rows])
        if by_x is not None:
            g.dot(wt, by_x)

    return PlannedNode(forward, backward, [True] * 3)


dense_block = Block("dense_block", _dense, _dense_forward, _dense_backward, _dense_tangent, _planned_dense)
dense_block.separable = True
