"""Convolutions of sequences, images and volumes, channels last."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from dbp.autodiff import ConstantConvolution, Value, Window, convolution_block, max_pool, reshape
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import Layer, check_axes, check_counts
from dbp.nn.layers.pooling import MaxPool1d, MaxPool2d
from dbp.nn.layers.window_settings import (
    CAUSAL,
    PADDINGS,
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
from dbp.nn.masks import as_images, mask_after_window, zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array


class PoolError(UserError):
    """An error in the settings of a pooling layer that is fused with a convolution."""


class Followers(NamedTuple):
    """What is computed with a convolution, while its outputs are in the cache.

    Args:
        pool: size and stride of a max pooling after it; 0 for none.
        fold: returns the convolution, given its weights and bias, with the layer after it folded in; None for none.
        relu: whether ReLU comes after a fold, and before the pooling.
        added: what is added after a fold, and before ReLU; None for nothing, as with a pooling.
    """

    pool: int = 0
    fold: Callable[[Array, Array | None], ConstantConvolution] | None = None
    relu: bool = False
    added: Array | None = None


@dataclass(frozen=True)
class Conv2d:
    """Convolution of images: activation(x * W + b), as cross-correlation (the kernel is not flipped).

    Inputs (examples, height, width, channels), outputs (examples, down, across, filters), kernel W (*size,
    channels / groups, filters), bias b (filters,). With as many groups as channels it is depth-wise. Masked positions
    are zeros, before and after.

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
    axes: ClassVar[Axes] = 2
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

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        return self.followed(scope, x, Followers())

    def followed_by(self, after: Layer) -> Callable[[Scope, Value], Value] | None:
        """Return the layer together with a max pooling without overlap; None for another layer."""
        tiles = after.tiles if isinstance(after, MaxPool2d) else 0
        return functools.partial(self.followed, followers=Followers(tiles)) if tiles else None

    def followed(self, scope: Scope, x: Value, followers: Followers) -> Value:
        """Return the outputs for images x after what follows, fused so that they stay in the cache."""
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        return _convolved_masked(self, scope, x, convolution_window(self, np.shape(x)[1:-1]), followers)


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
        padding: "valid" for none, "same" for length / stride positions, "causal" for as many of which none depends on a
            later input, or the number of zeros at both ends.
        dilation: distance between the taps of the window.
        groups: the channels are split into so many groups, each with filters of its own.
        initializer: name of the distribution that W is drawn from.
        bias: whether to add b, which begins at 0.
    """

    kind: ClassVar[str] = "conv1d"
    axes: ClassVar[Axes] = 1
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

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        return self.followed(scope, x, Followers())

    def followed_by(self, after: Layer) -> Callable[[Scope, Value], Value] | None:
        """Return the layer together with a max pooling without overlap; None for another layer."""
        tiles = after.tiles if isinstance(after, MaxPool1d) else 0
        return functools.partial(self.followed, followers=Followers(tiles)) if tiles else None

    def followed(self, scope: Scope, x: Value, followers: Followers) -> Value:
        """Return the outputs for sequences x after what follows, fused so that they stay in the cache.

        A sequence that is pooled has no mask.
        """
        check_axes(x, ("length", "channels"), "put a reshape layer in front")
        n, length, channels = np.shape(x)
        window = convolution_window(self, (1, length))
        _check_pool(window.positions((1, length)), _pool_lengths(self, followers), 1)
        mask = scope.mask_of(x)
        images = reshape(zero_filled(x, mask), shape=(n, 1, length, channels))
        added = None if followers.added is None else followers.added[:, None]
        after = None if mask is None else mask_after_window(mask[:, None], window, self.padding in ("same", CAUSAL))
        y = _convolved(self, scope, images, window, followers._replace(added=added), after)
        if after is not None:
            y = zero_filled(y, after)
            scope.pass_mask(after[:, 0])
        return reshape(y, shape=(n, *np.shape(y)[2:]))


@dataclass(frozen=True)
class Conv3d:
    """Convolution of volumes: activation(x * W + b).

    Inputs (examples, depth, height, width, channels), outputs (examples, *positions, filters), kernel W (*size,
    channels / groups, filters), bias b (filters,). Masked positions are zeros, before and after.

    Args:
        filters: channels of the outputs.
        size: of the window; one number or (depth, height, width).
        activation: name of the function of the sums.
        stride: steps of the window.
        padding: "valid" for none, "same" for length / stride positions, or the number of zeros on every side.
        dilation: distance between the taps of the window.
        groups: the channels are split into so many groups, each with filters of its own.
        initializer: name of the distribution that W is drawn from.
        bias: whether to add b, which begins at 0.
    """

    kind: ClassVar[str] = "conv3d"
    axes: ClassVar[Axes] = 3
    filters: int
    size: Sizes3d
    activation: str = "linear"
    stride: Sizes3d = 1
    padding: Padding = "valid"
    dilation: Sizes3d = 1
    groups: int = 1
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        return self.followed(scope, x, Followers())

    def followed(self, scope: Scope, x: Value, followers: Followers) -> Value:
        """Return the outputs for volumes x after what follows, which is no pooling."""
        axes = "depth", "height", "width", "channels"
        check_axes(x, axes, "put a reshape layer in front, such as to (16, 16, 16, 1)")
        return _convolved_masked(self, scope, x, convolution_window(self, np.shape(x)[1:-1]), followers)


@dataclass(frozen=True)
class SeparableConv2d:
    """Separable convolution of images: first of each channel by itself, then of all channels of a pixel (Chollet 2017).

    Inputs (examples, height, width, channels), outputs (examples, down, across, filters), kernels `depthwise/weight`
    (*size, 1, multiplier * channels) and `pointwise/weight` (1, 1, multiplier * channels, filters), bias
    `pointwise/bias` (filters,). It is a Conv2d with as many groups as channels, followed by one of size 1.

    Args:
        filters: channels of the outputs.
        size: of the window; one number or (height, width).
        activation: name of the function of the sums.
        stride: steps of the window.
        padding: "valid" for none, "same" for length / stride positions, or the number of zeros on every side.
        dilation: distance between the taps of the window.
        multiplier: filters of the first convolution for each channel.
        initializer: name of the distribution that both kernels are drawn from.
        bias: whether to add a number to each filter, which begins at 0.
    """

    kind: ClassVar[str] = "separable_conv2d"
    filters: int
    size: Sizes
    activation: str = "linear"
    stride: Sizes = 1
    padding: Padding = "valid"
    dilation: Sizes = 1
    multiplier: int = 1
    initializer: str = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        check_counts(self, "filters", "multiplier")
        check_padding(self.padding)
        check_sizes(self, "size", "stride", "dilation")
        activation(self.activation)
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        return self.followed(scope, x, Followers())

    def followed(self, scope: Scope, x: Value, followers: Followers) -> Value:
        """Return the outputs for images x after what follows the second convolution."""
        check_axes(x, ("height", "width", "channels"), "put a reshape layer in front, such as to (28, 28, 1)")
        mask = scope.mask
        for name, layer in self.parts(np.shape(x)[-1]).items():
            inner = scope.inside(name, mask)
            x = layer.followed(inner, x, followers if name == "pointwise" else Followers())
            mask = inner.mask_after(layer)
        scope.pass_mask(mask)
        return x

    def parts(self, channels: int) -> dict[str, Conv2d]:
        """Return both convolutions for inputs of so many channels, by the names of their scopes."""
        how = self.stride, self.padding, self.dilation
        first = Conv2d(self.multiplier * channels, self.size, "linear", *how, channels, self.initializer, bias=False)
        last = Conv2d(self.filters, 1, self.activation, initializer=self.initializer, bias=self.bias)
        return {"depthwise": first, "pointwise": last}


Convolution = Conv1d | Conv2d | Conv3d


def _check(layer: Convolution) -> None:
    check_counts(layer, "filters", "groups")
    if layer.filters % layer.groups:
        raise UserError(f"filters must be a multiple of groups ({layer.groups}), but are {layer.filters}")
    check_padding(layer.padding, (*PADDINGS, CAUSAL) if layer.axes == 1 else PADDINGS)
    check_sizes(layer, "size", "stride", "dilation", axes=layer.axes)
    activation(layer.activation)
    initializer(layer.initializer)


def convolution_window(layer: Convolution, image: Lengths) -> Window:
    """Return the window of a convolution over images of these lengths; sequences are images of height 1."""
    axes = layer.axes
    size, stride, dilation = (per_axis(v, axes) for v in (layer.size, layer.stride, layer.dilation))
    return window_on(image, size, stride, layer.padding, dilation, axes)


def _check_pool(positions: Lengths, pool: Lengths, axes: Axes = 2) -> None:
    """Raise PoolError if the pooling window does not fit; the pooling layer is then named as the culprit."""
    try:
        if pool:
            window_on(positions, pool, pool, "valid", axes=axes)
    except UserError as error:
        raise PoolError(str(error)) from None


def _pool_lengths(layer: Convolution, followers: Followers) -> Lengths:
    """Return the lengths of the pooling's windows on images or volumes; none without a pooling."""
    high = 1 if layer.axes == 1 else followers.pool
    return (high, followers.pool) if followers.pool else ()


