"""3x3 convolution with stride 1 by Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications.

Lavin and Gray 2016, Fast algorithms for convolutional neural networks: a tile of 6x6 inputs yields 4x4 outputs,
Y = A^T [(G w G^T) * (B^T x B)] A. Summed over channels, the elementwise product becomes 36 matrix products over many
tiles. The gradients are the adjoints of the same three transforms, so one transformed cotangent serves both weights and
input.

The transforms are small matrix products along one axis at a time, so their cost does not depend on the interpolation
points, which are chosen for accuracy. With 0, +-3/4, +-11/8 and infinity the largest error over the largest value,
against float64, is 0.8e-6 to 2.7e-6 for 32 to 256 channels: 4 times that of the direct float32 product on average, 7
times at most, where the usual 0, +-1, +-2 and infinity make 17 and 31.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.autodiff.fast_convolution.epilogue import Activation, drop_cut_off, masked, maximum, scatter_to_maxima, windows
from dbp.autodiff.scratch import buffer
from dbp.blas import SMALL_PRODUCT
from dbp.types import Array

OUT = 4  # outputs of a tile along one axis
IN = 6  # inputs of a tile along one axis, and as many frequencies
POINTS = (0.0, 0.75, -0.75, 1.375, -1.375)  # of interpolation, besides infinity; exact in binary, as their products
TILES = 192  # tiles of a round: enough for fast matrix products, few enough for the cache
FEW_CHANNELS = 32  # with at most so many, twice as many tiles fit
LEAST_TILES = 48  # of a round with small products; if so many make these large, products of more tiles are faster


@functools.cache
def transforms(at: tuple[float, ...] = POINTS) -> tuple[Array, Array, Array]:
    """Return A^T, G and B^T in float64, by Toom and Cook: evaluate, multiply, interpolate.

    For n points, besides infinity, and three taps they are (n - 1, n + 1), (n + 1, 3) and (n + 1, n + 1).
    """
    points, n = np.array(at), len(at)
    others = [np.delete(points, i) for i in range(n)]
    a, g, b = np.zeros((n - 1, n + 1)), np.zeros((n + 1, 3)), np.zeros((n + 1, n + 1))
    a[:, :n], a[-1, -1] = points ** np.arange(n - 1)[:, None], 1
    g[:n], g[-1, -1] = points[:, None] ** np.arange(3), 1
    g[:n] /= [[np.prod(points[i] - others[i])] for i in range(n)]
    b[:n, :n], b[-1] = [np.poly(other)[::-1] for other in others], np.poly(points)[::-1]
    return a, g, b


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

    @property
    def padded(self) -> tuple[int, int, int]:
        """The shape of an image with its padding."""
        return OUT * self.down + 2, OUT * self.across + 2, self.channels

    def rounds(self) -> Iterator[tuple[slice, slice]]:
        """Yield the images and the tile rows of each round."""
        tiles = TILES * 2 if max(self.channels, self.outputs) <= FEW_CHANNELS else TILES
        most = SMALL_PRODUCT // max(1, self.channels * self.outputs)  # tiles whose products are small
        tiles = min(tiles, most) if most >= LEAST_TILES else tiles
        together = max(1, tiles // (self.down * self.across))
        band = self.down if together > 1 else max(1, min(self.down, 2 * tiles // self.across))
        for image in range(0, self.images, together):
            for row in range(0, self.down, band):
                yield slice(image, min(image + together, self.images)), slice(row, min(row + band, self.down))


class TransformedInputs:
    """The transformed tiles of the input: of a round along the height, then of one frequency along the width."""

    def __init__(self, x: Array, grid: Grid) -> None:
        self.x, self.grid = x, grid
        self.b = transforms()[2].astype(x.dtype)
        self.ready = x.shape[1:] == grid.padded and x.flags.c_contiguous
        self.padded = x
        if not self.ready:
            self.padded = buffer("padded", (1, *grid.padded), x.dtype)
            self.padded.fill(0)
        self.wide = grid.padded[1] * grid.channels
        step = self.wide * x.itemsize
        strides = self.padded.strides[0], OUT * step, step, x.itemsize
        self.bands = as_strided(self.padded, (len(self.padded), grid.down, IN, self.wide), strides, writeable=False)
        self.half = self.tiles = self.out = np.empty((0, 0, 0))

    def load(self, images: slice, rows: slice) -> None:
        """Transform these tile rows of these images along the height."""
        self._allocate(images.stop - images.start, rows.stop - rows.start)
        half = self.half.transpose(1, 2, 0, 3)
        if self.ready:
            np.matmul(self.b, self.bands[images, rows], out=half)
            return
        grid = self.grid
        inner = self.padded[0, grid.top : grid.top + grid.height, grid.left : grid.left + grid.width]
        for i, image in enumerate(self.x[images]):
            if rows.start == 0:
                np.copyto(inner, image)
            np.matmul(self.b, self.bands[0, rows], out=half[i])

    def _allocate(self, images: int, rows: int) -> None:
        """Lay out scratch memory for a round of this size, if the last one was of another."""
        if self.half.shape[1:3] == (images, rows):
            return
        across, channels, dtype = self.grid.across, self.grid.channels, self.x.dtype
        self.half = buffer("rows", (IN, images, rows, self.wide), dtype)
        step = channels * dtype.itemsize
        strides = *self.half.strides[:3], OUT * step, step, dtype.itemsize
        self.tiles = as_strided(self.half, (IN, images, rows, across, IN, channels), strides, writeable=False)
        self.out = buffer("input", (IN, images * rows * across, channels), dtype)
        self.target = self.out.reshape(IN, images, rows, across, channels).transpose(1, 2, 3, 0, 4)

    def __getitem__(self, frequency: int) -> Array:
        """Return the transformed inputs (6, tiles, C) of one frequency of the height, in scratch memory."""
        np.matmul(self.b, self.tiles[frequency], out=self.target)
        return self.out


def transformed_weights(w: Array) -> Array:
    """Return G w G^T for every pair of channels (6, 6, C, K)."""
    g = transforms()[1]
    flat = np.kron(g, g).astype(w.dtype) @ w.reshape(9, -1)
    return flat.reshape(IN, IN, *w.shape[2:])


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


def forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    padding: tuple[tuple[int, int], tuple[int, int]],
    relu: bool,
    pool: int,
    keep: bool = True,
    added: Array | None = None,
    transformed: Callable[[], Array] | None = None,
) -> tuple[Array, list[Array]]:
    """Return y and the positions of the maxima, in the order of the tiles, as forward of the package does.

    pool must be 0 or 2.
    """
    grid, dtype = Grid.of(x, w, padding), x.dtype
    u = transformed_weights(w) if transformed is None else transformed()
    a, outputs = transforms()[0].astype(dtype), grid.outputs
    size = OUT // pool if pool else OUT
    scale = max(pool, 1)
    y = np.empty((grid.images, grid.out_height // scale, grid.out_width // scale, outputs), dtype)
    inputs, saved = TransformedInputs(x, grid), []
    activation, positions = Activation(b, relu and added is None), None
    for images, rows in grid.rounds():
        inputs.load(images, rows)
        shape = images.stop - images.start, rows.stop - rows.start, grid.across, outputs
        tiles = shape[0] * shape[1] * shape[2]
        product = buffer("product", (IN, tiles, outputs), dtype)
        half = buffer("half", (IN, OUT, tiles, outputs), dtype)
        for frequency in range(IN):
            np.matmul(inputs[frequency], u[frequency], out=product)
            np.matmul(a, product.reshape(IN, -1), out=half[frequency].reshape(OUT, -1))
        slots = buffer("slots", (OUT, OUT, tiles, outputs), dtype)
        np.matmul(a, _down(half), out=_down(slots))
        if pool:
            pooled = buffer("pooled", (size, size, tiles, outputs), dtype)
            positions = np.empty(pooled.shape, np.uint8) if keep else None
            maximum(windows(slots, pool, 0, 1), pooled, positions)
            slots = pooled
        activation.apply(slots)
        if positions is not None:
            saved.append(positions)
            if relu:
                drop_cut_off(positions, slots)
        for pixels, slot in _matching_pixels(y[images], slots.reshape(size, size, *shape), rows):
            np.copyto(pixels, slot)
    if added is not None:
        Activation(None, relu).apply(y, added)
    return y, saved


def backward(
    g: Array,
    y: Array,
    saved: list[Array],
    x: Array,
    w: Array,
    *,
    padding: tuple[tuple[int, int], tuple[int, int]],
    relu: bool,
    pool: int,
    wanted: bool,
    weights: bool = True,
    bias: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Return the cotangents of x (None unless wanted), w and b (zeros unless wanted)."""
    grid, dtype = Grid.of(x, w, padding), x.dtype
    a, evaluate, _ = (matrix.astype(dtype) for matrix in transforms())
    u = transformed_weights(w.swapaxes(2, 3))  # products with a transposed right side are slower
    dw, db = np.zeros((IN, IN, *w.shape[2:]), dtype), np.zeros(grid.outputs, dtype)
    inputs, image = TransformedInputs(x, grid), InputCotangent(grid, x) if wanted else None
    part = buffer("part", dw.shape[1:], dtype)
    for number, (images, rows) in enumerate(grid.rounds()):
        positions = saved[number] if pool else None
        slots = _cotangent(g[images], y[images], positions, grid, rows, relu)
        tiles, outputs = slots.shape[2:]
        if bias:
            db += np.ones(OUT * OUT * tiles, dtype) @ slots.reshape(-1, outputs)
        if weights:
            inputs.load(images, rows)
        half = buffer("half", (IN, OUT, tiles, outputs), dtype)
        np.matmul(a.T, _down(slots), out=_down(half))
        product = buffer("product", (IN, tiles, outputs), dtype)
        if image is not None:
            image.begin(images, rows)
        for frequency in range(IN):
            np.matmul(a.T, half[frequency].reshape(OUT, -1), out=product.reshape(IN, -1))
            if weights:
                np.matmul(inputs[frequency].swapaxes(1, 2), product, out=part)
                dw[frequency] += part
            if image is not None:
                image.add(frequency, product, u[frequency])
        if image is not None:
            image.end()
    dw = np.kron(evaluate, evaluate).T @ dw.reshape(IN * IN, -1)
    return None if image is None else image.dx, dw.reshape(w.shape), db


