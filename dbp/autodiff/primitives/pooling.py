"""Pooling of images (examples, *lengths, channels): the maximum or the mean of every window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dbp.autodiff.primitives.windows import Lengths, Window
from dbp.autodiff.tensor import Primitive, Value, array_of
from dbp.types import Array


def _padded_below(x: Array, window: Window) -> Array:
    """Return images padded with the smallest value of their dtype, which never exceeds another."""
    return window.padded(x, -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min)


def _max_pool(x: Array, window: Window) -> Any:
    positions = window.positions(x.shape[1:-1])
    taps = window.taps(_padded_below(x, window), positions)
    _, first = next(taps)
    y = first.copy()
    for _, pixels in taps:
        np.maximum(y, pixels, out=y)
    return y


def _largest_tap(x: Value, y: Value, window: Window) -> Array:
    """Return per window the number of the first tap, row by row, that holds its maximum."""
    image, largest = array_of(x), array_of(y)
    found = np.full(largest.shape, -1, np.min_scalar_type(-math.prod(window.size)))
    for number, (_, pixels) in enumerate(window.taps(_padded_below(image, window), largest.shape[1:-1])):
        found[(found < 0) & (pixels == largest)] = number
    return found


def _gather(x: Array, taps: Array, window: Window) -> Any:
    y = np.zeros(taps.shape, x.dtype)
    for number, (_, pixels) in enumerate(window.taps(window.padded(x), taps.shape[1:-1])):
        y += pixels * (taps == number)
    return y


def _scatter(g: Array, taps: Array, window: Window, image: Lengths) -> Any:
    padded = window.blank((len(g), *image, g.shape[-1]), g.dtype)
    for number, (_, pixels) in enumerate(window.taps(padded, g.shape[1:-1])):
        pixels += g * (taps == number)
    return np.ascontiguousarray(window.unpadded(padded))


max_pool: Primitive = Primitive(  # the derivative of a tie goes to the first tap, row by row
    "max_pool",
    _max_pool,
    reverse=[
        lambda g, y, x, window: tap_scatter(g, taps=_largest_tap(x, y, window), window=window, image=np.shape(x)[1:-1]),
    ],
    forward=[lambda t, y, x, window: tap_gather(t, taps=_largest_tap(x, y, window), window=window)],
)
tap_gather: Primitive = Primitive(  # from every window the value at the tap of the given number
    "tap_gather",
    _gather,
    reverse=[lambda g, y, x, taps, window: tap_scatter(g, taps=taps, window=window, image=np.shape(x)[1:-1])],
    forward=[lambda t, y, x, taps, window: tap_gather(t, taps=taps, window=window)],
)
tap_scatter: Primitive = Primitive(  # the adjoint of tap_gather
    "tap_scatter",
    _scatter,
    reverse=[lambda c, y, g, taps, window, image: tap_gather(c, taps=taps, window=window)],
    forward=[lambda t, y, g, taps, window, image: tap_scatter(t, taps=taps, window=window, image=image)],
)


def _window_sum(x: Array, window: Window) -> Any:
    positions = window.positions(x.shape[1:-1])
    y = np.zeros((len(x), *positions, x.shape[-1]), x.dtype)
    for _, pixels in window.taps(window.padded(x), positions):
        y += pixels
    return y


def _window_spread(g: Array, window: Window, image: Lengths) -> Any:
    padded = window.blank((len(g), *image, g.shape[-1]), g.dtype)
    for _, pixels in window.taps(padded, g.shape[1:-1]):
        pixels += g
    return np.ascontiguousarray(window.unpadded(padded))


window_sum: Primitive = Primitive(  # the sum over every window
    "window_sum",
    _window_sum,
    reverse=[lambda g, y, x, window: window_spread(g, window=window, image=np.shape(x)[1:-1])],
    forward=[lambda t, y, x, window: window_sum(t, window=window)],
)
window_spread: Primitive = Primitive(  # the adjoint of window_sum
    "window_spread",
    _window_spread,
    reverse=[lambda c, y, g, window, image: window_sum(c, window=window)],
    forward=[lambda t, y, g, window, image: window_spread(t, window=window, image=image)],
)


def average_pool(x: Value, window: Window) -> Value:
    """Return the mean of every window over the pixels within the image, padding excluded."""
    sums = window_sum(x, window=window)
    counts = _window_sum(np.ones((1, *np.shape(x)[1:-1], 1), array_of(x).dtype), window)
    if counts.size and (counts == counts.flat[0]).all():
        counts = counts.dtype.type(counts.flat[0])
    return sums / counts
