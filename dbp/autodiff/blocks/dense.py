"""A block for a dense layer: activation(x w + b)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dbp.autodiff.blocks.activations import FUSED, Fused, times_slope
from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.blocks.dense_derivatives import DENSE_RULES
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.primitives import reshape
from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.products import PartsOf, column_parts, matmul
from dbp.autodiff.tensor import OutputSlot, PlannedNode, Value
from dbp.blas import SMALL_PRODUCT
from dbp.types import Array

GRADIENT_ELEMENTS = 1 << 18  # of a weight's gradient in one matrix product, at least; fewer would cost speed
GRADIENT_ROWS = 512  # of it, at least; likewise
TILE = 64  # the rows of such a product are a multiple of it, as matrix products work on tiles of rows


def _dense(x: Value, w: Value, b: Value | None, activation: str) -> Value:
    z = rows_of(x) @ w
    z = z if b is None else z + b
    z = FUSED[activation].specification(z) if activation in FUSED else z
    return reshape(z, shape=(*np.shape(x)[:-1], np.shape(w)[1]))


def _dense_forward(
    x: Array, w: Array, b: Array | None, activation: str, keep: bool = True, parts_of: PartsOf = column_parts
) -> tuple[Array, Array | None]:
    """Return the outputs; the derivative of an activation that its value does not determine, unless keep is False."""
    y, fused = matmul(rows_of(x), w, None, parts_of), FUSED.get(activation)
    slope = np.empty_like(y) if keep and fused and fused.slope_of_output is None else None
    _finish(y, b, fused, slope)
    return y.reshape(*x.shape[:-1], w.shape[1]), slope


def dense_alone(x: Array, w: Array, b: Array | None, activation: str, parts_of: PartsOf = column_parts) -> Array:
    """Return the outputs, where nothing is kept for derivatives; see matmul() for parts_of."""
    return _dense_forward(x, w, b, activation, False, parts_of)[0]


def _finish(y: Array, b: Array | None, fused: Fused | None, slope: Array | None) -> None:
    """Write activation(y + b) to y, and its derivative to slope unless that is None, piece by piece.

    Args:
        y: matrix of sums.
        b: None without a bias.
        fused: the activation; None without one.
        slope: matrix of derivatives.
    """
    if fused is None:
        if b is not None:
            np.add(y, b, y)
        return
    for rows in row_pieces(*y.shape):
        _finish_piece(y[rows], b, fused, None if slope is None else slope[rows])


def _finish_piece(y: Array, b: Array | None, fused: Fused | None, slope: Array | None) -> None:
    """Do what _finish() does for one piece."""
    if b is not None:
        np.add(y, b, y)
    if fused is not None:
        fused.apply(y, slope)


def _dense_backward(
    g: Array,
    y: Array,
    slope: Array | None,
    wanted: Sequence[bool],
    slots: Sequence[OutputSlot | None],
    x: Array,
    w: Array,
    _b: Array | None,
    activation: str,
    memory: Array | None = None,
) -> Sequence[Array | None]:
    gz = rows_of(g)
    if activation in FUSED:
        memory = None if memory is None else rows_of(memory)
        gz = times_slope(FUSED[activation], gz, rows_of(y), slope, memory)
    by_b = _bias_gradient(gz, slots[2]) if wanted[2] else None
    by_w = weight_gradient(rows_of(x), gz, slots[1]) if wanted[1] else None
    return matmul(gz, w.T).reshape(x.shape) if wanted[0] else None, by_w, by_b


def _bias_gradient(gz: Array, slot: OutputSlot | None) -> Array:
    """Return the sum of gz over its rows."""
    found: Array = np.add.reduce(gz, axis=0, out=slot and slot.array)
    if slot is not None:
        slot.on_ready(0)
    return found


def weight_gradient(x: Array, gz: Array, slot: OutputSlot | None) -> Array:
    """Return x^T gz, computed from its last rows to its first: the last can be sent while the others are computed."""
    array, on_ready = slot or OutputSlot(np.empty((x.shape[1], gz.shape[1]), np.result_type(x, gz)))
    for rows in _gradient_pieces(x.shape[1], gz.shape[1]):
        matmul(x[:, rows].T, gz, array[rows])
        if rows.start:
            on_ready(rows.start * gz.shape[1])
    return array


def _gradient_pieces(rows: int, columns: int) -> list[slice]:
    """Return the rows of a weight's gradient that are computed in one product each, from the last to the first."""
    length = max(GRADIENT_ROWS, -(-GRADIENT_ELEMENTS // (columns * TILE)) * TILE)
    return [slice(start, start + length) for start in reversed(range(0, rows, length))]


def _dense_tangent(
    tangents: Sequence[Array | None],
    y: Array,
    slope: Array | None,
    x: Array,
    w: Array,
    _b: Array | None,
    activation: str,
) -> Array:
    """Return the tangent of the output for the tangents of x, w and b, None for one that has none."""
    (tx, tw, tb), rows = tangents, rows_of(y)
    t: Array = np.zeros_like(rows) if tx is None else matmul(rows_of(tx), w)
    if tw is not None:
        t += matmul(rows_of(x), tw)
    if tb is not None:
        t += tb
    if activation in FUSED:
        t = times_slope(FUSED[activation], t, rows, slope)
    return t.reshape(y.shape)


def _write_times_slope(
    g: Array,
    pieces: Sequence[tuple[slice, Array, Array, Array]],
    slope_of_output: Callable[[Array, Array], None] | None,
) -> None:
    """Write g times the derivative of an activation function piece by piece.

    Args:
        g: the cotangent of its values.
        pieces: the rows of a piece, its values, its derivatives, and where to write the product.
        slope_of_output: see Fused; None if the derivatives are there.
    """
    for rows, y, slope, product in pieces:
        if slope_of_output is not None:
            slope_of_output(y, slope)
        np.multiply(slope, g[rows], product)


def _planned_dense(inputs: Sequence[Array], options: Options, output: Array) -> PlannedNode | None:
    """Return the same passes on fixed memory, for matrices.

    The method dot() takes less time than matmul(), with the same bits for matrices of several rows and columns.
    """
    x, w, _ = inputs
    if x.ndim != 2 or min(*x.shape, *w.shape) < 2:
        return None
    fused, slope, product = FUSED.get(options["activation"]), np.empty_like(output), np.empty_like(output)
    slope_of_output = None if fused is None else fused.slope_of_output
    of_output = [(rows, output[rows], slope[rows], product[rows]) for rows in row_pieces(*output.shape)]
    is_cut = len(_gradient_pieces(*w.shape)) > 1  # dot() would copy the columns of x that are multiplied
    multiply = matmul if is_cut or len(x) * w.size > SMALL_PRODUCT else np.ndarray.dot

    def forward() -> None:
        x, w, b = inputs
        multiply(x, w, output)
        for _, y, s, _ in of_output:
            _finish_piece(y, b, fused, None if slope_of_output else s)

    def backward(g: Array, targets: Sequence[Array | None]) -> None:
        (x, w, _), (by_x, by_w, by_b) = inputs, targets
        if fused is not None:
            _write_times_slope(g, of_output, slope_of_output)
            g = product
        if by_b is not None:
            np.add.reduce(g, axis=0, out=by_b)
        if by_w is not None and not is_cut:
            multiply(x.T, g, by_w)
        elif by_w is not None:
            weight_gradient(x, g, OutputSlot(by_w))
        if by_x is not None:
            multiply(g, w.T, by_x)

    return PlannedNode(forward, backward, [True] * 3, reads_list=True)


dense_block = Block(
    "dense_block",
    _dense,
    _dense_forward,
    _dense_backward,
    _dense_tangent,
    dense_alone,
    _planned_dense,
    DENSE_RULES,
    new_cotangents=True,
    takes_memory=True,
)
dense_block.separable = True
