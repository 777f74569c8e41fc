"""A block for a sum with ReLU, as at the end of a residual block: relu(a + b), piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.activations import relu_in_place
from dbp.autodiff.blocks.block import Block
from dbp.autodiff.blocks.channels import LONG_PIECE
from dbp.autodiff.fast_convolution.epilogue import gate
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.primitives import relu
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array


def _add_relu(a: Value, b: Value) -> Value:
    return relu(a + b)


def _forward(a: Array, b: Array) -> tuple[Array, None]:
    y = np.empty(a.shape, np.result_type(a, b))
    target, one, other = (x.reshape(-1) for x in (y, a, b))
    for piece in row_pieces(y.size, 1, LONG_PIECE):
        relu_in_place(np.add(one[piece], other[piece], out=target[piece]))
    return y, None


def _backward(
    g: Array,
    y: Array,
    _kept: None,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    _a: Array,
    _b: Array,
) -> Sequence[Array | None]:
    """Return the cotangent before ReLU, which is that of both."""
    before = np.empty(y.shape, y.dtype)
    target, out, cotangent = (x.reshape(-1) for x in (before, y, g.astype(y.dtype, copy=False)))
    for piece in row_pieces(y.size, 1, LONG_PIECE):
        gate(cotangent[piece], out[piece], target[piece])
    return [before if want else None for want in wanted]


_block = Block("add_relu_block", _add_relu, _forward, _backward, new_cotangents=True)


def add_relu_block(a: Value, b: Value) -> Value:
    """Return relu(a + b), done in one pass where both have the same shape."""
    return _block(a, b) if np.shape(a) == np.shape(b) else _add_relu(a, b)
