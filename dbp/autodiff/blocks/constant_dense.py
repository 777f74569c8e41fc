"""A dense layer whose weights are the same in many calls, of which nothing is differentiated, as in inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.dense import dense_alone
from dbp.autodiff.products import ColumnPart, column_parts
from dbp.types import Array

LEAST_COLUMNS = 4  # of a part; with fewer, BLAS sums a single row in another order where they lie side by side
LAID_OUT_FROM = 768  # rows in all calls; the layout takes as long as it saves for so many
MOST_BYTES = 1 << 22  # of weights that are laid out, as their copy takes as much memory again


class ConstantDense:
    """Weights and bias of a dense layer, which must not change.

    Once many rows have been multiplied, the weights are laid out in the order in which small products read them, which
    take a twentieth less time then. The bits of the outputs are the same.

    Args:
        w: weights (inputs, outputs).
        b: (outputs,), or None.
    """

    def __init__(self, w: Array, b: Array | None):
        self._w, self._b, self._rows = w, b, 0
        self._laid_out: dict[int, list[ColumnPart]] = {}  # by the columns of a part

    def __call__(self, x: Array, activation: str) -> Array:
        """Return activation(x w + b), as dense_block() does."""
        self._rows += x.size // max(1, len(self._w))
        is_laid_out = self._rows >= LAID_OUT_FROM and self._w.nbytes <= MOST_BYTES
        return dense_alone(x, self._w, self._b, activation, self._parts if is_laid_out else column_parts)

    def _parts(self, w: Array, wide: int) -> Sequence[ColumnPart]:
        """Return the columns of the weights in parts that lie one after the other."""
        if wide not in self._laid_out:
            self._laid_out[wide] = [_laid_out(part) for part in column_parts(w, wide)]
        return self._laid_out[wide]


def _laid_out(part: ColumnPart) -> ColumnPart:
    """Return a part whose matrices lie one after the other, or the part itself if its products had other bits then."""
    if part.matrices.shape[-1] < LEAST_COLUMNS:
        return part
    return part._replace(matrices=np.ascontiguousarray(part.matrices))
