"""A block for cross-entropy: -log_softmax(z)[target]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.primitives import log_softmax, pick, reshape
from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.tensor import OutputSlot, PlannedNode, Value, write_parts
from dbp.types import Array


def _cross_entropy(z: Value, targets: Array) -> Value:
    losses = -pick(log_softmax(rows_of(z)), index=targets.reshape(-1))
    return reshape(losses, shape=targets.shape)


def _cross_entropy_forward(z: Array, targets: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return the losses; exp(z - the largest z of the row), and its sum in each row."""
    rows, chosen = rows_of(z), targets.reshape(-1)
    exponentials = np.empty(rows.shape, rows.dtype)
    losses, sums = np.empty((2, len(rows)), rows.dtype)
    for piece in row_pieces(*rows.shape):
        e = exponentials[piece]
        np.subtract(rows[piece], np.maximum.reduce(rows[piece], axis=1, keepdims=True), out=e)
        np.negative(e[np.arange(len(e)), chosen[piece]], out=losses[piece])
        np.exp(e, out=e)
        losses[piece] += np.log(np.add.reduce(e, axis=1, out=sums[piece]))
    return losses.reshape(targets.shape), (exponentials, sums)


def _cross_entropy_backward(
    g: Array,
    _y: Array,
    kept: tuple[Array, Array],
    _wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    z: Array,
    targets: Array,
) -> Sequence[Array | None]:
    """Return g (softmax(z) - 1 at the target)."""
    (exponentials, sums), of_rows = kept, g.reshape(-1)
    slope = exponentials * (of_rows / sums)[:, None]
    slope[np.arange(len(slope)), targets.reshape(-1)] -= of_rows
    return [slope.reshape(z.shape)]


def _planned_cross_entropy(inputs: Sequence[Array], options: Options, output: Array) -> PlannedNode | None:
    """Return the same passes on fixed memory, for one target a row."""
    (z,), targets = inputs, options["targets"]
    if z.ndim != 2:
        return None
    exponentials, slope = np.empty_like(z), np.empty_like(z)
    sums, of_row = np.empty(len(z), z.dtype), np.empty((len(z), 1), z.dtype)
    of_rows, numbers, slopes = (array.reshape(-1) for array in (of_row, exponentials, slope))
    starts = np.arange(len(z)) * z.shape[1]
    indices = np.empty_like(starts)  # of one number of each row

    def forward() -> None:
        np.add(starts, z.argmax(1), indices)  # faster than to reduce by maximum
        z.reshape(-1).take(indices, out=of_rows, mode="clip")
        np.subtract(z, of_row, exponentials)
        np.add(starts, targets, indices)
        np.negative(numbers[indices], output)
        np.exp(exponentials, exponentials)
        np.add.reduce(exponentials, axis=1, out=sums)
        np.log(sums, of_rows)
        np.add(output, of_rows, output)

    def backward(g: Array, into: Sequence[Array | None]) -> None:
        np.divide(g, sums, of_rows)
        np.multiply(exponentials, of_row, slope)
        slopes[indices] -= g
        write_parts([slope], into)

    return PlannedNode(forward, backward, [True])


cross_entropy_block = Block(
    "cross_entropy_block",
    _cross_entropy,
    _cross_entropy_forward,
    _cross_entropy_backward,
    planned=_planned_cross_entropy,
)
