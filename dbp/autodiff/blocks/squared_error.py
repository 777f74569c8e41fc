"""A block for the squared error: the square of outputs - targets, averaged over the last axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.block import Block
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.primitives import mean, square
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array


def _squared_error(outputs: Value, targets: Value, axes: int) -> Value:
    losses = square(outputs - targets)
    return mean(losses, axis=tuple(range(axes, losses.ndim))) if axes < losses.ndim else losses


def _rows(x: Array, axes: int) -> Array:
    """Return x as a matrix with a row for each loss."""
    return x.reshape(math.prod(x.shape[:axes]), math.prod(x.shape[axes:]))


def _squared_error_forward(outputs: Array, targets: Array, axes: int) -> tuple[Array, None]:
    if axes == outputs.ndim or not outputs.size:
        return np.asarray(_squared_error(outputs, targets, axes)), None
    rows, wanted = _rows(outputs, axes), _rows(targets, axes)
    losses = np.empty(len(rows), outputs.dtype)
    for piece in row_pieces(*rows.shape):
        difference = rows[piece] - wanted[piece]
        np.multiply(difference, difference, out=difference)
        np.add.reduce(difference, axis=1, out=losses[piece])
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


squared_error_block = Block("squared_error_block", _squared_error, _squared_error_forward, _squared_error_backward)
