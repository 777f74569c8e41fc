"""2-D convolution as a matrix product (im2col): one row per output pixel, with the inputs under the kernel.

Rows are laid out for a few images, or a band of one, at a time (a round), so that they and the outputs stay in the
cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.autodiff.fast_convolution.epilogue import Activation, drop_cut_off, masked, maximum, scatter_to_maxima, windows
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.products import column_sum, is_fast_stack, matmul
from dbp.autodiff.scratch import buffer
from dbp.types import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

ROUND_BYTES = 1 << 21  # of the rows and outputs of a round
MIN_PIXELS = 256  # of a round; fewer make slow matrix products
MAX_GATHER_RATIO = 3  # output per input channels; above, scattering cotangents is less work than gathering them
MIN_CHANNELS = 8  # with fewer, the channels of a pixel are too short to be copied one pixel after the other


class Phase(NamedTuple):
    """The pixels at whole strides from one another along an axis, and the outputs whose windows have them.

    Args:
        pixels: along the axis.
        taps: of the kernel that meet these pixels.
        outputs: whose cotangents are summed.
        padding: zeros before and after these outputs.
        distance: between the outputs that two adjacent taps bring to a pixel.
    """

    pixels: slice
    taps: slice
    outputs: slice
    padding: Pair
    distance: int


class Columns:
    """The matrix (pixels, kh * kw * C) of each round; with few channels its transpose is contiguous in memory."""

    def __init__(
        self, x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, pool: int, scratch: str = "padded"
    ) -> None:
        self.scratch, self.framed = scratch, 0  # the memory for padded images, and of how many the padding is zero
        self.x, self.kernel, self.stride, self.dilation = x, w.shape[:3], stride, dilation
        self.top, self.left = padding[0][0], padding[1][0]
        self.size = x.shape[1] + sum(padding[0]), x.shape[2] + sum(padding[1])
        reach = [step * (taps - 1) + 1 for step, taps in zip(dilation, w.shape[:2], strict=True)]
        self.high, self.wide = ((n - r) // s + 1 for n, r, s in zip(self.size, reach, stride, strict=True))
        self.scale = max(pool, 1)
        self.planes = x.shape[3] < MIN_CHANNELS  # whether arrays lie in memory with the channels outermost
        pixel = (w.size // max(w.shape[3], 1) + w.shape[3]) * x.itemsize
        self.pixels = max(MIN_PIXELS, ROUND_BYTES // pixel)

    @property
    def pooled(self) -> Pair:
        """The size (height, width) of the output."""
        return self.high // self.scale, self.wide // self.scale

    def groups(self, images: int) -> Iterator[slice]:
        """Return which of so many images are in each group of rounds."""
        return row_pieces(images, self.high * self.wide, self.pixels)

    def bands(self, images: slice) -> Iterator[slice]:
        """Yield the output rows of each round: all rows for several images, without those that the pooling drops."""
        if 0 in self.pooled:
            return
        high = self.pooled[0] * self.scale
        band = high
        if images.stop - images.start == 1:
            band = max(1, min(high, self.pixels // self.wide) // self.scale) * self.scale
        for row in range(0, high, band):
            yield slice(row, min(row + band, high))

    def matrix(self, images: slice, rows: slice) -> Array:
        """Return the matrix of a round, in scratch memory, or as a view of `x` where its rows are contiguous."""
        source = self._windows(self._padded(images, rows))[:, rows]
        if source.flags.c_contiguous:
            return source.reshape(-1, math.prod(self.kernel))
        matrix, target = self._target("columns", len(source), rows)
        np.copyto(target, source)
        return matrix

    def back(self, before: Array, w: Array, dx: Array) -> None:
        """Write the cotangent of some images to `dx`, from that of their convolution, `before` (images, high, wide, K).

        Pixels at whole strides from one another, a phase of the image, meet the same taps of the kernel: the cotangent
        of a phase is a convolution of `before`, with stride 1, with those taps flipped. Where that is more work, each
        output's cotangent is scattered to the pixels that it came from.
        """
        if w.shape[3] > MAX_GATHER_RATIO * w.shape[2]:
            for images in self.groups(len(dx)):
                self._scatter(before[images], w, dx[images])
            return
        for rows in self._phases(0):
            for columns in self._phases(1):
                self._gather(before, w, dx[:, rows.pixels, columns.pixels], rows, columns)

    def _phases(self, axis: int) -> list[Phase]:
        """Return the phases of the image along height or width."""
        taps, stride, dilation = self.kernel[axis], self.stride[axis], self.dilation[axis]
        padding, length, outputs = (self.top, self.left)[axis], self.x.shape[1 + axis], (self.high, self.wide)[axis]
        common = math.gcd(stride, dilation)
        found = []
        for pixel in range(min(stride, length)):
            met = [tap for tap in range(taps) if (pixel + padding - tap * dilation) % stride == 0]
            pixels, reach = slice(pixel, length, stride), dilation // common
            first = (pixel + padding - met[-1] * dilation) // stride if met else 0
            needed = len(range(length)[pixels]) + reach * (len(met) - 1)
            inside = slice(*(min(max(end, 0), outputs) for end in (first, first + needed)))
            zeros = min(needed, max(0, -first))
            padded = zeros, needed - zeros - (inside.stop - inside.start)
            of_kernel = slice(met[0], None, stride // common) if met else slice(0)
            found.append(Phase(pixels, of_kernel, inside, padded, reach))
        return found

    def _gather(self, before: Array, w: Array, target: Array, rows: Phase, columns: Phase) -> None:
        """Write the cotangent of one phase of the images."""
        flipped = w[rows.taps, columns.taps][::-1, ::-1].swapaxes(2, 3)
        if flipped.size == 0:
            target[...] = 0
            return
        source, distances = before[:, rows.outputs, columns.outputs], (rows.distance, columns.distance)
        phase = Columns(source, flipped, (1, 1), (rows.padding, columns.padding), distances, 0, "spread")
        phase.correlate(flipped, target)

    def correlate(self, w: Array, out: Array) -> None:
        """Write the convolution of all images to `out`, whose pixels may be apart from one another in memory."""
        flat, in_order = w.reshape(-1, w.shape[3]), out.flags.c_contiguous
        by_rows = is_fast_stack(self.wide, *flat.shape)
        for images in self.groups(len(self.x)):
            for rows in self.bands(images):
                band, matrix = out[images, rows], self.matrix(images, rows)
                if in_order:
                    matmul(matrix, flat, out=band.reshape(-1, w.shape[3]))
                elif by_rows:
                    np.matmul(matrix.reshape(*band.shape[:3], -1), flat, out=band)
                else:
                    np.copyto(band, matmul(matrix, flat).reshape(band.shape))

    def _scatter(self, before: Array, w: Array, dx: Array) -> None:
        """Write to `dx` the sums of output cotangents times weights over all positions of the kernel on a pixel."""
        flat = w.reshape(-1, w.shape[3])
        padded = self._zeros("spread", len(dx))
        for rows in self.bands(slice(0, len(dx))):
            g = before[:, rows].reshape(-1, w.shape[3])
            matrix, source = self._target("columns", len(dx), rows)
            if self.planes:
                np.matmul(flat, g.T, out=matrix.T)
            else:
                np.matmul(g, flat.T, out=matrix)
            target = self._windows(padded)[:, rows]
            for i in range(self.kernel[0]):
                for j in range(self.kernel[1]):
                    target[:, :, :, i, j] += source[:, :, :, i, j]
        np.copyto(dx, self._inner(padded))

    def _image(self, name: str, count: int) -> Array:
        """Return scratch memory for padded images (count, height, width, C), channels outermost with few channels."""
        channels = self.kernel[2]
        if self.planes:
            return buffer(name, (channels, count, *self.size), self.x.dtype).transpose(1, 2, 3, 0)
        return buffer(name, (count, *self.size, channels), self.x.dtype)

    def _zeros(self, name: str, count: int) -> Array:
        image = self._image(name, count)
        image.fill(0)
        return image

    def _inner(self, padded: Array) -> Array:
        """Return a view of padded images without their padding."""
        high, wide = self.x.shape[1:3]
        return padded[:, self.top : self.top + high, self.left : self.left + wide]

    def _padded(self, images: slice, rows: slice) -> Array:
        """Return padded images, a view of `x` if they need no copy; the first band of an image fills the scratch."""
        x = self.x[images]
        if self.size == x.shape[1:3] and (x.shape[3] == 1 or not self.planes):
            return x
        padded = self._image(self.scratch, len(x))
        if rows.start:
            return padded
        if self.framed < len(x) or self.planes:  # otherwise those of an earlier round, whose padding is the same
            padded.fill(0)
            self.framed = len(x)
        np.copyto(self._inner(padded), x)
        return padded

    def _windows(self, padded: Array) -> Array:
        """Return a view (images, high, wide, kh, kw, C) of the pixels under the kernel."""
        image, row, column, channel = padded.strides
        down, right = self.stride
        steps = image, row * down, column * right, row * self.dilation[0], column * self.dilation[1], channel
        return as_strided(padded, (len(padded), self.high, self.wide, *self.kernel), steps)

    def _target(self, name: str, count: int, rows: slice) -> tuple[Array, Array]:
        """Return scratch memory for the matrix of a round, and a view of it (count, rows, wide, kh, kw, C)."""
        pixels = count, rows.stop - rows.start, self.wide
        if self.planes:
            memory = buffer(name, (*self.kernel, *pixels), self.x.dtype)
            return memory.reshape(math.prod(self.kernel), -1).T, memory.transpose(3, 4, 5, 0, 1, 2)
        memory = buffer(name, (*pixels, *self.kernel), self.x.dtype)
        return memory.reshape(-1, math.prod(self.kernel)), memory


def forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    relu: bool,
    pool: int,
    keep: bool = True,
    added: Array | None = None,
) -> tuple[Array, list[Array]]:
    """Return y and the positions of the maxima, as forward of the package does."""
    columns = Columns(x, w, stride, padding, dilation, pool)
    flat, outputs, scale = w.reshape(-1, w.shape[3]), w.shape[3], columns.scale
    y = np.empty((len(x), *columns.pooled, outputs), x.dtype)
    positions = np.empty(y.shape, np.uint8) if pool and keep else None
    activation = Activation(b, relu)
    for images in columns.groups(len(x)):
        for rows in columns.bands(images):
            matrix = columns.matrix(images, rows)
            band = images, slice(rows.start // scale, rows.stop // scale)
            if pool:
                z = buffer("outputs", (len(x[images]), rows.stop - rows.start, columns.wide, outputs), x.dtype)
                matmul(matrix, flat, out=z.reshape(-1, outputs))
                maximum(windows(z, pool), y[band], None if positions is None else positions[band])
            else:
                matmul(matrix, flat, out=y[band].reshape(-1, outputs))
            activation.apply(y[band], None if added is None else added[band])
            if relu and positions is not None:
                drop_cut_off(positions[band], y[band])
    return y, [] if positions is None else [positions]


def backward(
    g: Array,
    y: Array,
    saved: list[Array],
    x: Array,
    w: Array,
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    relu: bool,
    pool: int,
    wanted: bool,
    weights: bool = True,
    bias: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Return the cotangents of x (None unless wanted), w and b (zeros unless wanted)."""
    columns, outputs = Columns(x, w, stride, padding, dilation, pool), w.shape[3]
    dw, db = np.zeros((w.size // max(outputs, 1), outputs), x.dtype), np.zeros(outputs, x.dtype)
    part = buffer("part", dw.shape, x.dtype)
    dx = np.empty(x.shape, x.dtype) if wanted else None
    for images in columns.groups(len(x)):
        before = masked(g[images], y[images], relu and not pool)
        if pool:
            whole = buffer("outputs", (len(x[images]), columns.high, columns.wide, outputs), x.dtype)
            whole[:, columns.high // pool * pool :] = 0
            whole[:, :, columns.wide // pool * pool :] = 0
            scatter_to_maxima(before, saved[0][images], windows(whole, pool))
            before = whole
        for rows in columns.bands(images):
            band = before[:, rows].reshape(-1, outputs)
            if weights:
                dw += matmul(columns.matrix(images, rows).T, band, out=part)
            if bias:
                db += column_sum(band)
        if dx is not None and (relu or pool):
            columns.back(before, w, dx[images])
    if dx is not None and not (relu or pool):
        columns.back(g, w, dx)
    return dx, dw.reshape(w.shape), db
