"""Convolution of sequences, as matrix products with views of the sequences.

What is under the window at one position is contiguous in memory. The windows at every P-th position, P taps apart, do
not overlap: they are the rows of a matrix, without a copy. So P products, each with windows one position further on, do
all positions. The sequences lie one after the other, with their padding, and the products run across their borders: the
outputs there are left out.

A stride is a change of shape: s positions of C channels are one position of s C channels, and so are the taps. With a
dilation of d, every d-th position belongs to a sequence of its own. Where it pays, `filtering` saves 4 of 9 products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbp.autodiff.fast_convolution.epilogue import Activation, drop_cut_off, masked, maximum, scatter_to_maxima
from dbp.autodiff.fast_convolution.filtering import OUT, Filtering, filters
from dbp.autodiff.fast_convolution.padding import overlap
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.products import column_sum
from dbp.autodiff.scratch import buffer
from dbp.types import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Lengths = tuple[int, ...]

GROUP_BYTES = 1 << 20  # of the sequences and outputs of a group, whose products are done together
PIECE_BYTES = 1 << 17  # of the outputs that the epilogue goes over at a time


def fits(x: Lengths, w: Lengths, stride: Pair, padding: Padding, dilation: Pair, pool: int = 0) -> bool:
    """Return True for images of shape x that are sequences, of height 1, along which a window of several taps slides.

    Stride and dilation are not for both at once, and max pooling, `pool` outputs at a time, not for dilation.
    """
    flat = x[1] == w[0] == 1 and padding[0] == (0, 0) and w[1] > 1 and 0 not in w
    return flat and 1 in (stride[1], dilation[1]) and not (pool and dilation[1] > 1)


class Layout(NamedTuple):
    """The layout of sequences one after the other; a position is one of the window's steps.

    Args:
        stride: positions of x that are one position here.
        dilation: sequences that each of x becomes.
        tile: positions that are computed together, by minimal filtering if there are several.
        taps: of the window, in tiles.
        before: zeros in front of x.
        length: of x.
        outputs: of x.
        channels: of x.
    """

    stride: int
    dilation: int
    tile: int
    taps: int
    before: int
    length: int
    outputs: int
    channels: int

    @classmethod
    def of(cls, x: Array, w: Array, stride: int, padding: Pair, dilation: int) -> Layout:
        """Return the layout for x (examples, 1, length, C) and weights (1, taps, C, K)."""
        length, taps = x.shape[2], w.shape[1]
        outputs = (length + sum(padding) - dilation * (taps - 1) - 1) // stride + 1
        tile = OUT if stride == 1 and filters(x, w, len(x) * outputs) else 1
        return cls(stride, dilation, tile, -(-taps // (stride * tile)), padding[0], length, outputs, x.shape[3])

    @property
    def positions(self) -> int:
        """The number of positions of a sequence with its padding, a multiple of the tile."""
        longest = -(-self.outputs // self.dilation)
        return longest + self.taps - 1 if self.tile == 1 else self.tile * (-(-longest // self.tile) + self.taps)

    @property
    def width(self) -> int:
        """The number of channels of a position."""
        return self.stride * self.channels

    @property
    def ahead(self) -> int:
        """The number of positions that a window reaches back from its last tile."""
        return self.tile * (self.taps - 1)

    def groups(self, x: Array, outputs: int) -> Iterator[slice]:
        """Yield the examples of each group."""
        return row_pieces(len(x), self.dilation * self.positions * (self.width + outputs) * x.itemsize, GROUP_BYTES)

    def parts(self) -> Iterator[tuple[int, slice, slice]]:
        """Yield each sequence of an example, its positions in the padded sequences, and these positions of x."""
        for first in range(self.dilation):
            yield first, *overlap(self.positions * self.stride, self.dilation, first - self.before, self.length)

    def padded(self, x: Array) -> Array:
        """Return the positions of all sequences one after the other, (positions, width); a view if they lie so.

        The last tile reaches beyond them, into zeros that the array does not show.
        """
        whole = self.before == 0 and self.dilation == 1 and self.positions * self.stride == self.length
        if whole and self.tile == 1 and x.flags.c_contiguous:
            return x.reshape(-1, self.width)
        count, beyond = len(x) * self.dilation * self.positions * self.stride, self.tile - 1
        memory = buffer("padded", (count + beyond, self.channels), x.dtype)
        memory[count:] = 0
        memory = memory[:count]
        by_sequence = memory.reshape(len(x), self.dilation, -1, self.channels)
        for first, positions, source in self.parts():
            by_sequence[:, first, : positions.start] = 0
            by_sequence[:, first, positions.stop :] = 0
            np.copyto(by_sequence[:, first, positions], x[:, 0, source])
        return memory.reshape(-1, self.width)

    def by_sequence(self, positions: Array) -> Array:
        """Return a view (examples, sequences of each, positions, channels) of positions one after the other."""
        return positions.reshape(-1, self.dilation, self.positions, positions.shape[1])

    def ordered(self, sequences: Array, y: Array) -> Iterator[tuple[Array, Array]]:
        """Yield views of the same outputs, in the sequences of some examples and in y (examples, 1, outputs, K)."""
        for first in range(self.dilation):
            part = y[:, 0, first :: self.dilation]
            yield sequences[:, first, : part.shape[1]], part


def _phases(taps: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the first position of every product, and how many windows side by side it has."""
    for first in range(taps):
        yield first, (rows - first) // taps


def _side_by_side(positions: Array, first: int, count: int, taps: int) -> Array:
    """Return a view of windows as the rows of a matrix."""
    return positions[first : first + count * taps].reshape(count, taps * positions.shape[1])


