"""Windows that slide over the two middle axes of images (examples, height, width, channels).

A window consists of taps, one per element of its kernel. The pixels under one tap at all positions of the window are a
strided view of the padded image, so convolution and pooling are loops over the taps, of which there are few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbp.autodiff.tensor import ShapeError
from dbp.types import Array

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The geometry of a sliding window, down and across.

    Args:
        size: number of taps.
        stride: steps between positions.
        padding: zeros around the image, ((top, bottom), (left, right)).
        dilation: distances between taps.
    """

    size: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        for name in ("size", "stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise ShapeError(f"{name} of a window must be at least 1, but is {getattr(self, name)}")

    def positions(self, image: Pair) -> Pair:
        """Return the number of positions on an image (height, width), down and across; ValueError if there are none."""
        down, across = (
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(image, self.padding, self.dilation, self.size, self.stride, strict=True)
        )
        if min(down, across) < 1:
            around = f" padded by {self.padding}" if any(map(any, self.padding)) else ""
            raise ValueError(f"a window of {self.size} (dilation {self.dilation}) does not fit {image}{around}")
        return down, across

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """Return images x with their padding, filled with `value`; x itself if there is no padding."""
        if not any(map(any, self.padding)):
            return x
        (top, bottom), (left, right) = self.padding
        n, height, width, channels = x.shape
        images = np.full((n, top + height + bottom, left + width + right, channels), value, x.dtype)
        images[:, top : top + height, left : left + width] = x
        return images

    def unpadded(self, images: Array) -> Array:
        """Return a view of padded images without their padding."""
        (top, bottom), (left, right) = self.padding
        return images[:, top : images.shape[1] - bottom, left : images.shape[2] - right]

    def blank(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """Return zeros of the shape that images of this shape have with padding."""
        (top, bottom), (left, right) = self.padding
        n, height, width, channels = shape
        return np.zeros((n, top + height + bottom, left + width + right, channels), dtype)

    def taps(self, images: Array, positions: Pair) -> Iterator[tuple[int, int, Array]]:
        """Yield each tap (row, column) with the view (examples, *positions, channels) of the pixels under it."""
        (dh, dw), (sh, sw), (down, across) = self.dilation, self.stride, positions
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                rows = slice(i * dh, i * dh + sh * (down - 1) + 1, sh)
                columns = slice(j * dw, j * dw + sw * (across - 1) + 1, sw)
                yield i, j, images[:, rows, columns]
