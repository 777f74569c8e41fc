"""Convolution in groups of channels, as convolutions without groups of a few groups each.

Where groups are small, several are done together, with zeros as the weights between them: products of a few channels
waste more than they save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dbp.types import Array

MIN_CHANNELS = 32  # of the inputs that are done together

Saved = list[Array]


class Bundles:
    """The division of groups into bundles that are done together.

    Args:
        w: weights (*taps, channels of a group, K).
        groups: number of groups.
    """

    def __init__(self, w: Array, groups: int) -> None:
        self.w, self.groups = w, groups
        self.inputs, self.outputs = w.shape[-2], w.shape[-1] // groups
        self.together = max(1, min(groups, MIN_CHANNELS // max(1, self.inputs)))

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Yield the input channels and the output channels of each bundle."""
        for first in range(0, self.groups, self.together):
            last = min(first + self.together, self.groups)
            yield slice(first * self.inputs, last * self.inputs), slice(first * self.outputs, last * self.outputs)

    def kernel(self, outputs: slice) -> Array:
        """Return the weights of a bundle as those of a convolution without groups."""
        own = self.w[..., outputs]
        if self.together == 1:
            return own
        count = own.shape[-1] // self.outputs
        whole = np.zeros((*own.shape[:-2], count * self.inputs, own.shape[-1]), own.dtype)
        for part, mine in self._blocks(whole, own):
            part[...] = mine
        return whole

    def unbundle(self, whole: Array, out: Array) -> None:
        """Copy the weights between channels of the same group to `out`, the inverse of kernel()."""
        for part, mine in self._blocks(whole, out):
            mine[...] = part

    def _blocks(self, whole: Array, own: Array) -> Iterator[tuple[Array, Array]]:
        """Yield views of each group's weights, in the weights of a bundle and in its part of w."""
        for group in range(whole.shape[-2] // self.inputs):
            outputs = slice(group * self.outputs, (group + 1) * self.outputs)
            yield whole[..., group * self.inputs : (group + 1) * self.inputs, outputs], own[..., outputs]


def forward(
    convolve: Callable[..., tuple[Array, Saved]], x: Array, w: Array, b: Array | None, groups: int, **options: Any
) -> tuple[Array, list[Saved]]:
    """Return what the convolution of the package does, and a list of what each bundle saves.

    Args:
        convolve: the forward pass without groups.
        x: images or volumes, channels last.
        w: weights (*taps, C / groups, K).
        b: (K,), or None.
        groups: number of groups.
        options: of the convolution.
    """
    bundles, y, saved = Bundles(w, groups), np.empty(0, x.dtype), []
    for inputs, outputs in bundles:
        bias = None if b is None else b[outputs]
        part, kept = convolve(x[..., inputs], bundles.kernel(outputs), bias, **options)
        if y.ndim == 1:  # the size of the outputs is known now
            y = np.empty((*part.shape[:-1], w.shape[-1]), part.dtype)
        y[..., outputs] = part
        saved.append(kept)
    return y, saved


def backward(
    pull: Callable[..., tuple[Array | None, Array | None, Array | None]],
    g: Array,
    y: Array,
    saved: list[Saved],
    x: Array,
    w: Array,
    groups: int,
    **options: Any,
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the cotangents of x, w and b, each if the options say that it is wanted.

    Args:
        pull: the backward pass without groups.
        g: cotangent of the outputs.
        y: the outputs.
        saved: what forward() saved; may be empty without pooling.
        x: the inputs.
        w: the weights.
        groups: number of groups.
        options: of the convolution, and `wanted`, `weights` and `bias`.
    """
    bundles = Bundles(w, groups)
    dx = np.empty(x.shape, x.dtype) if options["wanted"] else None
    dw = np.empty(w.shape, x.dtype) if options["weights"] else None
    db = np.empty(w.shape[-1], x.dtype) if options["bias"] else None
    for number, (inputs, outputs) in enumerate(bundles):
        kept = saved[number] if saved else []
        parts = g[..., outputs], y[..., outputs], kept, x[..., inputs], bundles.kernel(outputs)
        by_x, by_w, by_b = pull(*parts, **options)
        if dx is not None and by_x is not None:
            dx[..., inputs] = by_x
        if dw is not None and by_w is not None:
            bundles.unbundle(by_w, dw[..., outputs])
        if db is not None and by_b is not None:
            db[outputs] = by_b
    return dx, dw, db
