"""Transposed convolutions of sequences, images and volumes: each input adds a kernel's multiple to larger outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, Window, reshape, transposed_convolution_block
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.initializers import initializer
from dbp.nn.layers.layer import check_axes, check_counts
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
from dbp.nn.masks import as_images, mask_after_transposed, zero_filled
from dbp.nn.scope import Scope


@dataclass(frozen=True)
class _ConvTranspose:
    """Settings and computation of a transposed convolution along any number of axes.

    Args:
        filters: channels of the outputs.
        size: of the window; one number, or one for each axis.
        activation: name of the function of the sums.
        stride: distance between the windows of neighboring inputs.
        padding: "valid" for none, "same" for stride times as many positions, or what is cut off on every side.
        initializer: name of the distribution that the kernel is drawn from.
        bias: whether to add a number to each filter, which begins at 0.
        dilation: distance between the taps of the window.
        groups: the channels are split into so many groups, each with filters of its own.
        output_padding: positions that are added at the end of each axis.
    """

    axes: ClassVar[Axes]
    axis_names: ClassVar[tuple[str, ...]]
    filters: int
    size: int | Lengths
    activation: str = "linear"
    stride: int | Lengths = 1
    padding: Padding = "valid"
    initializer: str = "glorot_uniform"
    bias: bool = True
    dilation: int | Lengths = 1
    groups: int = 1
    output_padding: int | Lengths = 0

    def __post_init__(self) -> None:
        check_counts(self, "filters", "groups")
        if self.filters % self.groups:
            raise UserError(f"filters must be a multiple of groups ({self.groups}), but are {self.filters}")
        check_padding(self.padding)
        check_sizes(self, "size", "stride", "dilation", axes=self.axes)
        check_sizes(self, "output_padding", axes=self.axes, least=0)
        if self.padding == "same" and self.output_padding != 0:
            raise UserError(
                f"output_padding must be 0 with padding 'same', which says the size, but is {self.output_padding}"
            )
        activation(self.activation)
        initializer(self.initializer)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated outputs."""
        remedy = "put a reshape layer in front" + ", such as to (7, 7, 64)" * (self.axes == 2)
        check_axes(x, (*self.axis_names, "channels"), remedy)
        images = x if self.axes > 1 else reshape(x, shape=(len(x), 1, *np.shape(x)[1:]))
        small = np.shape(images)[1:-1]
        image, window = self.geometry(small)
        mask, after = scope.mask_of(x), None
        if mask is not None:
            mask = as_images(mask if self.axes > 1 else mask[:, None], images)
            after = mask_after_transposed(mask, window, image)
            scope.pass_mask(after if self.axes > 1 else after[:, 0])
        w = self._kernel(scope, np.shape(x))
        b = scope.parameter("bias", (self.filters,), "zeros") if self.bias else None
        z = transposed_convolution_block(
            zero_filled(images, mask), w, b, window=window, image=image, groups=self.groups
        )
        y = zero_filled(scope.neurons(z, activation(self.activation), after), after)
        return y if self.axes > 1 else reshape(y, shape=(len(x), *np.shape(y)[2:]))

    def _kernel(self, scope: Scope, inputs: Lengths) -> Value:
        """Return the weights (*size, filters / groups, channels)."""
        channels = inputs[-1]
        if channels % self.groups:
            raise UserError(
                f"channels must be a multiple of groups ({self.groups}), but its inputs have shape {inputs[1:]}"
            )
        shape = *per_axis(self.size, self.axes), self.filters // self.groups, channels
        return scope.parameter("weight", shape, self.initializer)

    def geometry(self, small: Lengths) -> tuple[Lengths, Window]:
        """Return the lengths of the outputs for inputs of these lengths, and the window; UserError if none are left.

        Those of sequences begin with a 1, as they are images of height 1.
        """
        size, stride, dilation = (per_axis(v, self.axes) for v in (self.size, self.stride, self.dilation))
        each = 0 if isinstance(self.padding, str) else int(self.padding)
        cut, added = (per_axis(v, self.axes, of_height=0) for v in (each, self.output_padding))
        image = tuple(
            n * s if self.padding == "same" else (n - 1) * s + d * (k - 1) + 1 - 2 * c + a
            for n, s, k, d, c, a in zip(small, stride, size, dilation, cut, added, strict=True)
        )
        if min(image) < 1:
            shown = small[1] if self.axes == 1 else small
            raise UserError(f"padding {each} takes away all of the outputs for inputs of {shown}; choose less")
        window = window_on(image, size, stride, self.padding, dilation, self.axes)
        if window.positions(image) != small:
            raise UserError(
                f"output_padding must be smaller than stride, but is {self.output_padding} for stride {self.stride}"
            )
        return image, window


@dataclass(frozen=True)
class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images.

    Inputs (examples, down, across, channels), outputs (examples, height, width, filters) with height =
    (down - 1) stride + dilation (size - 1) + 1 - 2 padding + output_padding, or down * stride for padding "same";
    kernel W (*size, filters / groups, channels).

    Args:
        filters: channels of the outputs.
        size: of the window; one number or (height, width).
        activation: name of the function of the sums.
        stride: distance between the windows of neighboring inputs.
        padding: "valid" for none, "same" for stride times as many positions, or what is cut off on every side.
        initializer: name of the distribution that W is drawn from.
        bias: whether to add a number to each filter, which begins at 0.
        dilation: distance between the taps of the window.
        groups: the channels are split into so many groups, each with filters of its own.
        output_padding: positions that are added at the bottom and on the right.
    """

    kind: ClassVar[str] = "conv_transpose2d"
    axes: ClassVar[Axes] = 2
    axis_names: ClassVar[tuple[str, ...]] = ("height", "width")
    size: Sizes
    stride: Sizes = 1
    dilation: Sizes = 1
    output_padding: Sizes = 0


@dataclass(frozen=True)
class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of sequences.

    Inputs (examples, positions, channels), outputs (examples, length, filters), kernel W (1, size, filters / groups,
    channels). The settings and the length are those of ConvTranspose2d, along one axis.
    """

    kind: ClassVar[str] = "conv_transpose1d"
    axes: ClassVar[Axes] = 1
    axis_names: ClassVar[tuple[str, ...]] = ("length",)
    size: int
    stride: int = 1
    dilation: int = 1
    output_padding: int = 0


@dataclass(frozen=True)
class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes.

    Inputs (examples, *positions, channels), outputs (examples, depth, height, width, filters), kernel W (*size,
    filters / groups, channels). The settings and the lengths are those of ConvTranspose2d, along three axes.
    """

    kind: ClassVar[str] = "conv_transpose3d"
    axes: ClassVar[Axes] = 3
    axis_names: ClassVar[tuple[str, ...]] = ("depth", "height", "width")
    size: Sizes3d
    stride: Sizes3d = 1
    dilation: Sizes3d = 1
    output_padding: Sizes3d = 0
