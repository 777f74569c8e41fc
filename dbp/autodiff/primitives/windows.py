"""Windows that slide over the two middle axes of images (examples, height, width, channels).

A window has taps; for one tap the places that it meets at all positions of the window are a strided view of
the padded image. What slides is written as a loop over the taps, of which there are few.
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
    """How a window slides: steps, zeros around the image as ((top, bottom), (left, right)), gaps between taps."""

    size: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        for name in ("size", "stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise ShapeError(f"{name} of a window must be at least 1, but is {getattr(self, name)}")

    def positions(self, image: Pair) -> Pair:
        """How many positions the window has on an image, down and across."""
        down, across = (
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(image, self.padding, self.dilation, self.size, self.stride, strict=True)
        )
        if min(down, across) < 1:
            around = f" padded by {self.padding}" if any(map(any, self.padding)) else ""
            raise ValueError(f"a window of {self.size} (dilation {self.dilation}) does not fit {image}{around}")
        return down, across

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """The images with their surroundings filled by a value; x itself where there are none."""
        if not any(map(any, self.padding)):
            return x
        (top, bottom), (left, right) = self.padding
        n, height, width, channels = x.shape
        whole = np.full((n, top + height + bottom, left + width + right, channels), value, x.dtype)
        whole[:, top : top + height, left : left + width] = x
        return whole

    def unpadded(self, whole: Array) -> Array:
        """The images without their surroundings."""
        (top, bottom), (left, right) = self.padding
        return whole[:, top : whole.shape[1] - bottom, left : whole.shape[2] - right]

    def blank(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """Zeros of the size of padded images, for images of this shape."""
        (top, bottom), (left, right) = self.padding
        n, height, width, channels = shape
        return np.zeros((n, top + height + bottom, left + width + right, channels), dtype)

    def taps(self, whole: Array, positions: Pair) -> Iterator[tuple[int, int, Array]]:
        """Each tap (row, column), with the view of padded images that it meets, a place per position."""
        (dh, dw), (sh, sw), (down, across) = self.dilation, self.stride, positions
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                rows = slice(i * dh, i * dh + sh * (down - 1) + 1, sh)
                columns = slice(j * dw, j * dw + sw * (across - 1) + 1, sw)
                yield i, j, whole[:, rows, columns]
