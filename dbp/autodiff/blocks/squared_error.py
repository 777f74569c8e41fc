"""A block for the squared error: the square of outputs - targets, averaged over the last axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.primitives import mean, square
from dbp.autodiff.tensor import OutputSlot, PlannedNode, Value
from dbp.types import Array


def _squared_error(outputs: Value, targets: Value, axes: int) -> Value:
    losses = square(outputs - targets)
    return mean(losses, axis=tuple(range(axes, losses.ndim))) if axes < losses.ndim else losses


def _rows(x: Array, axes: int) -> Array:
    """Return x as a matrix with a row for each loss."""
    return x.reshape(math.prod(x.shape[:axes]), math.prod(x.shape[axes:]))


def _add_squares(rows: Array, sums: Array) -> None:
    """Write the sum of the squares of each row; BLAS takes a third of the time that two passes take."""
    if rows.shape[1] == 1:  # for which a call for each row would take longer
        np.multiply(rows, rows, out=sums[:, None])
    else:
        np.vecdot(rows, rows, out=sums)


def _squared_error_forward(outputs: Array, targets: Array, axes: int) -> tuple[Array, None]:
    if axes == outputs.ndim or not outputs.size:
        return np.asarray(_squared_error(outputs, targets, axes)), None
    rows, wanted = _rows(outputs, axes), _rows(targets, axes)
    losses = np.empty(len(rows), outputs.dtype)
    for piece in row_pieces(*rows.shape):
        difference = rows[piece] - wanted[piece]
        _add_squares(difference, losses[piece])
    losses /= rows.shape[1]
    return losses.reshape(outputs.shape[:axes]), None


def _squared_error_backward(
    g: Array,
    _y: Array,
    _kept: None,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    outputs: Array,
    targets: Array,
    axes: int,
) -> Sequence[Array | None]:
    """Return 2 g (outputs - targets) / n, n the number of elements that a loss is the mean of, and the opposite."""
    rows, opposite = _rows(outputs, axes), _rows(targets, axes)
    factors = _rows(g, axes) * g.dtype.type(2 / max(1, rows.shape[1]))
    found = np.empty(rows.shape, g.dtype)
    for piece in row_pieces(*rows.shape):
        np.subtract(rows[piece], opposite[piece], out=found[piece])
        found[piece] *= factors[piece]
    by_outputs = found.reshape(outputs.shape)
    return by_outputs if wanted[0] else None, -by_outputs if wanted[1] else None


def _planned_squared_error(inputs: Sequence[Array], options: Options, output: Array) -> PlannedNode | None:
    """Return the same passes on fixed memory; the differences are kept for backward."""
    (outputs, targets), axes = inputs, options["axes"]
    if axes == outputs.ndim or not outputs.size or targets.dtype != outputs.dtype:
        return None
    count, width = _rows(outputs, axes).shape
    difference = np.empty((count, width), outputs.dtype)
    losses, factors, scale = output.reshape(-1), np.empty((count, 1), output.dtype), output.dtype.type(2 / width)

    def forward() -> None:
        outputs, targets = inputs
        np.subtract(outputs, targets, difference.reshape(outputs.shape))
        _add_squares(difference, losses)
        np.divide(losses, width, losses)

    def backward(g: Array, into: Sequence[Array | None]) -> None:
        by_outputs, by_targets = into
        np.multiply(_rows(g, axes), scale, factors)
        if by_outputs is not None:
            np.multiply(difference, factors, _rows(by_outputs, axes))
        if by_targets is not None:
            np.multiply(difference, factors, _rows(by_targets, axes))
            np.negative(by_targets, by_targets)

    return PlannedNode(forward, backward, [True] * 2, reads_list=True)


squared_error_block = Block(
    "squared_error_block",
    _squared_error,
    _squared_error_forward,
    _squared_error_backward,
    planned=_planned_squared_error,
)
