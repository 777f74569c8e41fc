"""Pooling: the maximum or the mean over every window, or over all positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, Window, average_pool, max_, max_pool, mean, reshape
from dbp.errors import UserError
from dbp.nn.layers.layer import check_axes
from dbp.nn.layers.window_settings import Padding, Sizes, check_padding, check_sizes, pair, window_on
from dbp.nn.scope import Scope

Pool = Callable[..., Value]


def _check_padding(padding: Padding, size: Sizes) -> None:
    """Raise UserError for unknown padding, or so much that a window would hold nothing else."""
    check_padding(padding)
    if not isinstance(padding, str) and padding >= min(pair(size)):
        raise UserError(f"padding must be smaller than size, but is {padding} for size {size}")


@dataclass(frozen=True)
class _Pool2d:
    """Settings of a window over images; the stride is the size by default."""

    size: Sizes
    stride: Sizes | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        check_sizes(self, "size", *([] if self.stride is None else ["stride"]))
        _check_padding(self.padding, self.size)

    def _apply(self, pool: Pool, x: Value) -> Value:
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        size, stride = pair(self.size), pair(self.size if self.stride is None else self.stride)
        return pool(x, window=window_on(np.shape(x)[1:3], size, stride, self.padding))


@dataclass(frozen=True)
class _Pool1d:
    """Settings of a window along sequences; the stride is the size by default."""

    size: int
    stride: int | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        check_sizes(self, "size", *([] if self.stride is None else ["stride"]), axes=1)
        _check_padding(self.padding, self.size)

    def _apply(self, pool: Pool, x: Value) -> Value:
        check_axes(x, ("length", "channels"), "put a reshape layer in front")
        n, length, channels = np.shape(x)
        size, stride = pair(self.size, axes=1), pair(self.size if self.stride is None else self.stride, axes=1)
        window: Window = window_on((1, length), size, stride, self.padding, axes=1)
        y = pool(reshape(x, shape=(n, 1, length, channels)), window=window)
        return reshape(y, shape=(n, *np.shape(y)[2:]))


@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum over every window. Inputs (examples, height, width, channels)."""

    kind: ClassVar[str] = "max_pool2d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Return (examples, down, across, channels)."""
        return self._apply(max_pool, x)

    @property
    def tiles(self) -> int:
        """Return the size if windows are squares side by side without padding, as a convolution can fuse; else 0."""
        plain = isinstance(self.size, int) and self.stride in (None, self.size) and self.padding in ("valid", 0)
        return int(self.size) if plain and isinstance(self.size, int) else 0


@dataclass(frozen=True)
class AveragePool2d(_Pool2d):
    """Mean over every window, padding excluded. Inputs (examples, height, width, channels)."""

    kind: ClassVar[str] = "average_pool2d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Return (examples, down, across, channels)."""
        return self._apply(average_pool, x)


@dataclass(frozen=True)
class MaxPool1d(_Pool1d):
    """Maximum over every window. Inputs (examples, length, channels)."""

    kind: ClassVar[str] = "max_pool1d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Return (examples, positions, channels)."""
        return self._apply(max_pool, x)


@dataclass(frozen=True)
class AveragePool1d(_Pool1d):
    """Mean over every window, padding excluded. Inputs (examples, length, channels)."""

    kind: ClassVar[str] = "average_pool1d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Return (examples, positions, channels)."""
        return self._apply(average_pool, x)


def _positions(x: Value) -> tuple[int, ...]:
    if np.ndim(x) < 3:
        raise UserError(f"takes (positions ..., channels) per example, but its inputs have shape {np.shape(x)[1:]}")
    return tuple(range(1, np.ndim(x) - 1))


@dataclass(frozen=True)
class GlobalAveragePool:
    """Mean of every channel over all positions. Inputs (examples, ..., channels)."""

    kind: ClassVar[str] = "global_average_pool"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Return (examples, channels)."""
        return mean(x, axis=_positions(x))


@dataclass(frozen=True)
class GlobalMaxPool:
    """Maximum of every channel over all positions. Inputs (examples, ..., channels)."""

    kind: ClassVar[str] = "global_max_pool"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Return (examples, channels)."""
        return max_(x, axis=_positions(x))
