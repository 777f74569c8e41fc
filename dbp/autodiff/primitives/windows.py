"""Windows that slide over the middle axes of images (examples, *lengths, channels), along one axis or several.

A window consists of taps, one per element of its kernel. The pixels under one tap at all positions of the window are a
strided view of the padded image, so convolution and pooling are loops over the taps, of which there are few.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbp.autodiff.tensor import ShapeError
from dbp.types import Array

Pair = tuple[int, int]
Lengths = tuple[int, ...]  # one for each axis along which the window slides, such as (height, width)


@dataclass(frozen=True)
class Window:
    """The geometry of a sliding window, with one number or pair for each axis, such as down and across.

    Args:
        size: number of taps.
        stride: steps between positions; 1 along each axis by default.
        padding: zeros around the image, such as ((top, bottom), (left, right)); none by default.
        dilation: distances between taps; 1 along each axis by default.
    """

    size: Lengths
    stride: Lengths = ()
    padding: tuple[Pair, ...] = ()
    dilation: Lengths = ()

    def __post_init__(self) -> None:
        axes = len(self.size)
        for name, default in (("stride", (1,) * axes), ("padding", ((0, 0),) * axes), ("dilation", (1,) * axes)):
            if not getattr(self, name):
                object.__setattr__(self, name, default)
        for name in ("size", "stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise ShapeError(f"{name} of a window must be at least 1, but is {getattr(self, name)}")

    def positions(self, image: Lengths) -> Lengths:
        """Return the number of positions along each axis of an image of these lengths; ValueError if there are none."""
        found = tuple(
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(image, self.padding, self.dilation, self.size, self.stride, strict=True)
        )
        if min(found) < 1:
            around = f" padded by {self.padding}" if any(map(any, self.padding)) else ""
            raise ValueError(f"a window of {self.size} (dilation {self.dilation}) does not fit {image}{around}")
        return found

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """Return images x with their padding, filled with `value`; x itself if there is no padding."""
        if not any(map(any, self.padding)):
            return x
        images = np.full(self._padded_shape(x.shape), value, x.dtype)
        self.unpadded(images)[...] = x
        return images

    def unpadded(self, images: Array) -> Array:
        """Return a view of padded images without their padding."""
        lengths = images.shape[1:-1]
        inner = (slice(before, n - after) for n, (before, after) in zip(lengths, self.padding, strict=True))
        return images[(slice(None), *inner)]

    def blank(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """Return zeros of the shape that images of this shape have with padding."""
        return np.zeros(self._padded_shape(shape), dtype)

    def _padded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, *lengths, channels = shape
        return n, *(length + sum(p) for length, p in zip(lengths, self.padding, strict=True)), channels

    def taps(self, images: Array, positions: Lengths) -> Iterator[tuple[Lengths, Array]]:
        """Yield the index of each tap, row by row, with the view (examples, *positions, channels) of what is under it.

        Args:
            images: with their padding.
            positions: the number of positions along each axis.
        """
        axes = zip(self.size, self.dilation, self.stride, positions, strict=True)
        slices = [[slice(i * d, i * d + s * (count - 1) + 1, s) for i in range(k)] for k, d, s, count in axes]
        for tap, under in zip(itertools.product(*map(range, self.size)), itertools.product(*slices), strict=True):
            yield tap, images[(slice(None), *under)]
