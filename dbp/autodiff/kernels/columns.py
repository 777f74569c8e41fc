"""Any 2-D convolution as matrix products: the inputs under the kernel, one row per output pixel, times the weights.

The rows are laid out for a few images, or a band of one, at a time, so that they and what follows stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.autodiff.kernels.pooling import Activation, masked, maximum, spread, windows
from dbp.autodiff.kernels.scratch import Array, buffer

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

ROUND_BYTES = 1 << 20  # of rows and outputs of a round: they share the caches with the weights
LEAST_PIXELS = 256  # of a round: fewer make slow matrix products
FEW_CHANNELS = 8  # below, a pixel's channels are too short a run to copy


class Columns:
    """The matrix (pixels, kh * kw * C) of each round; with few channels its transpose is what lies in memory."""

    def __init__(self, x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, pool: int) -> None:
        self.x, self.kernel, self.stride, self.dilation = x, w.shape[:3], stride, dilation
        self.top, self.left = padding[0][0], padding[1][0]
        self.size = x.shape[1] + sum(padding[0]), x.shape[2] + sum(padding[1])
        reach = [step * (taps - 1) + 1 for step, taps in zip(dilation, w.shape[:2], strict=True)]
        self.high, self.wide = ((n - r) // s + 1 for n, r, s in zip(self.size, reach, stride, strict=True))
        self.scale = max(pool, 1)
        self.planes = x.shape[3] < FEW_CHANNELS
        pixel = (w.size // max(w.shape[3], 1) + w.shape[3]) * x.itemsize
        self.pixels = max(LEAST_PIXELS, ROUND_BYTES // pixel)

    @property
    def pooled(self) -> Pair:
        """The size of the output."""
        return self.high // self.scale, self.wide // self.scale

    def rounds(self) -> Iterator[tuple[slice, slice]]:
        """The images and output rows of each round; rows that the pooling drops are left out."""
        if 0 in self.pooled:
            return
        high = self.pooled[0] * self.scale
        together = max(1, self.pixels // (high * self.wide))
        band = max(1, min(high, self.pixels // self.wide) // self.scale) * self.scale
        for image in range(0, len(self.x), together):
            for row in range(0, high, high if together > 1 else band):
                stop = high if together > 1 else min(row + band, high)
                yield slice(image, min(image + together, len(self.x))), slice(row, stop)

    def matrix(self, images: slice, rows: slice) -> Array:
        """The rows of a round, in scratch, or in `x` itself if they lie there one after the other."""
        source = self._windows(self._padded(images, rows))[:, rows]
        if source.flags.c_contiguous:
            return source.reshape(-1, source.shape[-1])
        matrix, target = self._target("columns", len(source), rows)
        np.copyto(target, source)
        return matrix

    def scatter(self, g: Array, w: Array, dx: Array, images: slice, rows: slice) -> None:
        """Add the cotangents g (pixels, K) of a round to the pixels they came from, and cut out finished images."""
        flat = w.reshape(-1, w.shape[3])
        count = images.stop - images.start
        if self._windows(dx[images])[:, rows].flags.c_contiguous and self.size == dx.shape[1:3]:
            np.matmul(g, flat.T, out=dx[images, rows].reshape(-1, dx.shape[3]))
            return
        matrix, source = self._target("columns", count, rows)
        if self.planes:
            np.matmul(flat, g.T, out=matrix.T)
        else:
            np.matmul(g, flat.T, out=matrix)
        padded = self._zeros("spread", count) if rows.start == 0 else self._image("spread", count)
        target = self._windows(padded)[:, rows]
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                target[:, :, :, i, j] += source[:, :, :, i, j]
        if rows.stop == self.pooled[0] * self.scale:
            np.copyto(dx[images], self._inner(padded))

    def _image(self, name: str, count: int) -> Array:
        channels = self.kernel[2]
        if self.planes:
            return buffer(name, (channels, count, *self.size), self.x.dtype).transpose(1, 2, 3, 0)
        return buffer(name, (count, *self.size, channels), self.x.dtype)

    def _zeros(self, name: str, count: int) -> Array:
        image = self._image(name, count)
        image.fill(0)
        return image

    def _inner(self, padded: Array) -> Array:
        high, wide = self.x.shape[1:3]
        return padded[:, self.top : self.top + high, self.left : self.left + wide]

    def _padded(self, images: slice, rows: slice) -> Array:
        x = self.x[images]
        if self.size == x.shape[1:3] and (x.shape[3] == 1 or not self.planes):
            return x
        if rows.start:
            return self._image("padded", len(x))
        padded = self._zeros("padded", len(x))
        np.copyto(self._inner(padded), x)
        return padded

    def _windows(self, padded: Array) -> Array:
        """The pixels under the kernel (images, high, wide, kh, kw, C) as a view."""
        image, row, column, channel = padded.strides
        down, right = self.stride
        steps = image, row * down, column * right, row * self.dilation[0], column * self.dilation[1], channel
        return as_strided(padded, (len(padded), self.high, self.wide, *self.kernel), steps)

    def _target(self, name: str, count: int, rows: slice) -> tuple[Array, Array]:
        pixels = count, rows.stop - rows.start, self.wide
        if self.planes:
            memory = buffer(name, (*self.kernel, *pixels), self.x.dtype)
            return memory.reshape(np.prod(self.kernel), -1).T, memory.transpose(3, 4, 5, 0, 1, 2)
        memory = buffer(name, (*pixels, *self.kernel), self.x.dtype)
        return memory.reshape(-1, np.prod(self.kernel)), memory


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
) -> tuple[Array, list[Array]]:
    """As in the package. Saved are the places of the maxima."""
    columns = Columns(x, w, stride, padding, dilation, pool)
    flat, outputs, scale = w.reshape(-1, w.shape[3]), w.shape[3], columns.scale
    y = np.empty((len(x), *columns.pooled, outputs), x.dtype)
    places = np.empty(y.shape if pool else 0, np.uint8)
    activation = Activation(b, relu)
    for images, rows in columns.rounds():
        matrix = columns.matrix(images, rows)
        band = images, slice(rows.start // scale, rows.stop // scale)
        if pool:
            z = buffer("outputs", (images.stop - images.start, rows.stop - rows.start, columns.wide, outputs), x.dtype)
            np.matmul(matrix, flat, out=z.reshape(-1, outputs))
            maximum(windows(z, pool), y[band], places[band])
        else:
            np.matmul(matrix, flat, out=y[band].reshape(-1, outputs))
        activation.apply(y[band])
    return y, [places] if pool else []


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
) -> tuple[Array | None, Array, Array]:
    """The cotangents of x, w and b."""
    columns = Columns(x, w, stride, padding, dilation, pool)
    outputs, scale = w.shape[3], columns.scale
    dw, db = np.zeros((w.size // max(outputs, 1), outputs), x.dtype), np.zeros(outputs, x.dtype)
    part = buffer("part", dw.shape, x.dtype)
    dx = np.zeros(x.shape, x.dtype) if wanted else None
    for images, rows in columns.rounds():
        band = images, slice(rows.start // scale, rows.stop // scale)
        before = masked(g[band], y[band], relu)
        if pool:
            shape = images.stop - images.start, rows.stop - rows.start, columns.wide, outputs
            whole = buffer("outputs", shape, x.dtype)
            whole[:, :, columns.wide // pool * pool :] = 0
            spread(before, saved[0][band], windows(whole, pool))
            before = whole
        before = before.reshape(-1, outputs)
        dw += np.matmul(columns.matrix(images, rows).T, before, out=part)
        db += np.ones(len(before), x.dtype) @ before
        if dx is not None:
            columns.scatter(before, w, dx, images, rows)
    return dx, dw.reshape(w.shape), db
