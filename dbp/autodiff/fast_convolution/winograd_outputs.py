"""Images from the products of Winograd's method, and back: outputs, their maxima, and the cotangents of both sides.

Of each round of tiles, begin() lays out the memory, add() takes the products of one frequency of the height after the
other, transformed along the width at once, and end() transforms along the height and writes the images. Cotangents of
outputs are the way back: load_round() transforms along the height, and each frequency is then read by its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.autodiff.fast_convolution.epilogue import Activation, drop_cut_off, masked, maximum, scatter_to_maxima, windows
from dbp.autodiff.fast_convolution.winograd_tiles import IN, OUT, Grid, TransformedTiles, transforms
from dbp.autodiff.scratch import buffer
from dbp.types import Array

POOL = 2  # pixels along a window of the max pooling
HALF = OUT // POOL  # such windows along a tile


class Outputs:
    """The outputs of a convolution.

    Args:
        y: the outputs of all images, to be written.
        grid: of the tiles.
        added: values that are added to all outputs before ReLU, see `Activation`; None for none.
    """

    def __init__(self, y: Array, grid: Grid, added: Array | None) -> None:
        self.y, self.grid, self.added, self.a = y, grid, added, transforms().outputs.astype(y.dtype)
        self.part = slice(0, 0), slice(0, 0)
        self.shape = grid.shape(*self.part)
        self.out: Array = np.empty(0)
        self.half: Array = np.empty(0)

    def begin(self, images: slice, rows: slice) -> None:
        """Lay out scratch memory for a round."""
        count, high, across, outputs = self.shape = self.grid.shape(images, rows)
        self.part = images, slice(OUT * rows.start, OUT * rows.stop)
        self.out = self.y[self.part]
        self.half = buffer("half", (count, high, IN, across, OUT, outputs), self.y.dtype)

    def add(self, frequency: int, product: Array) -> None:
        """Add one frequency of the height (6, tiles, K)."""
        tiles = product.reshape(IN, *self.shape).transpose(1, 2, 3, 0, 4)
        np.matmul(self.a, tiles, out=self.half[:, :, frequency])

    def end(self, activation: Activation) -> None:
        """Write the outputs of the round."""
        count, high, wide, outputs = self.out.shape
        half = self.half.reshape(count, self.shape[1], IN, -1)[..., : wide * outputs]
        whole = high // OUT
        pixels = self.out.reshape(count, high, wide * outputs)
        np.matmul(self.a, half[:, :whole], out=pixels[:, : OUT * whole].reshape(count, whole, OUT, wide * outputs))
        if high > OUT * whole:
            np.matmul(self.a[: high - OUT * whole], half[:, whole], out=pixels[:, OUT * whole :])
        activation.apply(self.out, None if self.added is None else self.added[self.part])


class Maxima:
    """The largest of every 2 x 2 outputs.

    Tiles stay apart until then, so that the pixels with one position in a window are planes of long rows.

    Args:
        y: the maxima of all images, to be written.
        grid: of the tiles.
        saved: a list for the positions of the maxima of each round, in the order of the tiles; None if not wanted.
    """

    def __init__(self, y: Array, grid: Grid, saved: list[Array] | None) -> None:
        self.y, self.grid, self.a, self.saved = y, grid, transforms().outputs.astype(y.dtype), saved
        self.images = self.rows = slice(0, 0)
        self.shape = grid.shape(self.images, self.rows)
        self.half: Array = np.empty(0)

    def begin(self, images: slice, rows: slice) -> None:
        """Lay out scratch memory for a round."""
        self.images, self.rows = images, rows
        self.shape = count, high, across, outputs = self.grid.shape(images, rows)
        self.half = buffer("half", (IN, OUT, count * high * across, outputs), self.y.dtype)

    def add(self, frequency: int, product: Array) -> None:
        """Add one frequency of the height (6, tiles, K)."""
        np.matmul(self.a, product.reshape(IN, -1), out=self.half[frequency].reshape(OUT, -1))

    def end(self, activation: Activation) -> None:
        """Write the maxima of the round."""
        slots = buffer("slots", (OUT, *self.half.shape[1:]), self.y.dtype)
        np.matmul(self.a, _down(self.half), out=_down(slots))
        pooled = buffer("pooled", (HALF, HALF, *slots.shape[2:]), slots.dtype)
        positions = None if self.saved is None else np.empty(pooled.shape, np.uint8)
        maximum(windows(slots, POOL, 0, 1), pooled, positions)
        activation.apply(pooled)
        if self.saved is not None and positions is not None:
            self.saved.append(positions)
            if activation.relu:
                drop_cut_off(positions, pooled)
        for pixels, slot in _matching_pixels(self.y[self.images], pooled.reshape(HALF, HALF, *self.shape), self.rows):
            np.copyto(pixels, slot)


class CotangentsOfOutputs(TransformedTiles):
    """The transformed cotangents of outputs.

    Args:
        grid: of the tiles.
        y: the outputs, of which those that are not positive have no cotangent; None without ReLU.
        dtype: of the arrays.
    """

    def __init__(self, grid: Grid, y: Array | None, dtype: np.dtype[Any]) -> None:
        super().__init__("product", _spread(dtype), grid, 0, 0)
        self.y = y

    def load_round(self, g: Array, images: slice, rows: slice) -> Array:
        """Transform a round along the height, and return its cotangents as rows of channels."""
        band = images, slice(OUT * rows.start, OUT * rows.stop)
        pixels = np.ascontiguousarray(g[band] if self.y is None else masked(g[band], self.y[band], relu=True))
        self.load(pixels, slice(0, rows.stop - rows.start))
        return pixels.reshape(-1, pixels.shape[-1])


class CotangentsOfMaxima:
    """The transformed cotangents of outputs of which only the maxima have one.

    Args:
        grid: of the tiles.
        saved: the positions of the maxima of each round.
        dtype: of the arrays.
    """

    def __init__(self, grid: Grid, saved: Sequence[Array], dtype: np.dtype[Any]) -> None:
        self.matrix, self.grid, self.positions = _spread(dtype), grid, iter(saved)
        self.half: Array = np.empty(0)
        self.out: Array = np.empty(0)

    def load_round(self, g: Array, images: slice, rows: slice) -> Array:
        """Transform a round along the height, and return its cotangents as rows of channels."""
        positions, shape = next(self.positions), self.grid.shape(images, rows)
        pooled = buffer("pooled", positions.shape, g.dtype)
        g = g[images]
        if g[:, HALF * rows.start : HALF * rows.stop].shape[1:3] != (HALF * shape[1], HALF * shape[2]):
            pooled.fill(0)
        for pixels, slot in _matching_pixels(g, pooled.reshape(HALF, HALF, *shape), rows):
            np.copyto(slot, pixels)
        slots = buffer("slots", (OUT, OUT, *pooled.shape[2:]), g.dtype)
        scatter_to_maxima(pooled, positions, windows(slots, POOL, 0, 1))
        self.half = buffer("half", (IN, *slots.shape[1:]), g.dtype)
        np.matmul(self.matrix, _down(slots), out=_down(self.half))
        self.out = buffer("product", (IN, *slots.shape[2:]), g.dtype)
        return slots.reshape(-1, slots.shape[-1])

    def __getitem__(self, frequency: int) -> Array:
        """Return the transformed cotangents (6, tiles, K) of one frequency of the height, in scratch memory."""
        np.matmul(self.matrix, self.half[frequency].reshape(OUT, -1), out=self.out.reshape(IN, -1))
        return self.out


def _spread(dtype: np.dtype[Any]) -> Array:
    """Return the transform of the outputs' cotangents along one axis (6, 4)."""
    return np.ascontiguousarray(transforms().outputs.T.astype(dtype))


