"""Convolutions of sequences and images, channels last, and the transposed convolution of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, Window, convolution_block, convolve_back, max_pool, reshape
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.initialisers import initialiser
from dbp.nn.layers.layer import at_least, check_axes
from dbp.nn.layers.windows import Padding, Sizes, check_padding, pair, window_on
from dbp.nn.scope import Scope


@dataclass(frozen=True)
class Conv2d:
    """Each filter a weighted sum over a window that slides over the images: activation(x * W + b).

    Inputs (examples, height, width, channels), outputs (examples, down, across, filters); W is (*size,
    channels / groups, filters) and b (filters,). With as many groups as channels it is depth-wise.

    Args:
        filters: channels of the outputs.
        size: of the window; one number or (height, width).
        stride: steps of the window.
        padding: "valid" for none, "same" for as many positions as places (by the stride), or zeros on every side.
        dilation: distance of the window's taps.
        groups: parts of the channels, each with filters of its own.
    """

    kind: ClassVar[str] = "conv2d"
    filters: int
    size: Sizes
    activation: str = "linear"
    stride: Sizes = 1
    padding: Padding = "valid"
    dilation: Sizes = 1
    groups: int = 1
    initialiser: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self.filters, self.groups, self.padding)
        for name in ("size", "stride", "dilation"):
            pair(name, getattr(self, name))
        activation(self.activation)
        initialiser(self.initialiser)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The activated outputs."""
        return self.pooled(scope, x, 0)

    def pooled(self, scope: Scope, x: Value, pool: int) -> Value:
        """The largest of every pool x pool outputs (0: all outputs), found while an image is in the cache."""
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        window = window_on(
            np.shape(x)[1:3], pair("size", self.size), pair("stride", self.stride), self.padding,
            pair("dilation", self.dilation),
        )  # fmt: skip
        return _convolved(self, scope, x, window, pool)


@dataclass(frozen=True)
class Conv1d:
    """Each filter a weighted sum over a window that slides along sequences: activation(x * W + b).

    Inputs (examples, length, channels), outputs (examples, positions, filters); W is (1, size, channels / groups,
    filters) and b (filters,). Settings as those of Conv2d.
    """

    kind: ClassVar[str] = "conv1d"
    filters: int
    size: int
    activation: str = "linear"
    stride: int = 1
    padding: Padding = "valid"
    dilation: int = 1
    groups: int = 1
    initialiser: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self.filters, self.groups, self.padding)
        for name in ("size", "stride", "dilation"):
            pair(name, getattr(self, name), axes=1)
        activation(self.activation)
        initialiser(self.initialiser)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The activated outputs."""
        check_axes(x, ("length", "channels"), "put a reshape layer in front")
        n, length, channels = np.shape(x)
        size, stride, dilation = (pair("", v, axes=1) for v in (self.size, self.stride, self.dilation))
        window = window_on((1, length), size, stride, self.padding, dilation, axes=1)
        y = _convolved(self, scope, reshape(x, shape=(n, 1, length, channels)), window, 0)
        return reshape(y, shape=(n, *np.shape(y)[2:]))


def _check(filters: int, groups: int, padding: Padding) -> None:
    at_least("filters", filters, 1)
    at_least("groups", groups, 1)
    if filters % groups:
        raise UserError(f"filters must be a multiple of groups ({groups}), but are {filters}")
    check_padding(padding)


def _convolved(layer: Conv1d | Conv2d, scope: Scope, x: Value, window: Window, pool: int) -> Value:
    """The layer's outputs for images x; fused where nobody watches the weighted inputs and ReLU or nothing follows."""
    channels = np.shape(x)[3]
    if channels % layer.groups:
        raise UserError(f"channels must be a multiple of groups ({layer.groups}), but there are {channels}")
    w = scope.parameter("weight", (*window.size, channels // layer.groups, layer.filters), layer.initialiser)
    b = scope.parameter("bias", (layer.filters,), "zeros") if layer.bias else None
    fused = layer.activation == "relu" and not scope.watching
    y = convolution_block(x, w, b, window=window, groups=layer.groups, relu_after=fused, pool=pool if fused else 0)
    if fused:
        return y
    y = scope.neurons(y, activation(layer.activation))
    return max_pool(y, window=Window((pool, pool), (pool, pool))) if pool else y


@dataclass(frozen=True)
class ConvTranspose2d:
    """The transpose of a convolution: each input spreads a window of weights over larger images.

    Inputs (examples, down, across, channels), outputs (examples, height, width, filters) with height =
    (down - 1) stride + size - 2 padding, or down stride for padding "same"; W is (*size, filters, channels).
    """

    kind: ClassVar[str] = "conv_transpose2d"
    filters: int
    size: Sizes
    activation: str = "linear"
    stride: Sizes = 1
    padding: Padding = "valid"
    initialiser: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self.filters, 1, self.padding)
        pair("size", self.size)
        pair("stride", self.stride)
        activation(self.activation)
        initialiser(self.initialiser)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """The activated outputs."""
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (7, 7, 64)")
        size, stride = pair("size", self.size), pair("stride", self.stride)
        small = np.shape(x)[1:3]
        image = self._image(small, size, stride)
        w = scope.parameter("weight", (*size, self.filters, np.shape(x)[3]), self.initialiser)
        z = convolve_back(x, w, image=image, window=window_on(image, size, stride, self.padding))
        if self.bias:
            z = z + scope.parameter("bias", (self.filters,), "zeros")
        return scope.neurons(z, activation(self.activation))

    def _image(self, small: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the outputs."""
        if self.padding == "same":
            return small[0] * stride[0], small[1] * stride[1]
        each = 0 if self.padding == "valid" else int(self.padding)
        height, width = ((n - 1) * s + k - 2 * each for n, s, k in zip(small, stride, size, strict=True))
        if min(height, width) < 1:
            raise UserError(f"padding {each} takes away all of the outputs for inputs of {small}; choose less")
        return height, width
