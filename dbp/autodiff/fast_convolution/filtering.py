"""Minimal filtering along sequences, F(3, 3) of Winograd: five products in place of nine for three outputs and taps.

Longer windows are groups of three taps. As a tile of outputs and a group of taps are equally long, all groups share the
same transformed positions, and the products of each frequency are a convolution along the tiles with one tap a group.

With these points the largest error over the largest value is about twice that of the direct float32 product for the
outputs and the cotangents of the inputs, and three times for those of the weights, with 32 to 128 channels and 9 taps;
with 0, +-1, 2 and infinity it is three to four times.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.autodiff.fast_convolution.winograd_tiles import transforms
from dbp.autodiff.scratch import buffer
from dbp.types import Array

POINTS = (0.0, 0.75, -0.75, 1.5)  # of interpolation, besides infinity; exact in binary, as their products
OUT = 3  # outputs of a tile, and taps of a group
MIN_TERMS = 160  # taps times channels of inputs or outputs; with fewer, transforms take longer than what they save
MIN_OUTPUTS = 256  # likewise, of all sequences
MAX_PRODUCTS = 0.75  # of those without minimal filtering


def filters(x: Array, w: Array, outputs: int) -> bool:
    """Return True if minimal filtering pays, for so many outputs: of float32, whose rounding error it multiplies."""
    taps, channels = w.shape[1], min(w.shape[2:])
    products = (OUT + 2) * -(-taps // OUT)  # for OUT outputs
    pays = products <= MAX_PRODUCTS * OUT * taps and taps * channels >= MIN_TERMS and outputs >= MIN_OUTPUTS
    return pays and x.dtype == w.dtype == np.float32


class Filtering:
    """The transforms of positions, weights and outputs, and their adjoints; for tiles of one position, none.

    Args:
        tile: positions that are computed together, 1 or OUT.
        taps: of the window, in tiles.
        stride: positions of a sequence that are one position of a tile.
        w: weights (1, taps, C, K).
    """

    def __init__(self, tile: int, taps: int, stride: int, w: Array) -> None:
        self.tile, self.taps, self.stride = tile, taps, stride
        _, self.given, self.channels, self.outputs = w.shape
        one = np.ones((1, 1))
        a, g, b = transforms(POINTS) if tile > 1 else (one, one, one)
        self.a, self.g, self.b = a.astype(w.dtype), g.astype(w.dtype), b.astype(w.dtype)

    def kernel(self, w: Array) -> Array:
        """Return the weights (frequencies, taps, channels of a position, K), with zeros for taps that are not given."""
        missing = self.taps * self.tile * self.stride - self.given
        whole = w[0] if not missing else np.concatenate([w[0], np.zeros((missing, *w.shape[2:]), w.dtype)])
        by_tap = whole.reshape(self.taps, self.tile, self.stride * self.channels, self.outputs)
        found: Array = np.tensordot(self.g, by_tap, (1, 1))
        return found

    def weights_of(self, kernel: Array) -> Array:
        """Return the cotangent of the weights, given that of the kernel (frequencies, taps * position channels, K)."""
        by_tap = np.tensordot(kernel.reshape(len(kernel), self.taps, -1, self.outputs), self.g, (0, 0))
        taps: Array = np.moveaxis(by_tap, -1, 1).reshape(1, -1, self.channels, self.outputs)
        return taps[:, : self.given]

    def inputs(self, positions: Array) -> Array:
        """Return the transformed positions (frequencies, tiles, channels of a position)."""
        return self._transformed("inputs", self.b, positions)

    def cotangents(self, positions: Array) -> Array:
        """Return the transformed cotangents of the outputs (frequencies, tiles, K)."""
        return self._transformed("cotangents", self.a.T, positions)

    def _transformed(self, name: str, matrix: Array, positions: Array) -> Array:
        """Return the matrix (frequencies, n) times the n positions from the first of each tile on."""
        if self.tile == 1:
            return positions[None]
        tiles, (step, number) = len(positions) // self.tile, positions.strides
        shape, strides = (tiles, matrix.shape[1], positions.shape[1]), (self.tile * step, step, number)
        found = buffer(name, (len(matrix), tiles, positions.shape[1]), positions.dtype)
        np.matmul(matrix, as_strided(positions, shape, strides, writeable=False), out=found.swapaxes(0, 1))
        return found

    def outputs_of(self, products: Array) -> Array:
        """Return the outputs (positions, K) from the products of all frequencies (frequencies, tiles, K)."""
        if self.tile == 1:
            return products.reshape(products.shape[1:])
        products[:, products.shape[1] - self.taps + 1 :] = 0  # which no window reaches
        found = buffer("positions", (products.shape[1], OUT, products.shape[2]), products.dtype)
        np.matmul(self.a, products.swapaxes(0, 1), out=found)
        return found.reshape(-1, products.shape[2])

    def pulled_back(self, products: Array) -> Array:
        """Return the cotangents of the positions from those of the transformed positions, the adjoint of inputs()."""
        if self.tile == 1:
            return products.reshape(products.shape[1:])
        tiles = products.swapaxes(0, 1)
        found = buffer("positions", (len(tiles), OUT, tiles.shape[2]), products.dtype)
        np.matmul(self.b.T[:OUT], tiles, out=found)
        beyond = buffer("beyond", (len(tiles), len(self.b) - OUT, tiles.shape[2]), products.dtype)
        np.matmul(self.b.T[OUT:], tiles, out=beyond)
        found[1:, : beyond.shape[1]] += beyond[:-1]
        return found.reshape(-1, tiles.shape[2])
