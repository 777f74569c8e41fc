"""Masks: which positions of each example hold data, and which are filled in.

A mask is an array of booleans (examples, *positions). Layers that mix positions take it from their scope, so that what
is filled in has no influence on any number, and say which of their outputs count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.autodiff import Value, Window, where
from dbp.types import Array


def on_axes_of(mask: Array, x: Value) -> Array:
    """Return a mask with as many axes as x (examples, *positions, ...), of length one where x has more."""
    return mask.reshape(mask.shape + (1,) * (np.ndim(x) - mask.ndim))


def zero_filled(x: Value, mask: Array | None) -> Value:
    """Return x with zeros in the positions that are filled in, whatever stands there."""
    return x if mask is None else where(on_axes_of(mask, x), x, 0)


def has_positions(mask: Array) -> Array:
    """Return for each example whether any position counts, (examples,)."""
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))


def as_images(mask: Array, x: Value) -> Array:
    """Return the mask of images x (examples, *lengths, channels) for each of their pixels."""
    return np.broadcast_to(on_axes_of(mask, x)[..., 0], np.shape(x)[:-1])


def mask_after_window(mask: Array, window: Window, same: bool) -> Array:
    """Return which positions of a window count, (examples, *positions), given the mask of images.

    They are those that the valid positions alone would have: with padding "same" as many as positions, divided by the
    stride. Otherwise the window must lie on valid positions, and on as many others beside them as there is padding.

    Args:
        mask: (examples, *lengths).
        window: the window.
        same: whether the padding is "same".
    """
    positions = window.positions(mask.shape[1:])
    if same:
        strides = zip(positions, window.stride, strict=True)
        return mask[(slice(None), *(slice(0, (count - 1) * step + 1, step) for count, step in strides))]
    images = _grown(mask, window)[..., None]
    counts = np.ones((len(mask), *positions), np.bool_)
    for _, under in window.taps(images, positions):
        counts &= under[..., 0]
    return counts


def _grown(mask: Array, window: Window) -> Array:
    """Return the mask of padded images where padding is beside the valid positions, wherever these end."""
    grown: Any = mask
    for axis, (before, after) in enumerate(window.padding, start=1):
        widths = [(0, 0)] * mask.ndim
        widths[axis] = before, after
        padded = np.pad(grown, widths)
        grown = padded.copy()
        length = padded.shape[axis]
        for shift in range(1, max(before, after) + 1):
            if shift <= before:
                _or(grown, padded, axis, slice(0, length - shift), slice(shift, length))
            if shift <= after:
                _or(grown, padded, axis, slice(shift, length), slice(0, length - shift))
    return np.asarray(grown)


def _or(target: Array, source: Array, axis: int, to: slice, of: slice) -> None:
    """Set target[to] |= source[of] along an axis."""
    index = (slice(None),) * axis
    target[(*index, to)] |= source[(*index, of)]


def mask_after_transposed(mask: Array, window: Window, image: tuple[int, ...]) -> Array:
    """Return which outputs of a transposed convolution count, (examples, *image), given the mask of its inputs.

    They are those that the valid positions alone would have.

    Args:
        mask: (examples, *lengths).
        window: the window, which slides over the outputs.
        image: lengths of the outputs.
    """
    for axis, length in enumerate(image):
        mask = np.moveaxis(_spread(np.moveaxis(mask, axis + 1, -1), window, axis, length), -1, axis + 1)
    return mask


def _spread(mask: Array, window: Window, axis: int, length: int) -> Array:
    """Return the mask (..., length) of the outputs along one axis, given that of the inputs (..., positions)."""
    positions, step, (before, after) = mask.shape[-1], window.stride[axis], window.padding[axis]
    end = length - (positions - 1) * step + before + after  # of the window of an input, with what is added at the end
    grown = np.zeros((*mask.shape[:-1], (positions - 1) * step + max(end, step + before)), np.bool_)
    neighbors = mask[..., :-1] & mask[..., 1:]
    for shift in range(before, end - after):
        grown[..., shift : shift + (positions - 1) * step + 1 : step] |= mask
    for shift in range(max(before, end - after), step + before):  # between the windows of two inputs
        grown[..., shift : shift + (positions - 1) * step : step] |= neighbors
    return grown[..., before : before + length]