def _convolved_masked(layer: Conv2d | Conv3d, scope: Scope, x: Value, window: Window, followers: Followers) -> Value:
    """Return the outputs for images or volumes x, of which some positions may be masked, and pass on which count."""
    _check_pool(window.positions(np.shape(x)[1:-1]), _pool_lengths(layer, followers))
    if (mask := scope.mask_of(x)) is None:
        return _convolved(layer, scope, x, window, followers)
    mask = as_images(mask, x)
    scope.pass_mask(after := mask_after_window(mask, window, layer.padding == "same"))
    return zero_filled(_convolved(layer, scope, zero_filled(x, mask), window, Followers(), after), after)


def _convolved(
    layer: Convolution, scope: Scope, x: Value, window: Window, followers: Followers, after: Array | None = None
) -> Value:
    """Return the outputs for images or volumes x; ReLU and pooling are fused unless weighted inputs are recorded.

    The mask `after` says which of the outputs hold data.
    """
    channels, pool = np.shape(x)[-1], _pool_lengths(layer, followers)
    if channels % layer.groups:
        shape = np.shape(x)[2 if isinstance(layer, Conv1d) else 1 :]
        raise UserError(f"channels must be a multiple of groups ({layer.groups}), but its inputs have shape {shape}")
    w = scope.parameter("weight", (*window.size, channels // layer.groups, layer.filters), layer.initializer)
    b = scope.parameter("bias", (layer.filters,), "zeros") if layer.bias else None
    convolution = functools.partial(convolution_block, x, w, b, window=window, groups=layer.groups)
    if followers.fold is not None:
        folded = followers.fold(w, b)
        return folded(x, window, layer.groups, followers.relu, pool, followers.added)
    if scope.can_prepare(x):
        constant = scope.prepared(ConstantConvolution, w, b)
        convolution = functools.partial(constant, x, window=window, groups=layer.groups)
    if layer.activation == "relu" and not scope.records_neurons:
        return convolution(relu_after=True, pool=pool)
    y = scope.neurons(convolution(), activation(layer.activation), after)
    return max_pool(y, window=Window(pool, pool)) if pool else y
