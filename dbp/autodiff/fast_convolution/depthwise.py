"""Depth-wise convolution along any number of axes, as sums of rows of pixels times rows of weights.

The pixels of a row, with their channels, are one long vector; so are the weights of a tap, repeated for each pixel. A
tap adds the product of two such vectors to a row of outputs. np.einsum multiplies and adds in one pass over them, and
goes from tap to tap before it goes to the next row, so that the row of outputs stays in the cache.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.autodiff.fast_convolution.epilogue import Activation, masked
from dbp.autodiff.fast_convolution.padding import overlap
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.products import column_sum
from dbp.autodiff.scratch import buffer
from dbp.types import Array

Lengths = tuple[int, ...]
Index = tuple[slice, ...]

ROW = 2048  # numbers of a piece of a row, of which a few fit in the L1 cache
ROUND_BYTES = 1 << 20  # of the padded images of a round; smaller rounds wait for Python
GROUP_BYTES = 1 << 22  # of the cotangents of a group of images, which the rounds of both gradients read


class Geometry(NamedTuple):
    """A window that slides along axes, with a number for each.

    Args:
        taps: number of taps.
        stride: steps between positions.
        dilation: distances between taps.
        before: zeros in front of the first pixel; negative if so many pixels are left out.
        positions: number of positions.
    """

    taps: Lengths
    stride: Lengths
    dilation: Lengths
    before: Lengths
    positions: Lengths

    def residues(self, lengths: Lengths) -> Iterator[tuple[Index, Index, Geometry]]:
        """Yield the parts of the adjoint: convolutions of cotangents with stride 1, as many as a stride has pixels.

        Pixels of the padded images whose numbers are equal modulo the stride are under the same taps.

        Args:
            lengths: of the images.

        Yields:
            The pixels of the images, the taps in the order of the flipped kernel, and the geometry of the convolution.
        """
        for parts in itertools.product(*map(_residues_of_axis, *self[:4], lengths)):
            pixels, taps, *numbers = zip(*parts, strict=True)
            yield pixels, taps, Geometry(*numbers)


def _residues_of_axis(
    taps: int, stride: int, dilation: int, before: int, length: int
) -> list[tuple[slice, slice, int, int, int, int, int]]:
    """Return the pixels, the taps, and the numbers of Geometry, for each residue along one axis."""
    step = math.gcd(stride, dilation)
    every, apart = stride // step, dilation // step  # of the taps under such pixels; their distance in positions
    found = []
    for start in range(min(stride, length)):
        residue = (start + before) % stride
        first = next((tap for tap in range(min(every, taps)) if (tap * dilation - residue) % stride == 0), taps)
        count = len(range(first, taps, every))
        last = first + (count - 1) * every
        ahead = (last * dilation - residue) // stride - (start + before) // stride
        flipped = slice(last, first - 1 if first else None, -every)
        pixels = slice(start, length, stride)
        found.append((pixels, flipped, count, 1, apart, ahead, len(range(start, length, stride))))
    return found


class Frame(NamedTuple):
    """Scratch memory for the padded images of a round, which rounds of as many or fewer images use again.

    Args:
        positions: of the round along the first axis.
        copies: the parts of the memory for pixels, each with the index of those in the images.
        tapped: a view of all, see TappedRows.load().
    """

    positions: slice
    copies: list[tuple[Array, Index]]
    tapped: Array


class TappedRows:
    """The rows of pixels under each tap, cut into pieces: views of scratch memory with some images and their padding.

    Args:
        x: images (examples, *lengths, channels), along two axes or more.
        geometry: of the window.
        multiplier: how often each channel is repeated.
    """

    def __init__(self, x: Array, geometry: Geometry, multiplier: int = 1) -> None:
        self.x, self.geometry, self.multiplier = x, geometry, multiplier
        self.channels = x.shape[-1] * multiplier
        row = geometry.positions[-1]
        self.pieces = max(1, min(row, -(-row * self.channels // ROW)))  # of a row
        self.columns = -(-row // self.pieces)  # of a piece; the last one of a row may end beyond the row
        self.frame: Frame | None = None  # of the last round, for the next ones if these are of the same size
        self.strided = geometry.stride[-1] > 1  # then each tap has a row of its own, of the pixels under it alone
        outer, taps = string.ascii_lowercase[: len(geometry.taps) + 1], string.ascii_uppercase[: len(geometry.taps)]
        self.pixels, self.weights, self.outputs = f"{outer}{taps}z", f"{taps}z", f"{outer}z"  # axes in Einstein sums

    def rounds(self) -> Iterator[Index]:
        """Yield the images and positions along the first axis of each round: all of them, or a band of one image."""
        positions = self.geometry.positions
        image = math.prod(self._padded(positions)) * self.channels * self.x.itemsize
        band = max(1, min(positions[0], positions[0] * ROUND_BYTES // max(1, image)))
        groups, starts = row_pieces(len(self.x), image, ROUND_BYTES), range(0, positions[0], band)
        for images, start in itertools.product(groups, starts):
            yield images, slice(start, min(start + band, positions[0]))

    def piecewise(self, shape: Lengths) -> Lengths:
        """Return the shape, with the pieces of rows apart, of outputs (examples, *positions, channels)."""
        return *shape[:-2], self.pieces, self.columns * self.channels

    def load(self, index: Index) -> Array:
        """Return the pixels of a round (images, *positions along all axes but the last, pieces, *taps, numbers)."""
        images, positions = index
        x, frame = self.x[images], self.frame
        if frame is None or frame.positions != positions or len(frame.tapped) < len(x):
            frame = self.frame = self._frame(len(x), positions)
        for inside, pixels in frame.copies:
            np.copyto(inside[: len(x)], x[pixels][..., None])
        return frame.tapped[: len(x)]

    def _frame(self, count: int, positions: slice) -> Frame:
        """Return scratch memory for so many images, with zeros in their padding."""
        taps, stride, dilation, before, _ = self.geometry
        counts = positions.stop - positions.start, *self.geometry.positions[1:]
        lengths, channels = self._padded(counts), self.x.shape[-1]
        padded = buffer("tapped", (count, *lengths, channels, self.multiplier), self.x.dtype)
        padded.fill(0)
        copies = []
        starts = [positions.start * stride[0] - before[0], *(-pad for pad in before[1:])]
        outer = [overlap(n, 1, *ends) for n, *ends in zip(lengths[:-2], starts[:-1], self.x.shape[1:-2], strict=True)]
        for copy in range(lengths[-2]):
            last = overlap(lengths[-1], stride[-1], starts[-1] + copy * dilation[-1], self.x.shape[-2])
            to, of = zip(*outer, last, strict=True)
            copies.append((padded[(slice(None), *to[:-1], copy, to[-1])], (slice(None), *of)))
        image, *steps, copy_step, pixel, _, number = padded.strides
        moves = [step * by for step, by in zip(steps, stride[:-1], strict=True)]
        shifts = [step * by for step, by in zip((*steps, pixel), dilation, strict=True)]
        if self.strided:
            shifts[-1] = copy_step
        shape = count, *counts[:-1], self.pieces, *taps, self.columns * self.channels
        tapped = as_strided(padded, shape, (image, *moves, self.columns * pixel, *shifts, number))
        return Frame(positions, copies, tapped)

    def _padded(self, counts: Lengths) -> Lengths:
        """Return the lengths under the window at so many positions; the last but one is the number of copies."""
        taps, stride, dilation, _, _ = self.geometry
        counts = *counts[:-1], self.pieces * self.columns
        lengths = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(counts, taps, stride, dilation, strict=True)]
        return *lengths[:-1], *((taps[-1], counts[-1]) if self.strided else (1, lengths[-1]))


def _correlate(rows: TappedRows, w: Array, out: Array, activation: Activation | None = None, sums_of: int = 1) -> None:
    """Write the convolution to `out`, after its activation; or the sums over so many neighboring channels of it."""
    taps, channels = rows.geometry.taps, rows.channels
    weights = np.broadcast_to(w.reshape(*taps, 1, channels), (*taps, rows.columns, channels)).reshape(*taps, -1)
    rule = f"{rows.pixels},{rows.weights}->{rows.outputs}"
    for index in rows.rounds():
        target = out[index]
        shape = rows.piecewise(target.shape)
        if math.prod(shape) == target.size and target.flags.c_contiguous:
            np.einsum(rule, rows.load(index), weights, out=target.reshape(shape))
        else:
            found = buffer("outputs", shape, out.dtype)
            np.einsum(rule, rows.load(index), weights, out=found)
            found = found.reshape(*target.shape[:-2], -1, channels)[..., : target.shape[-2], :]
            _copy_sums(found, sums_of, target)
        if activation is not None:
            activation.apply(target)


def _copy_sums(found: Array, sums_of: int, target: Array) -> None:
    """Copy numbers to the target, or the sums of so many neighbors along the last axis."""
    if sums_of > 1:
        np.add.reduce(found.reshape(*target.shape, sums_of), axis=-1, out=target)
    else:
        np.copyto(target, found)


def _geometry(x: Array, w: Array, stride: Lengths, padding: tuple[Lengths, ...], dilation: Lengths) -> Geometry:
    taps, before = w.shape[:-2], tuple(pad[0] for pad in padding)
    axes = zip(x.shape[1:-1], taps, stride, padding, dilation, strict=True)
    positions = tuple((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, k, s, pad, d in axes)
    return Geometry(taps, stride, dilation, before, positions)


def forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Lengths,
    padding: tuple[Lengths, ...],
    dilation: Lengths,
    relu: bool,
) -> Array:
    """Return relu(convolution(x, w) + b) for images x (examples, *lengths, C) and weights w (*taps, 1, K)."""
    geometry, channels = _geometry(x, w, stride, padding, dilation), w.shape[-1]
    y = np.empty((len(x), *geometry.positions, channels), x.dtype)
    activation = None if b is None and not relu else Activation(b, relu)
    _correlate(TappedRows(x, geometry, channels // max(1, x.shape[-1])), w, y, activation)
    return y


def backward(
    g: Array,
    y: Array,
    x: Array,
    w: Array,
    *,
    stride: Lengths,
    padding: tuple[Lengths, ...],
    dilation: Lengths,
    relu: bool,
    wanted: bool,
    weights: bool,
    bias: bool,
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the cotangents of x, w and b, each if it is wanted."""
    geometry, channels = _geometry(x, w, stride, padding, dilation), w.shape[-1]
    dx = np.empty(x.shape, x.dtype) if wanted else None
    dw = np.zeros(w.shape, x.dtype) if weights else None
    db = np.zeros(channels, x.dtype) if bias else None
    for some in row_pieces(len(x), g.nbytes // max(1, len(g)), GROUP_BYTES):
        before = masked(g[some], y[some], relu)
        if dx is not None:
            _pull_back(before, w, geometry, dx[some])
        if dw is not None:
            dw += _weights_gradient(x[some], before, geometry).reshape(w.shape)
        if db is not None:
            db += column_sum(before.reshape(-1, channels))
    return dx, dw, db


def _pull_back(before: Array, w: Array, geometry: Geometry, dx: Array) -> None:
    """Write the cotangent of some images to `dx`, from that of their convolution."""
    multiplier = w.shape[-1] // max(1, dx.shape[-1])
    for pixels, taps, part in geometry.residues(dx.shape[1:-1]):
        target = dx[(slice(None), *pixels)]
        if 0 in part.taps:
            target[...] = 0
        else:
            _correlate(TappedRows(before, part), w[taps], target, sums_of=multiplier)


def _weights_gradient(x: Array, before: Array, geometry: Geometry) -> Array:
    """Return the cotangent of the weights (*taps, K) over some images."""
    channels, taps = before.shape[-1], geometry.taps
    rows = TappedRows(x, geometry, channels // max(1, x.shape[-1]))
    total = np.zeros((*taps, rows.columns * channels), x.dtype)
    part = buffer("part", total.shape, x.dtype)
    rule = f"{rows.outputs},{rows.outputs}->{rows.outputs[-1]}"
    for index in rows.rounds():
        pixels, g = rows.load(index), _in_pieces(before[index], rows)
        for tap in np.ndindex(*taps):  # one by one, as the sums of all do not fit in the L1 cache
            np.einsum(rule, pixels[(..., *tap, slice(None))], g, out=part[tap])
        total += part
    found: Array = np.add.reduce(total.reshape(*taps, rows.columns, channels), axis=-2)
    return found


def _in_pieces(g: Array, rows: TappedRows) -> Array:
    """Return cotangents with the pieces of their rows apart, and zeros beyond the rows."""
    shape, wide = rows.piecewise(g.shape), g.shape[-2]
    if rows.pieces * rows.columns == wide:
        return g.reshape(shape)
    padded = buffer("pieces", (*g.shape[:-2], rows.pieces * rows.columns, g.shape[-1]), g.dtype)
    padded[..., wide:, :] = 0
    np.copyto(padded[..., :wide, :], g)
    return padded.reshape(shape)
