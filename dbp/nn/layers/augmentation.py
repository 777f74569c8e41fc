"""Augmentation: layers that change examples at random in training, and pass them on unchanged otherwise.

The draws depend on seed, step and shard alone, as those of dropout do, so they are the same on any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dbp.autodiff import Value, array_of, pad, reshape, take
from dbp.checks import check_not_negative
from dbp.errors import UserError, unknown
from dbp.nn.layers.layer import check_axes
from dbp.nn.layers.mixup import Mixup
from dbp.nn.layers.window_settings import Sizes, check_sizes, per_axis
from dbp.nn.scope import Scope
from dbp.types import Array

Indices = NDArray[np.intp]
FLIPS = ("horizontal", "vertical", "both")
EDGE = 2  # rows and columns of zeros around an image that is rotated


def _as_images(x: Value) -> Value:
    """Return images as they are, and sequences (examples, length, channels) as images of height 1."""
    if np.ndim(x) == 3:
        n, length, channels = np.shape(x)
        return reshape(x, shape=(n, 1, length, channels))
    check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
    return x


def _as_inputs(images: Value, x: Value) -> Value:
    """Return images in the form of the inputs x that _as_images() has made them of."""
    return images if np.ndim(x) == 4 else reshape(images, shape=(len(x), *np.shape(images)[2:]))


def _largest(size: Sizes, x: Value, on_one_row: int) -> tuple[int, int]:
    """Return a size as (down, across); down is `on_one_row` for sequences."""
    down, across = per_axis(size)
    return (on_one_row, across) if np.ndim(x) == 3 else (down, across)


def _pick(images: Value, rows: Indices, columns: Indices) -> Value:
    """Return images made of the given rows (examples, down) and columns (examples, across), zeros for those outside."""
    height, width = np.shape(images)[1:3]
    inside = _is_inside(rows, height)[:, :, None] & _is_inside(columns, width)[:, None, :]
    index = np.arange(len(rows))[:, None, None], rows[:, :, None] % height, columns[:, None, :] % width
    picked = take(images, index=index)
    return picked if inside.all() else picked * inside[..., None]


def _is_inside(index: Indices, length: int) -> NDArray[np.bool_]:
    return np.asarray((index >= 0) & (index < length))


@dataclass(frozen=True)
class RandomFlip:
    """Mirroring of a random half of the examples in training.

    Inputs (examples, height, width, channels), or (examples, length, channels) for sequences.

    Args:
        axis: "horizontal" exchanges left and right, "vertical" up and down; "both" draws one after the other.
    """

    kind: ClassVar[str] = "random_flip"
    axis: str = "horizontal"

    def __post_init__(self) -> None:
        if self.axis not in FLIPS:
            raise unknown("axis", self.axis, FLIPS)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        images = _as_images(x)
        if np.ndim(x) == 3 and self.axis != "horizontal":
            raise UserError(f"axis must be 'horizontal' for sequences, which have no other, but is {self.axis!r}")
        if not scope.training:
            return x
        (n, height, width), random = np.shape(images)[:3], scope.generator()
        across, down = random.random((2, n)) < 0.5
        if self.axis != "both":
            (down if self.axis == "horizontal" else across)[:] = False
        return _as_inputs(_pick(images, _mirrored(height, down), _mirrored(width, across)), x)


def _mirrored(length: int, chosen: Array) -> Indices:
    """Return the positions along an axis for each example, in reverse for those that are chosen."""
    forward = np.arange(length)
    return np.where(chosen[:, None], forward[::-1], forward)


@dataclass(frozen=True)
class RandomShift:
    """Shift of each example by a random number of positions in training; zeros move in.

    Inputs (examples, height, width, channels), or (examples, length, channels) for sequences. It does the same as
    padding with zeros followed by a random crop to the old size.

    Args:
        size: the largest shift to either side; one number or (down, across).
    """

    kind: ClassVar[str] = "random_shift"
    size: Sizes

    def __post_init__(self) -> None:
        check_sizes(self, "size", least=0)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        images = _as_images(x)
        if not scope.training:
            return x
        (n, height, width), random = np.shape(images)[:3], scope.generator()
        down, across = (random.integers(-most, most + 1, (n, 1)) for most in _largest(self.size, x, 0))
        return _as_inputs(_pick(images, np.arange(height) + down, np.arange(width) + across), x)


@dataclass(frozen=True)
class RandomCrop:
    """A part of each example, at a random position in training and in the middle otherwise.

    Inputs (examples, height, width, channels), or (examples, length, channels) for sequences; outputs have the size.

    Args:
        size: of the part; one number or (height, width).
    """

    kind: ClassVar[str] = "random_crop"
    size: Sizes

    def __post_init__(self) -> None:
        check_sizes(self, "size")

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the part; UserError if the inputs are smaller."""
        images = _as_images(x)
        part, room = self.part(np.shape(x)[1:-1])
        if not scope.training:
            index = tuple(slice(r // 2, r // 2 + p) for r, p in zip(room, part, strict=True))
            return _as_inputs(take(images, index=(slice(None), *index)), x)
        random = scope.generator()
        down, across = (random.integers(0, r + 1, (len(images), 1)) for r in room)
        return _as_inputs(_pick(images, np.arange(part[0]) + down, np.arange(part[1]) + across), x)

    def part(self, lengths: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the size of the part as (down, across), and how many positions the inputs have more."""
        down, across = per_axis(self.size)
        (height, width), part = ((1, *lengths), (1, across)) if len(lengths) == 1 else (lengths, (down, across))
        if part[0] > height or part[1] > width:
            shown = lengths[0] if len(lengths) == 1 else lengths
            raise UserError(f"size must not be larger than its inputs of {shown}, but is {self.size}")
        return part, (height - part[0], width - part[1])


@dataclass(frozen=True)
class RandomRotation:
    """Rotation of each image about its middle by a random angle in training, with bilinear interpolation.

    Inputs (examples, height, width, channels); outside of the image are zeros.

    Args:
        degrees: the largest angle to either side.
    """

    kind: ClassVar[str] = "random_rotation"
    degrees: float

    def __post_init__(self) -> None:
        check_not_negative(degrees=self.degrees)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        if not scope.training:
            return x
        n, height, width, _ = np.shape(x)
        angles = np.deg2rad(scope.generator().uniform(-self.degrees, self.degrees, (n, 1, 1)))
        return rotated(x, angles, height, width)


def rotated(x: Value, angles: Array, height: int, width: int) -> Value:
    """Return images (examples, height, width, channels) rotated by angles (examples, 1, 1) in radians.

    Two rows and columns of zeros around each image stand for all that is outside of it, so that the four pixels around
    any point have numbers at fixed distances.
    """
    n, dtype = len(angles), array_of(x).dtype
    down = np.arange(height)[:, None] - (height - 1) / 2
    across = np.arange(width)[None, :] - (width - 1) / 2
    rows = np.cos(angles) * down - np.sin(angles) * across + (height - 1) / 2
    columns = np.sin(angles) * down + np.cos(angles) * across + (width - 1) / 2
    top, left = np.floor(rows), np.floor(columns)
    lower, right = (rows - top).astype(dtype), (columns - left).astype(dtype)  # how much these neighbors count
    row_pixels = width + 2 * EDGE
    pixels = reshape(
        pad(x, width=((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0))),
        shape=(n * (height + 2 * EDGE) * row_pixels, np.shape(x)[3]),
    )
    first = np.clip(top, -EDGE, height).astype(np.intp) + EDGE + np.arange(n)[:, None, None] * (height + 2 * EDGE)
    first = first * row_pixels + np.clip(left, -EDGE, width).astype(np.intp) + EDGE
    total: Value = 0
    for i, by_row in ((0, 1 - lower), (1, lower)):
        for j, by_column in ((0, 1 - right), (1, right)):
            total = total + take(pixels, index=first + (i * row_pixels + j)) * (by_row * by_column)[..., None]
    return total


@dataclass(frozen=True)
class GaussianNoise:
    """Addition of normally distributed numbers to all inputs in training.

    Args:
        deviation: standard deviation of the numbers, in the units of the inputs.
    """

    kind: ClassVar[str] = "gaussian_noise"
    keeps_positions: ClassVar[bool] = True
    deviation: float

    def __post_init__(self) -> None:
        check_not_negative(deviation=self.deviation)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        if not scope.training or self.deviation == 0:
            return x
        shape, dtype = np.shape(x), array_of(x).dtype

        def noise(random: np.random.Generator) -> Array:
            drawn: Array = random.standard_normal(shape, np.float32).astype(dtype)
            drawn *= dtype.type(self.deviation)
            return drawn

        return x + scope.drawn(noise)


@dataclass(frozen=True)
class Cutout:
    """Zeros in a window at a random position of each example in training (DeVries and Taylor 2017).

    Inputs (examples, height, width, channels), or (examples, length, channels) for sequences. The middle of the window
    is anywhere within the example, so that a part of it may lie outside.

    Args:
        size: of the window; one number or (height, width).
    """

    kind: ClassVar[str] = "cutout"
    keeps_positions: ClassVar[bool] = True
    size: Sizes

    def __post_init__(self) -> None:
        check_sizes(self, "size")

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        n, *lengths, _ = np.shape(_as_images(x))
        if not scope.training:
            return x
        random = scope.generator()
        cut = np.ones((n, 1, 1), np.bool_)
        for axis, (size, length) in enumerate(zip(_largest(self.size, x, 1), lengths, strict=True)):
            begin = random.integers(0, length, (n, 1)) - size // 2
            positions = np.arange(length)
            within = (positions >= begin) & (positions < begin + size)
            cut = cut & (within[:, :, None] if axis == 0 else within[:, None, :])
        return x * ~cut.reshape(*np.shape(x)[:-1], 1)


# Layers that change examples in training only, and have no parameters.
AUGMENTATION_LAYERS = (RandomFlip, RandomShift, RandomCrop, RandomRotation, GaussianNoise, Cutout, Mixup)
