"""Upsampling: more positions, with the values of the nearest ones or values between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, Window, array_of
from dbp.autodiff.primitives import window_spread
from dbp.autodiff.primitives.interpolation import interpolate
from dbp.checks import check_integer, is_integer
from dbp.errors import UserError, unknown
from dbp.nn.layers.window_settings import Lengths
from dbp.nn.masks import as_images, on_axes_of, zero_filled
from dbp.nn.scope import Scope
from dbp.types import Array

AXES = {"linear": 1, "bilinear": 2, "trilinear": 3}  # of positions, in the words of other frameworks
METHODS = ("nearest", *AXES)
INPUTS = {1: "sequences", 2: "images", 3: "volumes"}


@dataclass(frozen=True)
class Upsample:
    """Upsampling of sequences, images or volumes by whole factors.

    Inputs (examples, *lengths, channels) with one to three lengths, outputs (examples, *(factor * lengths), channels).
    Outputs and inputs stand in the middle of their cells, as with PyTorch's align_corners=False.

    Args:
        factor: outputs for each input along every axis; one number, or one for each axis.
        method: "nearest" repeats each input; "linear" for sequences, "bilinear" for images and "trilinear" for volumes
            interpolate between neighbors.
    """

    kind: ClassVar[str] = "upsample"
    factor: int | Lengths
    method: str = "nearest"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if is_integer(self.factor):
            object.__setattr__(self, "factor", check_integer("factor", self.factor, 1))
            return
        axes = (AXES[self.method],) if self.method in AXES else tuple(INPUTS)
        if not isinstance(self.factor, (list, tuple)) or len(self.factor) not in axes:
            counts = " or ".join(map(str, axes))
            raise UserError(f"factor must be a whole number, or a list of {counts} of them, but is {self.factor!r}")
        object.__setattr__(self, "factor", tuple(check_integer("factor", number, 1) for number in self.factor))

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the upsampled inputs; UserError if they have other axes than the settings."""
        factors, mask = self.factors_for(np.shape(x)[1:]), scope.mask_of(x)
        if mask is None:
            return self._upsampled(x, factors)
        mask = as_images(mask, x)
        after = mask
        for axis, factor in enumerate(factors, start=1):
            after = after.repeat(factor, axis)
        scope.pass_mask(after)
        y = self._upsampled(zero_filled(x, mask), factors)
        if self.method == "nearest":
            return y
        shares: Array = self._upsampled(mask[..., None].astype(array_of(x).dtype), factors)
        return zero_filled(y / np.where(on_axes_of(after, y), shares, 1), after)  # of the valid neighbors alone

    def factors_for(self, shape: Lengths) -> Lengths:
        """Return the factor of each axis of positions; UserError if examples of this shape do not fit the settings."""
        axes = len(shape) - 1
        if axes not in INPUTS:
            raise UserError(
                f"takes (length, channels), (height, width, channels) or (depth, height, width, channels) per example, "
                f"but its inputs have shape {shape}; put a reshape layer in front"
            )
        if self.method in AXES and AXES[self.method] != axes:
            fitting = next(method for method, count in AXES.items() if count == axes)
            raise UserError(
                f"method {self.method!r} is for {INPUTS[AXES[self.method]]}, but its inputs are {INPUTS[axes]} of "
                f"shape {shape}; choose {fitting!r}"
            )
        if isinstance(self.factor, int):
            return (self.factor,) * axes
        if len(self.factor) != axes:
            raise UserError(f"factor must be one number or {axes} for inputs of shape {shape}, but is {self.factor}")
        return self.factor

    def _upsampled(self, x: Value, factors: Lengths) -> Value:
        if self.method == "nearest":  # the adjoint of the sums over windows that lie side by side
            lengths = tuple(n * factor for n, factor in zip(np.shape(x)[1:-1], factors, strict=True))
            return window_spread(x, window=Window(factors, factors), image=lengths)
        for axis, factor in enumerate(factors, start=1):
            if factor > 1:
                x = interpolate(x, axis=axis, factor=factor)
        return x
