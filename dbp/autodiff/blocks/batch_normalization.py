"""A block for batch normalization: relu((x - mean) / sqrt(variance + epsilon) scale + shift), with ReLU or without.

Each channel, the last axis of x, is normalized by its moments over all other axes, or by given ones that do not depend
on x. All is done piece by piece; what has the size of x is x, the output, its cotangent and that of x alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dbp.autodiff.blocks.activations import relu_in_place
from dbp.autodiff.blocks.block import Block
from dbp.autodiff.blocks.channels import ChannelSums, long_rows, on_channels, on_rows, pieces
from dbp.autodiff.blocks.normalization import OtherParts, normalize
from dbp.autodiff.cotangents import array_in
from dbp.autodiff.fast_convolution.epilogue import gate
from dbp.autodiff.primitives import relu
from dbp.autodiff.scratch import buffer
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array

Moments = tuple[Array, Array]  # mean and variance of each channel
NEAR = 4.0  # squared mean over the variance up to which no digits are lost that count if the mean stays in the sums


def channel_moments(x: Array, weights: Array | None = None) -> Moments:
    """Return mean and variance of each channel over all other axes, each of shape (channels,).

    One pass sums the elements and their squares. Where a mean is so far from zero that digits of the variance are lost,
    a second one takes distances from the means.

    Args:
        x: the elements (..., channels).
        weights: how much each row counts, (...); by default all the same.
    """
    channels, dtype = x.shape[-1], x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    matrix = long_rows(x.astype(dtype, copy=False), channels)
    of_rows = None if weights is None else on_channels(weights, matrix)
    count, center = _total(x, weights), np.zeros(channels, dtype)
    for centered in (False, True):
        sums = _sums_of_squares(matrix, on_rows(center, matrix) if centered else None, of_rows, channels)
        distance, squares = (sum_ / count for sum_ in sums)
        mean, variance = center + distance, squares - distance * distance
        if ((distance * distance <= NEAR * variance) & (variance < np.inf)).all():
            break
        center = mean.astype(dtype)
    return mean.astype(dtype), np.maximum(variance, 0).astype(dtype)


def _sums_of_squares(matrix: Array, center: Array | None, of_rows: Array | None, channels: int) -> tuple[Array, Array]:
    """Return the sums of distances from a center and of their squares over all rows, times the rows' weights."""
    sums, squares = (ChannelSums(matrix.shape[1], matrix.dtype) for _ in range(2))
    for piece in pieces(matrix):
        scratch = buffer("distance", matrix[piece].shape, matrix.dtype)
        distance = _distance(matrix[piece], center, scratch)
        weighted = distance if of_rows is None else distance * of_rows[piece]
        sums.add(weighted)
        squares.add(np.multiply(distance, weighted, out=scratch))
    return sums.total(channels), squares.total(channels)


def _distance(part: Array, center: Array | None, out: Array) -> Array:
    """Return the distances of a piece from a center on its rows, written to `out`; the piece itself for None."""
    return part if center is None else np.subtract(part, center[: len(part)], out=out)


def _center_and_rest(mean: Array, inverse: Array, matrix: Array) -> tuple[Array | None, Array | float]:
    """Return the means on the rows of a piece and zero; or None and the means, where these are near zero.

    Then they are taken away from sums and products in place of each element, which saves an operation.
    """
    near = (np.square(mean * inverse) <= NEAR).all()
    return (None, mean) if near else (on_rows(mean, matrix), 0.0)


def _total(x: Value, weights: Array | None, others: OtherParts | None = None) -> float:
    """Return what the rows count together, those of the other parts included."""
    if others is not None:
        return others.weight
    return max(1, math.prod(np.shape(x)[:-1])) if weights is None else float(np.add.reduce(weights, axis=None))


def _batch_normalize(
    x: Value,
    scale: Value,
    shift: Value,
    moments: Moments,
    epsilon: float,
    weights: Array | None = None,
    others: OtherParts | None = None,
    fixed: bool = False,
    relu_after: bool = False,
) -> Value:
    if fixed:
        mean, variance = moments
        y = (x - mean) / np.sqrt(variance + epsilon) * scale + shift
    else:
        column = None if weights is None else weights[..., None]
        y = normalize(x, scale, shift, tuple(range(np.ndim(x) - 1)), epsilon, column, others=others)
    return relu(y) if relu_after else y


def _forward(
    x: Array,
    scale: Array,
    shift: Array,
    moments: Moments,
    epsilon: float,
    weights: Array | None = None,  # noqa: ARG001
    others: OtherParts | None = None,  # noqa: ARG001
    fixed: bool = False,  # noqa: ARG001
    relu_after: bool = False,
) -> tuple[Array, Moments]:
    mean, variance = moments
    inverse = 1 / np.sqrt(variance + epsilon)
    y = np.empty(x.shape, np.result_type(x, scale))
    source, target = long_rows(x, x.shape[-1]), long_rows(y, x.shape[-1])
    center, rest = _center_and_rest(mean, inverse, target)
    slope = scale * inverse
    factor, offset = (on_rows(vector, target) for vector in (slope, shift - rest * slope))
    for piece in pieces(target):
        part, n = target[piece], piece.stop - piece.start
        np.multiply(_distance(source[piece], center, part), factor[:n], out=part)
        part += offset[:n]
        if relu_after:
            relu_in_place(part)
    return y, (mean, inverse)


