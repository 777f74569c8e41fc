"""Pooling: the maximum or the mean over every window, or over all positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, Window, array_of, average_pool, max_, max_pool, mean, reshape, sum_, where
from dbp.errors import UserError
from dbp.nn.layers.layer import check_axes
from dbp.nn.layers.window_settings import (
    Axes,
    Lengths,
    Padding,
    Sizes,
    Sizes3d,
    check_padding,
    check_sizes,
    per_axis,
    window_on,
)
from dbp.nn.masks import as_images, has_positions, mask_after_window, on_axes_of, zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array

Pool = Callable[..., Value]


@dataclass(frozen=True)
class _Pool:
    """Settings of a window over sequences, images or volumes.

    Args:
        size: of the window; one number, or one for each axis.
        stride: steps of the window; by default its size.
        padding: "valid" for none, "same" for length / stride positions, or the number of positions on every side.
        dilation: distance between the taps of the window.
    """

    axes: ClassVar[Axes]
    axis_names: ClassVar[tuple[str, ...]]
    size: int | Lengths
    stride: int | Lengths | None = None
    padding: Padding = "valid"
    dilation: int | Lengths = 1

    def __post_init__(self) -> None:
        check_sizes(self, "size", *([] if self.stride is None else ["stride"]), "dilation", axes=self.axes)
        check_padding(self.padding)
        if not isinstance(self.padding, str) and self.padding >= min(per_axis(self.size, self.axes)[-self.axes :]):
            raise UserError(f"padding must be smaller than size, but is {self.padding} for size {self.size}")

    def window_on(self, image: Lengths) -> Window:
        """Return the window over images of these lengths; sequences are images of height 1."""
        stride = self.size if self.stride is None else self.stride
        size, stride, dilation = (per_axis(v, self.axes) for v in (self.size, stride, self.dilation))
        return window_on(image, size, stride, self.padding, dilation, self.axes)

    @property
    def tiles(self) -> int:
        """Return the size if windows are of one length, side by side and not padded, so that they fuse; else 0."""
        side_by_side = self.stride in (None, self.size) and self.dilation in (1, (1, 1))
        plain = isinstance(self.size, int) and side_by_side and self.padding in ("valid", 0)
        return int(self.size) if plain and isinstance(self.size, int) else 0

    def _apply(self, pool: Pool, scope: Scope, x: Value) -> Value:
        remedy = "put a reshape layer in front" + ", such as to (28, 28, 1)" * (self.axes == 2)
        check_axes(x, (*self.axis_names, "channels"), remedy)
        mask = scope.mask_of(x)
        if self.axes > 1:
            y, after = self._pooled(pool, x, mask)
        else:
            images = reshape(x, shape=(len(x), 1, *np.shape(x)[1:]))
            y, after = self._pooled(pool, images, None if mask is None else mask[:, None])
            y, after = reshape(y, shape=(len(x), *np.shape(y)[2:])), None if after is None else after[:, 0]
        if after is not None:
            scope.pass_mask(after)
        return y

    def _pooled(self, pool: Pool, images: Value, mask: Array | None) -> tuple[Value, Array | None]:
        """Return the maximum or mean of every window, and which windows count; None if all do."""
        window = self.window_on(np.shape(images)[1:-1])
        if mask is None:
            return pool(images, window=window), None
        mask = as_images(mask, images)
        after = mask_after_window(mask, window, self.padding == "same")
        return _pooled_valid(pool, images, window, mask, after), after


@dataclass(frozen=True)
class _Pool1d(_Pool):
    """A window along sequences (examples, length, channels)."""

    axes: ClassVar[Axes] = 1
    axis_names: ClassVar[tuple[str, ...]] = ("length",)
    size: int
    stride: int | None = None
    dilation: int = 1


@dataclass(frozen=True)
class _Pool2d(_Pool):
    """A window over images (examples, height, width, channels)."""

    axes: ClassVar[Axes] = 2
    axis_names: ClassVar[tuple[str, ...]] = ("height", "width")
    size: Sizes
    stride: Sizes | None = None
    dilation: Sizes = 1


@dataclass(frozen=True)
class _Pool3d(_Pool):
    """A window over volumes (examples, depth, height, width, channels)."""

    axes: ClassVar[Axes] = 3
    axis_names: ClassVar[tuple[str, ...]] = ("depth", "height", "width")
    size: Sizes3d
    stride: Sizes3d | None = None
    dilation: Sizes3d = 1


def _pooled_valid(pool: Pool, x: Value, window: Window, mask: Array, after: Array) -> Value:
    """Return the maximum or mean of images over the valid positions of each window; 0 for windows that do not count.

    Args:
        pool: max_pool or average_pool.
        x: the images.
        window: the window.
        mask: which positions are valid, (examples, *lengths).
        after: which windows count, (examples, *positions).
    """
    if pool is max_pool:
        y = pool(where(mask[..., None], x, lowest(x)), window=window)
    else:
        counts = average_pool(mask[..., None].astype(array_of(x).dtype), window=window)
        y = pool(zero_filled(x, mask), window=window) / np.where(after[..., None], counts, 1)
    return where(after[..., None], y, 0)


def lowest(x: Value) -> float:
    """Return the lowest finite number of the type of x."""
    return float(np.finfo(array_of(x).dtype).min)


@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum over every window.

    Inputs (examples, height, width, channels), outputs (examples, down, across, channels). The settings are those of
    all pools of images: size, stride, padding and dilation.
    """

    kind: ClassVar[str] = "max_pool2d"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, down, across, channels)."""
        return self._apply(max_pool, scope, x)


@dataclass(frozen=True)
class AveragePool2d(_Pool2d):
    """Mean over every window, without padding: inputs and outputs as those of MaxPool2d, and so are the settings."""

    kind: ClassVar[str] = "average_pool2d"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, down, across, channels)."""
        return self._apply(average_pool, scope, x)


