"""The epilogue of a convolution: max pooling, bias and ReLU while its output is in the cache, and their backward pass.

Bias and ReLU come after the pooling: both keep the order of values, and fewer values are left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.scratch import buffer
from dbp.types import Array

NOWHERE = np.uint8(255)  # in place of the position of a maximum that ReLU cut off
MAX_POOL = 15  # pixels along a window, so that the number of a pixel in it fits in a byte


def windows(z: Array, pool: int, rows: int = 1, columns: int = 2) -> list[Array]:
    """Return pool * pool views of `z`, row by row; each holds one pixel of every complete window."""
    high, wide = z.shape[rows] // pool * pool, z.shape[columns] // pool * pool
    views = []
    for i in range(pool):
        for j in range(pool):
            index: list[slice] = [slice(None)] * z.ndim
            index[rows], index[columns] = slice(i, high, pool), slice(j, wide, pool)
            views.append(z[tuple(index)])
    return views


def maximum(candidates: Sequence[Array], out: Array, positions: Array | None) -> None:
    """Write the elementwise maximum of the candidates to `out`, and the number of the first that has it to `positions`.

    These are None without a backward pass.
    """
    np.copyto(out, candidates[0])
    if positions is None:
        for candidate in candidates[1:]:
            np.maximum(out, candidate, out=out)
        return
    positions.fill(0)
    better = buffer("better", out.shape, np.bool_)
    number = better.view(np.uint8)
    for i, candidate in enumerate(candidates[1:], start=1):
        np.greater(candidate, out, out=better)
        np.maximum(out, candidate, out=out)
        np.multiply(number, np.uint8(i), out=number)
        np.maximum(positions, number, out=positions)  # a later winner has the larger number


def scatter_to_maxima(g: Array, positions: Array, targets: Sequence[Array]) -> None:
    """Apply the adjoint of `maximum`: each target becomes `g` where it was the maximum, and zero elsewhere."""
    chosen = buffer("chosen", positions.shape, np.bool_)
    for i, target in enumerate(targets):
        np.equal(positions, np.uint8(i), out=chosen)
        np.multiply(g, chosen, out=target)


def drop_cut_off(positions: Array, y: Array) -> None:
    """Set the positions of maxima that ReLU cut off to NOWHERE, so that the backward pass need not read `y`."""
    cut = np.less_equal(y, 0, out=buffer("better", y.shape, np.bool_))
    number = cut.view(np.uint8)
    np.multiply(number, NOWHERE, out=number)
    np.maximum(positions, number, out=positions)


class Activation:
    """Bias and ReLU, applied in place to contiguous arrays (..., pixels, K).

    Both operands are repeated for each pixel: NumPy is three times slower with a scalar or with rows as short as K.
    """

    def __init__(self, b: Array | None, relu: bool) -> None:
        self.b, self.relu = b, relu
        self.bias = self.zeros = np.empty(0)

    def apply(self, z: Array) -> None:
        """Replace `z` by relu(z + b)."""
        pixels, size = z.shape[-2:]
        flat = z.reshape(-1, pixels * size)
        if self.zeros.size < pixels * size:
            self.zeros = np.zeros(pixels * size, z.dtype)
            self.bias = self.zeros if self.b is None else np.tile(self.b.astype(z.dtype, copy=False), pixels)
        if self.b is not None:
            np.add(flat, self.bias[: pixels * size], out=flat)
        if self.relu:
            np.maximum(flat, self.zeros[: pixels * size], out=flat)


def gate(g: Array, y: Array, out: Array) -> Array:
    """Write `g` where the output y of ReLU is positive, else zero, to `out`: the cotangent before ReLU."""
    positive = np.greater(y, 0, out=buffer("positive", y.shape, np.bool_))
    return np.multiply(g, positive, out=out)


def masked(g: Array, y: Array, relu: bool) -> Array:
    """Return the cotangent before ReLU, in scratch memory, or `g` itself without ReLU."""
    return gate(g, y, buffer("masked", g.shape, g.dtype)) if relu else g
