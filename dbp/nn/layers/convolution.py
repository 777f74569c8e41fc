"""Convolutions of sequences and images, channels last, and the transposed convolution of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, Window, convolution_block, convolve_transposed, max_pool, reshape
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, check_counts
from dbp.nn.layers.window_settings import Padding, Sizes, check_padding, check_sizes, pair, window_on
from dbp.nn.masks import as_images, mask_after_window, zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array


class PoolError(UserError):
    """An error in the settings of a pooling layer that is fused with a convolution."""


@dataclass(frozen=True)
class Conv2d:
    """Convolution of images: activation(x * W + b), as cross-correlation (the kernel is not flipped).

    Inputs (examples, height, width, channels), outputs (examples, down, across, filters), kernel W (*size,
    channels / groups, filters), bias b (filters,). With as many groups as channels it is depth-wise. Masked places are
    zeros, before and after.

    Args:
        filters: channels of the outputs.
        size: of the window; one number or (height, width).
        activation: name of the function of the sums.
        stride: steps of the window.
        padding: "valid" for none, "same" for length / stride positions, or the number of zeros on every side.
        dilation: distance between the taps of the window.
        groups: the channels are split into so many groups, each with filters of its own.
        initializer: name of the distribution that W is drawn from.
        bias: whether to add b, which begins at 0.
    """

    kind: ClassVar[str] = "conv2d"
    filters: int
    size: Sizes
    activation: str = "linear"
    stride: Sizes = 1
    padding: Padding = "valid"
    dilation: Sizes = 1
    groups: int = 1
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self)
        check_sizes(self, "size", "stride", "dilation")
        activation(self.activation)
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        return self.pooled(scope, x, 0)

    def pooled(self, scope: Scope, x: Value, pool: int) -> Value:
        """Return the outputs after max pooling, fused so that they stay in the cache.

        Args:
            scope: holds the parameters.
            x: images.
            pool: size and stride of the pooling window; 0 for no pooling.
        """
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        size, stride, dilation = map(pair, (self.size, self.stride, self.dilation))
        window = window_on(np.shape(x)[1:3], size, stride, self.padding, dilation)
        if pool:
            _check_pool(window.positions(np.shape(x)[1:3]), pool)
        if (mask := scope.mask_of(x)) is None:
            return _convolved(self, scope, x, window, pool)
        mask = as_images(mask, x)
        scope.pass_mask(after := mask_after_window(mask, window, self.padding == "same"))
        return zero_filled(_convolved(self, scope, zero_filled(x, mask), window, 0, after), after)


@dataclass(frozen=True)
class Conv1d:
    """Convolution of sequences: activation(x * W + b).

    Inputs (examples, length, channels), outputs (examples, positions, filters), kernel W (1, size, channels / groups,
    filters), bias b (filters,).

    Args:
        filters: channels of the outputs.
        size: of the window, in positions.
        activation: name of the function of the sums.
        stride: steps of the window.
        padding: "valid" for none, "same" for length / stride positions, or the number of zeros at both ends.
        dilation: distance between the taps of the window.
        groups: the channels are split into so many groups, each with filters of its own.
        initializer: name of the distribution that W is drawn from.
        bias: whether to add b, which begins at 0.
    """

    kind: ClassVar[str] = "conv1d"
    filters: int
    size: int
    activation: str = "linear"
    stride: int = 1
    padding: Padding = "valid"
    dilation: int = 1
    groups: int = 1
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self)
        check_sizes(self, "size", "stride", "dilation", axes=1)
        activation(self.activation)
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        check_axes(x, ("length", "channels"), "put a reshape layer in front")
        n, length, channels = np.shape(x)
        size, stride, dilation = (pair(v, axes=1) for v in (self.size, self.stride, self.dilation))
        window = window_on((1, length), size, stride, self.padding, dilation, axes=1)
        mask = scope.mask_of(x)
        images = reshape(zero_filled(x, mask), shape=(n, 1, length, channels))
        after = None if mask is None else mask_after_window(mask[:, None], window, self.padding == "same")
        y = _convolved(self, scope, images, window, 0, after)
        if after is not None:
            y = zero_filled(y, after)
            scope.pass_mask(after[:, 0])
        return reshape(y, shape=(n, *np.shape(y)[2:]))


def _check(layer: Conv1d | Conv2d) -> None:
    check_counts(layer, "filters", "groups")
    if layer.filters % layer.groups:
        raise UserError(f"filters must be a multiple of groups ({layer.groups}), but are {layer.filters}")
    check_padding(layer.padding)


def _check_pool(positions: tuple[int, int], pool: int) -> None:
    """Raise PoolError if the pooling window does not fit; the pooling layer is then named as the culprit."""
    try:
        window_on(positions, (pool, pool), (pool, pool), "valid")
    except UserError as error:
        raise PoolError(str(error)) from None


def _convolved(
    layer: Conv1d | Conv2d, scope: Scope, x: Value, window: Window, pool: int, after: Array | None = None
) -> Value:
    """Return the outputs for images x; ReLU and pooling are fused unless weighted inputs are recorded.

    The mask `after` says which of the outputs hold data.
    """
    channels = np.shape(x)[3]
    if channels % layer.groups:
        shape = np.shape(x)[2 if isinstance(layer, Conv1d) else 1 :]
        raise UserError(f"channels must be a multiple of groups ({layer.groups}), but its inputs have shape {shape}")
    w = scope.parameter("weight", (*window.size, channels // layer.groups, layer.filters), layer.initializer)
    b = scope.parameter("bias", (layer.filters,), "zeros") if layer.bias else None
    fused = layer.activation == "relu" and not scope.records_neurons
    y = convolution_block(x, w, b, window=window, groups=layer.groups, relu_after=fused, pool=pool if fused else 0)
    if fused:
        return y
    y = scope.neurons(y, activation(layer.activation), after)
    return max_pool(y, window=Window((pool, pool), (pool, pool))) if pool else y


@dataclass(frozen=True)
class ConvTranspose2d:
    """Transposed convolution: each input adds its multiple of a kernel to a window of larger images.

    Inputs (examples, down, across, channels), outputs (examples, height, width, filters) with height =
    (down - 1) stride + size - 2 padding, or down * stride for padding "same"; kernel W (*size, filters, channels).

    Args:
        filters: channels of the outputs.
        size: of the window; one number or (height, width).
        activation: name of the function of the sums.
        stride: distance between the windows of neighboring inputs.
        padding: "valid" for none, "same" for stride times as many positions, or what is cut off on every side.
        initializer: name of the distribution that W is drawn from.
        bias: whether to add a number to each filter, which begins at 0.
    """

    kind: ClassVar[str] = "conv_transpose2d"
    filters: int
    size: Sizes
    activation: str = "linear"
    stride: Sizes = 1
    padding: Padding = "valid"
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        check_counts(self, "filters")
        check_padding(self.padding)
        check_sizes(self, "size", "stride")
        activation(self.activation)
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (7, 7, 64)")
        size, stride = pair(self.size), pair(self.stride)
        small = np.shape(x)[1:3]
        image = self.image_size(small, size, stride)
        w = scope.parameter("weight", (*size, self.filters, np.shape(x)[3]), self.initializer)
        z = convolve_transposed(x, w, image=image, window=window_on(image, size, stride, self.padding))
        if self.bias:
            z = z + scope.parameter("bias", (self.filters,), "zeros")
        return scope.neurons(z, activation(self.activation))

    def image_size(self, small: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the outputs; UserError if padding leaves nothing."""
        if self.padding == "same":
            return small[0] * stride[0], small[1] * stride[1]
        each = 0 if self.padding == "valid" else int(self.padding)
        height, width = ((n - 1) * s + k - 2 * each for n, s, k in zip(small, stride, size, strict=True))
        if min(height, width) < 1:
            raise UserError(f"padding {each} takes away all of the outputs for inputs of {small}; choose less")
        return height, width
