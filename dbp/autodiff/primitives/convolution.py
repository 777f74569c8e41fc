"""Convolution of images and its two adjoints; the derivatives of each of the three are the other two.

Images are (examples, height, width, channels), weights (down, across, channels in / groups, channels out); there may be
any number of axes in the place of these two. As is usual in deep learning, the kernel is not flipped: these are
cross-correlations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.primitives.windows import Lengths, Window
from dbp.autodiff.tensor import Primitive
from dbp.types import Array


def check_kernel(channels: int, w: Array, window: Window, groups: int = 1, outputs: int | None = None) -> None:
    """Raise ValueError unless weights have the shape for this window and these channels."""
    if w.shape[:-2] != window.size:
        raise ValueError(f"weights of shape {w.shape} do not fit a window of {window.size}")
    if channels != w.shape[-2] * groups or w.shape[-1] % groups or outputs not in (None, w.shape[-1]):
        fit = f"{w.shape[-2] * groups} channels" + (f" to {w.shape[-1]}" if outputs is not None else "")
        given = f"{channels}" + (f" and {outputs}" if outputs is not None else "")
        groups_too = f" in {groups} groups" if groups > 1 else ""
        raise ValueError(f"weights for {fit}{groups_too} do not fit {given} channels")


def check_transposed(g: Array, w: Array, window: Window, image: Lengths, groups: int = 1) -> None:
    """Raise ValueError unless cotangents and weights are those of a convolution of images with these lengths."""
    channels = w.shape[-2] * groups if w.ndim > 1 else 0
    check_kernel(channels, w, window, groups, g.shape[-1])
    if window.positions(image) != g.shape[1:-1]:
        raise ValueError(f"the window has {window.positions(image)} positions on images of {image}")


def _product(x: Array, w: Array, groups: int) -> Any:
    """Multiply x (examples, *positions, C) by w (C / groups, K), each group of channels by its own part of w."""
    if groups == 1:
        return np.matmul(rows_of(x), w).reshape(*x.shape[:-1], w.shape[-1])
    if w.shape[0] == 1:  # depth-wise
        return (x[..., None] * w.reshape(groups, -1)).reshape(*x.shape[:-1], w.shape[-1])
    parts = np.moveaxis(rows_of(x).reshape(-1, groups, w.shape[0]), 1, 0)
    outputs = np.matmul(parts, np.moveaxis(w.reshape(w.shape[0], groups, -1), 1, 0))
    return np.moveaxis(outputs, 0, 1).reshape(*x.shape[:-1], w.shape[-1])


def _product_transposed(g: Array, w: Array, groups: int) -> Any:
    """Multiply g (examples, *positions, K) by the transpose of w (C / groups, K)."""
    width = w.shape[0] * groups
    if groups == 1:
        return np.matmul(rows_of(g), w.T).reshape(*g.shape[:-1], width)
    if w.shape == (1, groups):  # depth-wise
        return g * w
    parts = np.moveaxis(g.reshape(-1, groups, w.shape[1] // groups), 1, 0)
    inputs = np.matmul(parts, np.moveaxis(w.reshape(w.shape[0], groups, -1), 1, 0).swapaxes(1, 2))
    return np.moveaxis(inputs, 0, 1).reshape(*g.shape[:-1], width)


def _sum_outer_products(x: Array, g: Array, groups: int) -> Any:
    """Sum the outer products of the channels of x and g over all pixels, by group: (C / groups, K)."""
    a, b = rows_of(x), rows_of(g)
    if groups == 1:
        return np.matmul(a.T, b)
    a, b = (rows.reshape(len(rows), groups, rows.shape[1] // groups) for rows in (a, b))
    parts = np.matmul(np.moveaxis(a, 0, 2), np.moveaxis(b, 0, 1))  # groups, C / groups, K / groups
    return np.moveaxis(parts, 0, 1).reshape(parts.shape[1], -1)


def _convolve(x: Array, w: Array, window: Window, groups: int = 1) -> Any:
    check_kernel(x.shape[-1], w, window, groups)
    positions = window.positions(x.shape[1:-1])
    y = np.zeros((len(x), *positions, w.shape[-1]), np.result_type(x, w))
    for tap, pixels in window.taps(window.padded(x), positions):
        y += _product(pixels, w[tap], groups)
    return y


def _convolve_transposed(g: Array, w: Array, window: Window, image: Lengths, groups: int = 1) -> Any:
    check_transposed(g, w, window, image, groups)
    padded = window.blank((len(g), *image, w.shape[-2] * groups), np.result_type(g, w))
    for tap, pixels in window.taps(padded, g.shape[1:-1]):
        pixels += _product_transposed(g, w[tap], groups)
    return np.ascontiguousarray(window.unpadded(padded))


def _convolve_weights(x: Array, g: Array, window: Window, groups: int = 1) -> Any:
    positions = window.positions(x.shape[1:-1])
    if positions != g.shape[1:-1] or x.shape[-1] % groups or g.shape[-1] % groups:
        raise ValueError(f"the window has {positions} positions on images of {x.shape[1:-1]} ({groups} groups)")
    w = np.empty((*window.size, x.shape[-1] // groups, g.shape[-1]), np.result_type(x, g))
    for tap, pixels in window.taps(window.padded(x), positions):
        w[tap] = _sum_outer_products(pixels, g, groups)
    return w


convolve: Primitive = Primitive(  # of images x with weights w
    "convolve",
    _convolve,
    reverse=[
        lambda g, y, x, w, **how: convolve_transposed(g, w, image=np.shape(x)[1:-1], **how),
        lambda g, y, x, w, **how: convolve_weights(x, g, **how),
    ],
    forward=[lambda t, y, x, w, **how: convolve(t, w, **how), lambda t, y, x, w, **how: convolve(x, t, **how)],
)
convolve_transposed: Primitive = Primitive(  # the adjoint in x, or transposed convolution: cotangents g to images
    "convolve_transposed",
    _convolve_transposed,
    reverse=[
        lambda c, y, g, w, image, **how: convolve(c, w, **how),
        lambda c, y, g, w, image, **how: convolve_weights(c, g, **how),
    ],
    forward=[
        lambda t, y, g, w, **how: convolve_transposed(t, w, **how),
        lambda t, y, g, w, **how: convolve_transposed(g, t, **how),
    ],
)
convolve_weights: Primitive = Primitive(  # the adjoint in w: images x and cotangents g to weights
    "convolve_weights",
    _convolve_weights,
    reverse=[
        lambda c, y, x, g, **how: convolve_transposed(g, c, image=np.shape(x)[1:-1], **how),
        lambda c, y, x, g, **how: convolve(x, c, **how),
    ],
    forward=[
        lambda t, y, x, g, **how: convolve_weights(t, g, **how),
        lambda t, y, x, g, **how: convolve_weights(x, t, **how),
    ],
)