class InputCotangent:
    """The cotangent of the input.

    Tiles overlap by two pixels: the first two of a tile are sums over its own frequencies and those of the tile before,
    which one product with both computes.
    """

    def __init__(self, grid: Grid, x: Array) -> None:
        self.grid, self.dx = grid, np.empty(x.shape, x.dtype)
        back = transforms().inputs.T.astype(x.dtype)
        self.own, self.beyond = back[:OUT], back[OUT:]  # the pixels up to the next tile, and those after them
        self.both = np.concatenate([np.pad(self.beyond, ((0, 2 * OUT - IN), (0, 0))), self.own], 1)
        self.images = self.rows = slice(0, 0)
        nothing: Array = np.empty((0, 0))
        self.product = self.half = self.above = nothing
        self.steps: list[tuple[Array, Array, Array]] = []

    def begin(self, images: slice, rows: slice) -> None:
        """Lay out scratch memory for a round, with the tile row above it in the same image."""
        self.images, self.rows = images, rows
        count, high = images.stop - images.start, rows.stop - rows.start
        if self.half.shape[:2] != (count, 1 + high):
            self._allocate(count, high, self.grid.across)
        if rows.start:
            self.half[:, 0] = self.above

    def _allocate(self, count: int, high: int, across: int) -> None:
        """Lay out scratch memory for rounds of this size, and the products that add() has to do in it."""
        channels, dtype = self.grid.channels, self.dx.dtype
        back = buffer("back", (count, high, across, IN, channels), dtype)
        self.product = back.reshape(-1, IN, channels).swapaxes(0, 1)
        self.half = buffer("rows back", (count, 1 + high, IN, OUT * (across + 1), channels), dtype)
        pairs = as_strided(back, (count, high, across - 1, 2 * IN, channels), back.strides, writeable=False)
        first, between, last = np.split(self.half[:, 1:], (OUT, OUT * across), axis=3)
        self.steps = [
            (self.own, back[:, :, 0], first),
            (self.both, pairs, between.reshape(count, high, IN, across - 1, OUT, channels)),
            (self.beyond, back[:, :, -1], last[:, :, :, : len(self.beyond)]),
        ]

    def add(self, frequency: int) -> None:
        """Add one frequency of the height of the output's cotangent, times the weights, in `product` (6, tiles, C)."""
        for matrix, tiles, pixels in self.steps:
            np.matmul(matrix, tiles, out=pixels[:, :, frequency])

    def end(self) -> None:
        """Write the pixels of the round, and those after the last tile row of an image, to `dx`."""
        grid, rows, channels = self.grid, self.rows, self.grid.channels
        count, width, is_last = len(self.half), grid.width * channels, rows.stop == grid.down
        half = self.half.reshape(count, -1, OUT * (grid.across + 1) * channels)
        half = half[:, :, grid.left * channels : grid.left * channels + width]
        dx = self.dx[self.images].reshape(count, grid.height, width)
        for row in range(rows.start, rows.stop + is_last):
            above = IN * (row - rows.start)
            matrix, tiles = self.both, half[:, above : above + 2 * IN]
            if row == 0:
                matrix, tiles = self.own, tiles[:, IN:]
            elif row == grid.down:
                matrix = self.beyond
            first, last = max(OUT * row, grid.top), min(OUT * row + len(matrix), grid.top + grid.height)
            if first < last:
                pixels = dx[:, first - grid.top : last - grid.top]
                np.matmul(matrix[first - OUT * row : last - OUT * row], tiles, out=pixels)
        if not is_last:
            self.above = self.half[:, -1].copy()


def _down(x: Array) -> Array:
    """Return the planes (down, across, tiles, C) of all pixels or frequencies as matrices (across, down, tiles * C)."""
    down, across, tiles, channels = x.shape
    return x.reshape(down, across, tiles * channels).swapaxes(0, 1)


def _matching_pixels(y: Array, slots: Array, rows: slice) -> Iterator[tuple[Array, Array]]:
    """Yield strided pixels of images `y` with the view of slots (s, s, images, tile rows, across, K) for them."""
    size = slots.shape[0]
    band = y[:, size * rows.start : size * rows.stop]
    for i in range(size):
        for j in range(size):
            pixels = band[:, i::size, j::size]
            yield pixels, slots[i, j, :, : pixels.shape[1], : pixels.shape[2]]
