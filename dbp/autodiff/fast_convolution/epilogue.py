"""The epilogue of a convolution: max pooling, bias and ReLU while its output is in the cache, and their backward pass.

Bias and ReLU come after the pooling: both keep the order of values, and fewer values are left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.scratch import buffer, zeros
from dbp.types import Array

NOWHERE = np.uint8(255)  # in place of the position of a maximum that ReLU cut off
MAX_POOL = 15  # pixels along a window, so that the number of a pixel in it fits in a byte
LONG_ROW = 1 << 14  # elements


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
    """Bias, a shortcut's values and ReLU, applied in place to contiguous arrays (..., K).

    The bias and the zeros of ReLU are repeated for the pixels of a long row: NumPy is three times slower with a scalar,
    and copies an operand that is repeated for rows of no more than 8192 elements.

    Args:
        b: the bias (K,); None for none.
        relu: whether ReLU is applied.
    """

    def __init__(self, b: Array | None, relu: bool) -> None:
        self.b, self.relu = b, relu
        self.bias: Array = np.empty(0)

    def apply(self, z: Array, added: Array | None = None) -> None:
        """Replace `z` by relu(z + b + added), where `added` has the shape of `z`."""
        outputs, flat = z.shape[-1], z.reshape(-1)
        row = min(z.size, max(1, LONG_ROW // max(outputs, 1)) * outputs)
        if self.b is not None and self.bias.size < row:
            self.bias = np.tile(self.b.astype(z.dtype, copy=False), row // outputs)
        end = z.size // row * row if row else 0
        for part, length in ((slice(0, end), row), (slice(end, None), z.size - end)):
            if not length:
                continue
            rows = flat[part].reshape(-1, length)
            if self.b is not None:
                np.add(rows, self.bias[:length], out=rows)
            if added is not None:
                np.add(rows, added.reshape(-1)[part].reshape(-1, length), out=rows)
            if self.relu:
                np.maximum(rows, zeros((length,), z.dtype), out=rows)


def gate(g: Array, y: Array, out: Array) -> Array:
    """Write `g` where the output y of ReLU is positive, else zero, to `out`: the cotangent before ReLU."""
    positive = np.greater(y, 0, out=buffer("positive", y.shape, np.bool_))
    return np.multiply(g, positive, out=out)


def masked(g: Array, y: Array, relu: bool) -> Array:
    """Return the cotangent before ReLU, in scratch memory, or `g` itself without ReLU."""
    return gate(g, y, buffer("masked", g.shape, g.dtype)) if relu else g
