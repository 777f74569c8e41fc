"""A block for cross-entropy: -log_softmax(z)[target]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.block import Block
from dbp.autodiff.primitives import log_softmax, pick, reshape
from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.tensor import OutputSlot, Value
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


cross_entropy_block = Block("cross_entropy_block", _cross_entropy, _cross_entropy_forward, _cross_entropy_backward)
