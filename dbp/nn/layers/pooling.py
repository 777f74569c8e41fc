"""Pooling: the largest or the mean of every window, or of all places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, Window, average_pool, max_, max_pool, mean, reshape
from dbp.errors import UserError
from dbp.nn.layers.layer import check_axes
from dbp.nn.layers.windows import Padding, Sizes, check_padding, pair, slides, window_on
from dbp.nn.scope import Scope

Pool = Callable[..., Value]


def _check_padding(padding: Padding, size: Sizes) -> None:
    """UserError for padding that there is not, or so much that some window would hold nothing else."""
    check_padding(padding)
    if not isinstance(padding, str) and padding >= min(pair(size)):
        raise UserError(f"padding must be smaller than size, but is {padding} for size {size}")


@dataclass(frozen=True)
class _Pool2d:
    """Settings of a window over images; it moves by its own size unless told a stride."""

    size: Sizes
    stride: Sizes | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        slides(self, "size", *([] if self.stride is None else ["stride"]))
        _check_padding(self.padding, self.size)

    def _apply(self, pool: Pool, x: Value) -> Value:
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        size, stride = pair(self.size), pair(self.size if self.stride is None else self.stride)
        return pool(x, window=window_on(np.shape(x)[1:3], size, stride, self.padding))


@dataclass(frozen=True)
class _Pool1d:
    """Settings of a window along sequences; it moves by its own size unless told a stride."""

    size: int
    stride: int | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        slides(self, "size", *([] if self.stride is None else ["stride"]), axes=1)
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
    """The largest value of every window. Inputs (examples, height, width, channels)."""

    kind: ClassVar[str] = "max_pool2d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Outputs (examples, down, across, channels)."""
        return self._apply(max_pool, x)

    @property
    def tiles(self) -> int:
        """The size of windows that lie side by side on squares, without padding; 0 for other windows."""
        plain = isinstance(self.size, int) and self.stride in (None, self.size) and self.padding in ("valid", 0)
        return int(self.size) if plain and isinstance(self.size, int) else 0


@dataclass(frozen=True)
class AveragePool2d(_Pool2d):
    """The mean of every window, over the places within the image. Inputs (examples, height, width, channels)."""

    kind: ClassVar[str] = "average_pool2d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Outputs (examples, down, across, channels)."""
        return self._apply(average_pool, x)


@dataclass(frozen=True)
class MaxPool1d(_Pool1d):
    """The largest value of every window. Inputs (examples, length, channels)."""

    kind: ClassVar[str] = "max_pool1d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Outputs (examples, positions, channels)."""
        return self._apply(max_pool, x)


@dataclass(frozen=True)
class AveragePool1d(_Pool1d):
    """The mean of every window, over the places within the sequence. Inputs (examples, length, channels)."""

    kind: ClassVar[str] = "average_pool1d"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Outputs (examples, positions, channels)."""
        return self._apply(average_pool, x)


def _places(x: Value) -> tuple[int, ...]:
    if np.ndim(x) < 3:
        raise UserError(f"takes (places ..., channels) per example, but its inputs have shape {np.shape(x)[1:]}")
    return tuple(range(1, np.ndim(x) - 1))


@dataclass(frozen=True)
class GlobalAveragePool:
    """The mean of every channel over all places. Inputs (examples, ..., channels)."""

    kind: ClassVar[str] = "global_average_pool"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Outputs (examples, channels)."""
        return mean(x, axis=_places(x))


@dataclass(frozen=True)
class GlobalMaxPool:
    """The largest value of every channel over all places. Inputs (examples, ..., channels)."""

    kind: ClassVar[str] = "global_max_pool"

    def __call__(self, scope: Scope, x: Value) -> Value:  # noqa: ARG002
        """Outputs (examples, channels)."""
        return max_(x, axis=_places(x))