def _every(positions: Array, first: int, count: int, taps: int) -> Array:
    """Return a view of every P-th position."""
    return positions[first : first + (count - 1) * taps + 1 : taps] if count else positions[:0]


def _correlated(positions: Array, kernel: Array) -> Array:
    """Return, for each frequency, the sums under the window at each position where it does not reach beyond the last.

    Args:
        positions: (frequencies, positions, channels).
        kernel: (frequencies, taps, channels, K).
    """
    taps, outputs = kernel.shape[1], kernel.shape[3]
    found = buffer("outputs", (*positions.shape[:2], outputs), positions.dtype)
    for of, weights, out in zip(positions, kernel, found, strict=True):
        flat = weights.reshape(-1, outputs)
        for first, count in _phases(taps, len(of)):
            np.matmul(_side_by_side(of, first, count, taps), flat, out=_every(out, first, count, taps))
    return found


def _windows(z: Array, pool: int) -> list[Array]:
    """Return `pool` views of z (examples, outputs, K), each with one position of every complete pooling window."""
    return [z[:, i : z.shape[1] // pool * pool : pool] for i in range(pool)]


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
) -> tuple[Array, list[Array]]:
    """Return y and the positions of the maxima, as forward of the package does."""
    layout, outputs = Layout.of(x, w, stride[1], padding[1], dilation[1]), w.shape[3]
    filtering, activation = Filtering(layout.tile, layout.taps, layout.stride, w), Activation(b, relu)
    kernel = filtering.kernel(w)
    y = np.empty((len(x), 1, layout.outputs // max(pool, 1), outputs), x.dtype)
    positions = np.empty(y[:, 0].shape, np.uint8) if pool and keep else None
    for group in layout.groups(x, outputs):
        found = filtering.outputs_of(_correlated(filtering.inputs(layout.padded(x[group])), kernel))
        group_y = y[group]
        for some in row_pieces(len(group_y), layout.outputs * outputs * x.itemsize, PIECE_BYTES):
            z, piece = layout.by_sequence(found)[some], group_y[some]
            maxima = None if positions is None else positions[group][some]
            if pool:
                maximum(_windows(z[:, 0, : layout.outputs], pool), piece[:, 0], maxima)
            else:
                for mine, other in layout.ordered(z, piece):
                    np.copyto(other, mine)
            activation.apply(piece)
            if relu and maxima is not None:
                drop_cut_off(maxima, piece[:, 0])
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
    layout, outputs = Layout.of(x, w, stride[1], padding[1], dilation[1]), w.shape[3]
    filtering = Filtering(layout.tile, layout.taps, layout.stride, w)
    flipped = np.ascontiguousarray(filtering.kernel(w)[:, ::-1].swapaxes(2, 3))
    dw, db = np.zeros((len(flipped), layout.taps * layout.width, outputs), x.dtype), np.zeros(outputs, x.dtype)
    dx = np.empty(x.shape, x.dtype) if wanted else None
    for group in layout.groups(x, outputs):
        before = _cotangent(g[group], y[group], saved[0][group] if pool else None, layout, relu, pool)
        if bias:
            db += column_sum(before)
        cotangents = filtering.cotangents(before)
        if weights:
            inputs = filtering.inputs(layout.padded(x[group]))
            for of_inputs, body, total in zip(inputs, cotangents[:, layout.taps - 1 :], dw, strict=True):
                _add_weights_gradient(of_inputs, body, layout.taps, total)
        if dx is not None:
            spread = _correlated(cotangents, flipped)[:, : cotangents.shape[1] - layout.taps + 1]
            _pull_back(filtering.pulled_back(spread), layout, dx[group])
    return dx, filtering.weights_of(dw), db


def _cotangent(g: Array, y: Array, positions: Array | None, layout: Layout, relu: bool, pool: int) -> Array:
    """Return the cotangent of the bare convolution (positions, K), with zeros in front of each sequence and behind.

    As many positions as a window reaches back come first, then the outputs of each sequence and zeros.
    """
    ahead, outputs = layout.ahead, g.shape[3]
    memory = buffer("cotangent", (len(g) * layout.dilation * layout.positions + ahead, outputs), g.dtype)
    memory[:ahead] = 0
    sequences = layout.by_sequence(memory[ahead:])
    for some in row_pieces(len(g), layout.outputs * outputs * g.itemsize, PIECE_BYTES):
        piece = sequences[some]
        if positions is not None:
            whole = layout.outputs // pool * pool
            scatter_to_maxima(g[some, 0], positions[some], _windows(piece[:, 0, :whole], pool))
            piece[:, 0, whole:] = 0
            continue
        piece[:, :, layout.outputs // layout.dilation :] = 0
        for mine, other in layout.ordered(piece, masked(g[some], y[some], relu)):
            np.copyto(mine, other)
    return memory


def _add_weights_gradient(positions: Array, body: Array, taps: int, dw: Array) -> None:
    """Add the sum of the outer products of each window and the cotangent of its output."""
    part = buffer("part", dw.shape, dw.dtype)
    for first, count in _phases(taps, len(positions)):
        windows = _side_by_side(positions, first, count, taps)
        dw += np.matmul(windows.T, _every(body, first, count, taps), out=part)


def _pull_back(spread: Array, layout: Layout, dx: Array) -> None:
    """Write the cotangents of the positions to those of the sequences."""
    if layout.positions * layout.stride * layout.dilation < layout.before + layout.length:
        dx[...] = 0  # positions at the end that no window reaches
    parts = spread.reshape(len(dx), layout.dilation, -1, layout.channels)
    for first, positions, source in layout.parts():
        np.copyto(dx[:, 0, source], parts[:, first, positions])
