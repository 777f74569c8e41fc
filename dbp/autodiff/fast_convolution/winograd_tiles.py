"""Tiles of images for Winograd's method: the transforms, the rounds of tiles, and tiles that are transformed.

Transforms are products with small matrices, along the height first, where rows of an image are long rows of such a
product, and then along the width, tile by tile.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.autodiff.fast_convolution.padding import overlap
from dbp.autodiff.scratch import buffer
from dbp.types import Array

OUT = 4  # outputs of a tile along one axis
IN = 6  # inputs of a tile along one axis, and as many frequencies
POINTS = (0.0, 0.75, -0.75, 1.375, -1.375)  # of interpolation, besides infinity; exact in binary, as their products
ROUND = 24576  # inputs and outputs of one frequency in a round: enough for fast products, few enough for the cache
MOST_TILES = 192  # of a round, with so many channels that these are more numbers


class Transforms(NamedTuple):
    """The matrices of Winograd's method along one axis, for n points besides infinity, and three taps.

    Args:
        outputs: A^T (n - 1, n + 1), from frequencies to outputs.
        kernel: G (n + 1, 3), from taps to frequencies.
        inputs: B^T (n + 1, n + 1), from inputs to frequencies.
    """

    outputs: Array
    kernel: Array
    inputs: Array


@functools.cache
def transforms(at: tuple[float, ...] = POINTS) -> Transforms:
    """Return the matrices in float64, by Toom and Cook: evaluate, multiply, interpolate."""
    points, n = np.array(at), len(at)
    others = [np.delete(points, i) for i in range(n)]
    a, g, b = np.zeros((n - 1, n + 1)), np.zeros((n + 1, 3)), np.zeros((n + 1, n + 1))
    a[:, :n], a[-1, -1] = points ** np.arange(n - 1)[:, None], 1
    g[:n], g[-1, -1] = points[:, None] ** np.arange(3), 1
    g[:n] /= [[np.prod(points[i] - others[i])] for i in range(n)]
    b[:n, :n], b[-1] = [np.poly(other)[::-1] for other in others], np.poly(points)[::-1]
    return Transforms(a, g, b)


@dataclass(frozen=True)
class Grid:
    """The division of images into tiles, and of tiles into rounds: several images, or a band of tile rows of one."""

    images: int
    height: int
    width: int
    channels: int
    outputs: int
    top: int
    left: int
    out_height: int
    out_width: int

    @classmethod
    def of(cls, x: Array, w: Array, padding: tuple[tuple[int, int], tuple[int, int]]) -> Grid:
        """Return the grid of a convolution of x with w."""
        (top, bottom), (left, right) = padding
        images, height, width, channels = x.shape
        out_size = height + top + bottom - 2, width + left + right - 2
        return cls(images, height, width, channels, w.shape[3], top, left, *out_size)

    @property
    def down(self) -> int:
        """The number of tiles in a column."""
        return -(-self.out_height // OUT)

    @property
    def across(self) -> int:
        """The number of tiles in a row."""
        return -(-self.out_width // OUT)

    def shape(self, images: slice, rows: slice) -> tuple[int, int, int, int]:
        """Return the sizes of a round: images, tile rows, tiles of a row, and channels of the outputs."""
        return images.stop - images.start, rows.stop - rows.start, self.across, self.outputs

    def rounds(self) -> Iterator[tuple[slice, slice]]:
        """Yield the images and the tile rows of each round.

        With many channels a round has at least as many numbers as the weights, which it reads, and their cotangent.
        """
        channels = max(1, self.channels + self.outputs)
        tiles = max(1, ROUND // channels, min(MOST_TILES, self.channels * self.outputs // channels))
        together = max(1, tiles // (self.down * self.across))
        band = self.down if together > 1 else max(1, min(self.down, 2 * tiles // self.across))
        for image in range(0, self.images, together):
            for row in range(0, self.down, band):
                yield slice(image, min(image + together, self.images)), slice(row, min(row + band, self.down))


class TransformedTiles:
    """The transformed tiles of images: of a round along the height, then of one frequency along the width.

    Args:
        name: of the scratch memory.
        matrix: the transform along one axis (6, pixels of a tile).
        grid: of the tiles, whose first pixels are 4 from one another.
        top: rows of zeros above an image.
        left: zeros before a row.
    """

    def __init__(self, name: str, matrix: Array, grid: Grid, top: int, left: int) -> None:
        self.name, self.matrix, self.across, self.top, self.left = name, matrix, grid.across, top, left
        self.half = self.tiles = self.out = np.empty((0, 0, 0))

    def load(self, x: Array, rows: slice) -> None:
        """Transform these tile rows of images (count, height, width, C) along the height."""
        count, height, width, channels = x.shape
        self._allocate(x, rows.stop - rows.start)
        x, size = x.reshape(count, height, width * channels), self.matrix.shape[1]
        target = self.half.transpose(1, 2, 0, 3)[..., self.left * channels :][..., : width * channels]
        inside = _inside(rows, self.top, height, size)
        if inside.start < inside.stop:
            pixels = x[:, OUT * inside.start - self.top :]
            shape, strides = (count, inside.stop - inside.start, size, pixels.shape[2]), _split(pixels.strides, 1)
            bands = as_strided(pixels, shape, strides, writeable=False)
            np.matmul(self.matrix, bands, out=target[:, inside.start - rows.start : inside.stop - rows.start])
        for row in (*range(rows.start, inside.start), *range(inside.stop, rows.stop)):
            pixels_of_tile, on_image = overlap(size, 1, OUT * row - self.top, height)
            np.matmul(self.matrix[:, pixels_of_tile], x[:, on_image], out=target[:, row - rows.start])

    def _allocate(self, x: Array, rows: int) -> None:
        """Lay out scratch memory for a round of this size, if the last one was of another."""
        (count, _, width, channels), size = x.shape, self.matrix.shape[1]
        if self.half.shape[1:3] == (count, rows):
            return
        wide = OUT * (self.across - 1) + size
        self.half = buffer(f"{self.name} rows", (IN, count, rows, wide * channels), x.dtype)
        self.half[..., : self.left * channels] = 0
        self.half[..., (self.left + width) * channels :] = 0
        pixels = self.half.reshape(IN, count, rows, wide, channels)
        shape = IN, count, rows, self.across, size, channels
        self.tiles = as_strided(pixels, shape, _split(pixels.strides, 3), writeable=False)
        self.out = buffer(self.name, (IN, count * rows * self.across, channels), x.dtype)
        self.target = self.out.reshape(IN, count, rows, self.across, channels).transpose(1, 2, 3, 0, 4)

    def __getitem__(self, frequency: int) -> Array:
        """Return the transformed tiles (6, tiles, C) of one frequency of the height, in scratch memory."""
        np.matmul(self.matrix, self.tiles[frequency], out=self.target)
        return self.out


def _split(strides: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the strides with that of tiles and that of their pixels in place of that of an axis of pixels."""
    return *strides[:axis], OUT * strides[axis], *strides[axis:]


def _inside(tiles: slice, before: int, length: int, size: int) -> slice:
    """Return which of the tiles of a size lie wholly on an axis of a length, with so many zeros before it."""
    first = min(max(tiles.start, -(-before // OUT)), tiles.stop)
    return slice(first, max(first, min(tiles.stop, (length + before - size) // OUT + 1)))
