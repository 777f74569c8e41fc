"""What the fast versions of recurrent blocks share: arrays of positions, and products for all positions at once.

Within a position the gates are the first axis, (gates, examples, units), so that the elements of a gate are contiguous.
A pass from the end of a sequence to its beginning is one over the positions in reverse order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dbp.autodiff.blocks.column_blocks import column_blocks, product
from dbp.autodiff.blocks.dense import weight_gradient
from dbp.autodiff.products import matmul
from dbp.autodiff.tensor import OutputSlot
from dbp.types import Array

ROWS = 128  # of a product for the inputs of some positions
PADDING = 16  # elements, a line of the cache in float32


def in_order(array: Any, backward: bool) -> Any:
    """Return an array (examples, length, ...) with its positions in the order of the pass."""
    return array[:, ::-1] if backward else array


def weighted_inputs(x: Array, weight: Array, bias: Array | None, gates: int) -> Iterator[Array]:
    """Yield x W + b of each position, (gates, examples, units).

    It is computed for a few positions at a time, so that it is still in the cache when they are reached.
    """
    n, length, channels = x.shape
    units, count = weight.shape[1] // gates, max(1, ROWS // max(1, n))
    blocks = column_blocks(weight, count * n, gates)
    for start in range(0, length, count):
        positions = min(count, length - start)
        rows = np.ascontiguousarray(x[:, start : start + count].swapaxes(0, 1)).reshape(positions * n, channels)
        z = product(rows, blocks, np.empty((gates, positions * n, units), x.dtype))
        if bias is not None:
            z += bias.reshape(gates, 1, units)
        yield from z.reshape(gates, positions, n, units).swapaxes(0, 1)


def valid_examples(mask: Array | None, length: int, backward: bool) -> list[Any]:
    """Return for each position, in the order of the pass, which examples have data there, a column; True for all."""
    if mask is None:
        return [True] * length
    return [True if valid.all() else valid[:, None] for valid in in_order(mask, backward).T]


def by_outputs(g: Array, length: int, sequences: bool, backward: bool) -> list[Array | None]:
    """Return the cotangent of each position's output, (examples, units), in the order of the pass; None for zeros."""
    if sequences:
        return list(in_order(g, backward).swapaxes(0, 1))
    return [*[None] * (length - 1), g] if length else []


def rows_apart(n: int, length: int, columns: int, dtype: Any) -> Array:
    """Return an array (n, length, columns) with a little space after each row.

    Where a length of rows is a power of two, the elements of a column share a few lines of the cache.
    """
    return np.empty((n, length, columns + PADDING), dtype)[..., :columns]


def by_recurrent(states: Array, by_z: Array, slot: OutputSlot | None, backward: bool) -> Array:
    """Return the gradient of U, of one product over all rows but one, each state beside what it has led to.

    Args:
        states: of all positions (examples, length, units), in the order of the pass.
        by_z: cotangents of the weighted sums that U takes part in, (examples, length, gates x units).
        slot: for the gradient.
        backward: whether the pass goes from the last position to the first.
    """
    first = in_order(by_z, backward)[:, :1]  # not led to by the last state of the example before
    held = first.copy()
    first[:] = 0
    before, rows = _rows(in_order(states, backward)), _rows(by_z)
    pair = (before[1:], rows[:-1]) if backward else (before[:-1], rows[1:])
    found = weight_gradient(*pair, slot)
    first[:] = held
    return found


def by_weighted_inputs(
    x: Array, weight: Array, by_z: Array, wanted: Sequence[bool], slots: Sequence[OutputSlot | None]
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the wanted cotangents of the inputs, W and b, given those of the sums x W + b."""
    return (
        _by_inputs(weight, by_z) if wanted[0] else None,
        weight_gradient(_rows(x), _rows(by_z), slots[1]) if wanted[1] else None,
        by_bias(by_z, slots[2]) if wanted[2] else None,
    )


def by_bias(by_z: Array, slot: OutputSlot | None) -> Array:
    """Return the gradient of a bias, given the cotangents of its sums."""
    return np.asarray(np.add.reduce(_rows(by_z), axis=0, out=slot and slot.array))


def _by_inputs(weight: Array, by_z: Array) -> Array:
    """Return the cotangent of the inputs, (examples, length, channels)."""
    return matmul(_rows(by_z), weight.T).reshape(*by_z.shape[:2], len(weight))


def _rows(x: Array) -> Array:
    return x.reshape(len(x) * x.shape[1], x.shape[2])


def tangent_of_inputs(tangents: Sequence[Array | None], x: Array, weight: Array, gates: int, backward: bool) -> Array:
    """Return the tangent of x W + b of every position, (length, gates, examples, units).

    Args:
        tangents: of the inputs, of W and of b; None for one that has none.
        x: inputs (examples, length, channels) in the order of the pass.
        weight: W.
        gates: number of matrices side by side.
        backward: whether the pass goes from the last position to the first.
    """
    tx, tw, tb = tangents
    found = np.zeros((x.shape[1], gates, len(x), weight.shape[1] // gates), x.dtype)
    if tx is not None:
        _add_products(found, in_order(tx, backward), weight)
    if tw is not None:
        _add_products(found, x, tw)
    if tb is not None:
        found += tb.reshape(gates, 1, -1)
    return found


def tangent_of_states(tu: Array | None, states: Array, gates: int) -> Array:
    """Return the part of the tangent of h U that is due to the tangent of U, of every position.

    Args:
        tu: the tangent of U; None if it has none.
        states: of all positions (examples, length, units), in the order of the pass.
        gates: number of matrices side by side.
    """
    n, length, units = states.shape
    found = np.zeros((length, gates, n, units), states.dtype)
    if tu is not None:
        _add_products(found[1:], states[:, :-1], tu)
    return found


def _add_products(sums: Array, x: Array, matrix: Array) -> None:
    for t, one in enumerate(weighted_inputs(x, matrix, None, sums.shape[1])):
        sums[t] += one
