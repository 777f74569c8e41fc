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
from dbp.nn.layers.window_settings import Padding, Sizes, check_padding, check_sizes, pair, window_on
from dbp.nn.masks import as_images, has_places, mask_after_window, on_axes_of, zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array

Pool = Callable[..., Value]


def _check_padding(padding: Padding, size: Sizes) -> None:
    """Raise UserError for unknown padding, or so much that a window would hold nothing else."""
    check_padding(padding)
    if not isinstance(padding, str) and padding >= min(pair(size)):
        raise UserError(f"padding must be smaller than size, but is {padding} for size {size}")


@dataclass(frozen=True)
class _Pool2d:
    """Settings of a window over images.

    Args:
        size: of the window; one number or (height, width).
        stride: steps of the window; by default its size.
        padding: "valid" for none, "same" for length / stride positions, or the number of places on every side.
    """

    size: Sizes
    stride: Sizes | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        check_sizes(self, "size", *([] if self.stride is None else ["stride"]))
        _check_padding(self.padding, self.size)

    def _apply(self, pool: Pool, scope: Scope, x: Value) -> Value:
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        size, stride = pair(self.size), pair(self.size if self.stride is None else self.stride)
        window = window_on(np.shape(x)[1:3], size, stride, self.padding)
        if (mask := scope.mask_of(x)) is None:
            return pool(x, window=window)
        mask = as_images(mask, x)
        scope.pass_mask(after := mask_after_window(mask, window, self.padding == "same"))
        return _pooled_valid(pool, x, window, mask, after)


@dataclass(frozen=True)
class _Pool1d:
    """Settings of a window along sequences.

    Args:
        size: of the window, in positions.
        stride: steps of the window; by default its size.
        padding: "valid" for none, "same" for length / stride positions, or the number of places at both ends.
    """

    size: int
    stride: int | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        check_sizes(self, "size", *([] if self.stride is None else ["stride"]), axes=1)
        _check_padding(self.padding, self.size)

    def _apply(self, pool: Pool, scope: Scope, x: Value) -> Value:
        check_axes(x, ("length", "channels"), "put a reshape layer in front")
        n, length, channels = np.shape(x)
        size, stride = pair(self.size, axes=1), pair(self.size if self.stride is None else self.stride, axes=1)
        window: Window = window_on((1, length), size, stride, self.padding, axes=1)
        images, mask = reshape(x, shape=(n, 1, length, channels)), scope.mask_of(x)
        if mask is None:
            y = pool(images, window=window)
        else:
            after = mask_after_window(mask[:, None], window, self.padding == "same")
            y = _pooled_valid(pool, images, window, mask[:, None], after)
            scope.pass_mask(after[:, 0])
        return reshape(y, shape=(n, *np.shape(y)[2:]))


def _pooled_valid(pool: Pool, x: Value, window: Window, mask: Array, after: Array) -> Value:
    """Return the maximum or mean of images over the valid places of each window; 0 for windows that do not count.

    Args:
        pool: max_pool or average_pool.
        x: the images.
        window: the window.
        mask: which places are valid, (examples, height, width).
        after: which windows count, (examples, down, across).
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
    all pools of images: size, stride and padding.
    """

    kind: ClassVar[str] = "max_pool2d"

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return (examples, down, across, channels)."""
        return self._apply(max_pool, scope, x)

    @property
    def tiles(self) -> int:
        """Return the size if windows are squares side by side without padding, as a convolution can fuse; else 0."""
        plain = isinstance(self.size, int) and self.stride in (None, self.size) and self.padding in ("valid", 0)
        return int(self.size) if plain and isinstance(self.size, int) else 0


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
    sequences: size, stride and padding.
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
        return where(has_places(mask)[:, None], y, 0)