def _backward(
    g: Array,
    y: Array,
    kept: Moments,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    x: Array,
    scale: Array,
    _shift: Array,
    moments: Moments,  # noqa: ARG001
    epsilon: float,  # noqa: ARG001
    weights: Array | None = None,
    others: OtherParts | None = None,
    fixed: bool = False,
    relu_after: bool = False,
    memory: Array | None = None,
) -> Sequence[Array | None]:
    """Return the gradients of Ioffe and Szegedy 2015, section 3; the normalized x is computed again, not kept."""
    inverse = kept[1]
    passes = _BackwardPasses(g, y, x, kept, relu_after, memory)
    if fixed and not any(wanted[1:]):
        return passes.by_x_alone(scale * inverse), None, None
    sum_, product = passes.sums()
    of_each = (product * inverse).astype(y.dtype), sum_.astype(y.dtype)
    gradients = [gradient if want else None for gradient, want in zip(of_each, wanted[1:], strict=True)]
    if not wanted[0]:
        return None, *gradients
    if fixed:
        return passes.by_x_alone(scale * inverse), *gradients
    sums = np.stack([sum_, product * inverse * inverse])
    sums = sums if others is None else others.total(sums)
    return passes.by_x(scale * inverse, sums / -_total(x, weights, others), weights), *gradients


class _BackwardPasses:
    """The passes over all rows in the backward pass: the first for sums over the rows, then one for the cotangent of x.

    Args:
        g: cotangent of the output.
        y: the output.
        x: what was normalized.
        kept: mean of each channel, and one over its deviation.
        relu_after: whether y is the output of ReLU.
        memory: g, if it may be written to; the cotangent of x then takes its place.
    """

    def __init__(self, g: Array, y: Array, x: Array, kept: Moments, relu_after: bool, memory: Array | None) -> None:
        self._channels, self._result = x.shape[-1], array_in(memory, x.shape, y.dtype)
        g = g.astype(y.dtype, copy=False)
        self._out, self._x, self._y, self._g = (long_rows(a, self._channels) for a in (self._result, x, y, g))
        self._center, self._rest = _center_and_rest(*kept, self._out)
        self._gated = not relu_after

    def _before_relu(self, piece: slice) -> Array:
        """Return the cotangent of a piece before ReLU; it is written to where that of x will be."""
        return self._g[piece] if self._gated else gate(self._g[piece], self._y[piece], self._out[piece])

    def sums(self) -> tuple[Array, Array]:
        """Return the sums over all rows of the cotangent before ReLU, and of its product with x less its mean."""
        sums, products = (ChannelSums(self._out.shape[1], self._out.dtype) for _ in range(2))
        for piece in pieces(self._out):
            g, scratch = self._before_relu(piece), buffer("distance", self._out[piece].shape, self._out.dtype)
            sums.add(g)
            products.add(np.multiply(_distance(self._x[piece], self._center, scratch), g, out=scratch))
        if not self._gated:
            self._g, self._gated = self._out, True
        total = sums.total(self._channels)
        return total, products.total(self._channels) - self._rest * total

    def by_x(self, factor: Array, sums: Array, weights: Array | None) -> Array:
        """Return factor (g + sums[0] + sums[1] (x - mean)), the sums times the weights of the rows."""
        vectors = factor, sums[0] - self._rest * sums[1], sums[1]
        scale, offset, slope = (on_rows(vector, self._out) for vector in vectors)
        of_rows = None if weights is None else on_channels(weights, self._out)
        for piece in pieces(self._out):
            part = buffer("distance", self._out[piece].shape, self._out.dtype)
            n = len(part)
            np.multiply(_distance(self._x[piece], self._center, part), slope[:n], out=part)
            part += offset[:n]
            if of_rows is not None:
                part *= of_rows[piece]
            part += self._before_relu(piece)
            np.multiply(part, scale[:n], out=self._out[piece])
        return self._result

    def by_x_alone(self, factor: Array) -> Array:
        """Return factor g, the cotangent of x where the moments do not depend on it."""
        scale = on_rows(factor, self._out)
        for piece in pieces(self._out):
            np.multiply(self._before_relu(piece), scale[: piece.stop - piece.start], out=self._out[piece])
        return self._result


batch_normalize_block = Block(
    "batch_normalize_block", _batch_normalize, _forward, _backward, new_cotangents=True, takes_memory=True
)