def _cotangent(g: Array, y: Array, positions: Array | None, grid: Grid, rows: slice, relu: bool) -> Array:
    """Return the cotangent of the bare convolution in tile order (4, 4, tiles, K), zero outside of the image."""
    size = OUT if positions is None else OUT // 2
    shape = size, size, len(g), rows.stop - rows.start, grid.across, grid.outputs
    slots = buffer("pooled", shape, g.dtype)
    band = slice(size * rows.start, size * rows.stop)
    if g[:, band].shape[1:3] != (size * shape[3], size * shape[4]):
        slots.fill(0)
    for pixels, slot in _matching_pixels(masked(g, y, relu and positions is None), slots, rows):
        np.copyto(slot, pixels)
    slots = slots.reshape(size, size, -1, grid.outputs)
    if positions is None:
        return slots
    whole = buffer("slots", (OUT, OUT, *slots.shape[2:]), g.dtype)
    scatter_to_maxima(slots, positions, windows(whole, 2, 0, 1))
    return whole


class InputCotangent:
    """The cotangent of the input: of one frequency of the height along the width, then of a round along the height.

    Tiles overlap by two pixels: the first ones of a tile come from its own frequencies and from those of the tile
    before, and one product with both adds them up.
    """

    def __init__(self, grid: Grid, x: Array) -> None:
        self.grid, self.dx = grid, np.empty(x.shape, x.dtype)
        back = transforms()[2].T.astype(x.dtype)
        self.own, self.beyond = back[:OUT], back[OUT:]  # the pixels up to the next tile, and those after them
        self.both = np.concatenate([np.pad(self.beyond, ((0, 2 * OUT - IN), (0, 0))), self.own], 1)
        self.images = self.rows = slice(0)
        nothing: Array = np.empty(0)
        self.back = self.half = self.above = nothing

    def begin(self, images: slice, rows: slice) -> None:
        """Lay out scratch memory for a round, with the tile row above it in the same image."""
        grid, dtype, self.images, self.rows = self.grid, self.dx.dtype, images, rows
        count, high = images.stop - images.start, rows.stop - rows.start
        self.back = buffer("back", (count, high, grid.across, IN, grid.channels), dtype)
        self.half = buffer("rows back", (count, 1 + high, IN, OUT * (grid.across + 1), grid.channels), dtype)
        if rows.start:
            self.half[:, 0] = self.above

    def add(self, frequency: int, cotangent: Array, weights: Array) -> None:
        """Add one frequency of the height of the output's cotangent (6, tiles, K), times weights (6, K, C)."""
        back, (count, high, across, _, channels) = self.back, self.back.shape
        np.matmul(cotangent, weights, out=back.reshape(-1, IN, channels).swapaxes(0, 1))
        row = self.half[:, 1:, frequency]
        np.matmul(self.own, back[:, :, 0], out=row[:, :, :OUT])
        pairs = as_strided(back, (count, high, across - 1, 2 * IN, channels), back.strides, writeable=False)
        between = row[:, :, OUT : OUT * across].reshape(count, high, across - 1, OUT, channels)
        np.matmul(self.both, pairs, out=between)
        np.matmul(self.beyond, back[:, :, -1], out=row[:, :, OUT * across :][:, :, : len(self.beyond)])

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
