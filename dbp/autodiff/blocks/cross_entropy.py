"""A block for cross-entropy: -log_softmax(z)[target]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.primitives import log_softmax, pick, reshape
from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.tensor import OutputSlot, PlannedNode, Value
from dbp.types import Array


def _cross_entropy(z: Value, targets: Array) -> Value:
    losses = -pick(log_softmax(rows_of(z)), index=targets.reshape(-1))
    return reshape(losses, shape=targets.shape)


def _cross_entropy_forward(z: Array, targets: Array) -> tuple[Array, Array]:
    logarithms = log_softmax.value(rows_of(z))
    losses = logarithms[np.arange(len(logarithms)), targets.reshape(-1)]
    return np.negative(losses, out=losses).reshape(targets.shape), logarithms


def _cross_entropy_backward(
    g: Array,
    _y: Array,
    logarithms: Array,
    _wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    z: Array,
    targets: Array,
) -> Sequence[Array | None]:
    """Return g (softmax(z) - 1 at the target)."""
    slope = np.exp(logarithms)
    slope[np.arange(len(slope)), targets.reshape(-1)] -= 1
    slope *= g.reshape(-1, 1)
    return [slope.reshape(z.shape)]


def _planned_cross_entropy(inputs: Sequence[Array], options: Options, output: Array) -> PlannedNode | None:
    """Return the same passes on fixed memory, for one target a row."""
    (z,), targets = inputs, options["targets"]
    if z.ndim != 2:
        return None
    logarithms, slope, of_row = np.empty_like(z), np.empty_like(z), np.empty((len(z), 1), z.dtype)
    of_rows, numbers, slopes = (array.reshape(-1) for array in (of_row, logarithms, slope))
    starts, one = np.arange(len(z)) * z.shape[1], np.ones((), z.dtype)
    places = np.empty_like(starts)  # of one number of each row

    def forward() -> None:
        np.add(starts, z.argmax(1), places)  # faster than to reduce by maximum
        z.reshape(-1).take(places, out=of_rows, mode="clip")
        np.subtract(z, of_row, logarithms)
        np.exp(logarithms, slope)
        np.add.reduce(slope, axis=1, keepdims=True, out=of_row)
        np.log(of_row, of_row)
        np.subtract(logarithms, of_row, logarithms)
        np.add(starts, targets, places)
        np.negative(numbers[places], output)

    def backward(g: Array, into: Sequence[Array | None]) -> None:
        np.exp(logarithms, slope)
        slopes[places] = slopes[places] - one
        np.multiply(slope, g[:, None], into[0])

    return PlannedNode(forward, backward, [True])


cross_entropy_block = Block(
    "cross_entropy_block",
    _cross_entropy,
    _cross_entropy_forward,
    _cross_entropy_backward,
    planned=_planned_cross_entropy,
)