@dataclass(frozen=True)
class MaxPool1d(_Pool1d):
    """Maximum over every window.

    Inputs (examples, length, channels), outputs (examples, positions, channels). The settings are those of all pools of
    sequences: size, stride, padding and dilation.
    """

    kind: ClassVar[str] = "max_pool1d"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, positions, channels)."""
        return self._apply(max_pool, scope, x)


@dataclass(frozen=True)
class AveragePool1d(_Pool1d):
    """Mean over every window, without padding: inputs and outputs as those of MaxPool1d, and so are the settings."""

    kind: ClassVar[str] = "average_pool1d"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, positions, channels)."""
        return self._apply(average_pool, scope, x)


@dataclass(frozen=True)
class MaxPool3d(_Pool3d):
    """Maximum over every window.

    Inputs (examples, depth, height, width, channels), outputs (examples, *positions, channels). The settings are those
    of all pools of volumes: size, stride, padding and dilation.
    """

    kind: ClassVar[str] = "max_pool3d"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, *positions, channels)."""
        return self._apply(max_pool, scope, x)


@dataclass(frozen=True)
class AveragePool3d(_Pool3d):
    """Mean over every window, without padding: inputs and outputs as those of MaxPool3d, and so are the settings."""

    kind: ClassVar[str] = "average_pool3d"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, *positions, channels)."""
        return self._apply(average_pool, scope, x)


def _positions(x: Value) -> tuple[int, ...]:
    if np.ndim(x) < 3:
        raise UserError(f"takes (positions ..., channels) per example, but its inputs have shape {np.shape(x)[1:]}")
    return tuple(range(1, np.ndim(x) - 1))


@dataclass(frozen=True)
class GlobalAveragePool:
    """Mean of every channel over all positions that are not masked, 0 if all are.

    Inputs (examples, ..., channels).
    """

    kind: ClassVar[str] = "global_average_pool"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, channels)."""
        positions, mask = _positions(x), scope.mask_of(x)
        if mask is None:
            return mean(x, axis=positions)
        scope.pass_mask(None)
        count = mask.sum(axis=tuple(range(1, mask.ndim)))[:, None] * math.prod(np.shape(x)[mask.ndim : -1])
        return sum_(zero_filled(x, mask), axis=positions) / np.maximum(count, 1).astype(array_of(x).dtype)


@dataclass(frozen=True)
class GlobalMaxPool:
    """Maximum of every channel over all positions that are not masked, 0 if all are.

    Inputs (examples, ..., channels).
    """

    kind: ClassVar[str] = "global_max_pool"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, channels)."""
        positions, mask = _positions(x), scope.mask_of(x)
        if mask is None:
            return max_(x, axis=positions)
        scope.pass_mask(None)
        y = max_(where(on_axes_of(mask, x), x, lowest(x)), axis=positions)
        return where(has_positions(mask)[:, None], y, 0)
