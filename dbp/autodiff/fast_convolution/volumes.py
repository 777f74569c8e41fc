"""3-D convolution as 2-D convolution: the planes under a kernel become the channels of one image.

The output plane at one depth is the sum, over the taps along the depth, of 2-D convolutions of the input planes under
them. So those planes, laid side by side as channels of one image, meet a 2-D kernel with as many times the channels.
A few volumes, or a band of planes of one, are folded at a time, so that the images stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dbp.types import Array

Lengths = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]

FOLDED_BYTES = 1 << 22  # of the images that are folded at a time


class Folding:
    """The map from volumes (examples, depth, height, width, C) to images (planes, height, width, taps * C)."""

    def __init__(self, x: Array, w: Array, stride: Lengths, padding: Padding, dilation: Lengths) -> None:
        (self.before, self.after), self.step, self.distance = padding[0], stride[0], dilation[0]
        self.taps, self.depth, self.plane = w.shape[0], x.shape[1], x.shape[2:]
        self.count = (self.depth + self.before + self.after - self.distance * (self.taps - 1) - 1) // self.step + 1
        self.options: dict[str, Any] = {"stride": stride[1:], "padding": padding[1:], "dilation": dilation[1:]}
        self.together = max(1, FOLDED_BYTES // max(1, self.taps * math.prod(self.plane) * x.itemsize))  # planes

    def groups(self, examples: int) -> Iterator[tuple[slice, slice]]:
        """Yield the volumes and the output planes that are folded at once; without examples, all planes of none."""
        volumes, planes = max(1, self.together // self.count), min(self.together, self.count)
        for example in range(0, max(1, examples), volumes):
            for plane in range(0, self.count, planes):
                band = slice(plane, min(plane + planes, self.count))
                yield slice(example, min(example + volumes, examples)), band

    def kernel(self, w: Array) -> Array:
        """Return the weights (taps, kh, kw, C, K) as those of a 2-D convolution (kh, kw, taps * C, K)."""
        _, high, wide, channels, outputs = w.shape
        return np.ascontiguousarray(w.transpose(1, 2, 0, 3, 4)).reshape(high, wide, self.taps * channels, outputs)

    def unfolded_kernel(self, w: Array, channels: int) -> Array:
        """Return the weights of a 2-D convolution as those of the volumes, which is the inverse of kernel()."""
        high, wide, _, outputs = w.shape
        return np.ascontiguousarray(w.reshape(high, wide, self.taps, channels, outputs).transpose(2, 0, 1, 3, 4))

    def _planes(self, band: slice) -> Iterator[tuple[slice, slice]]:
        """Yield for each tap the planes of a band at which it lies inside the volume, and the input planes under it."""
        for tap in range(self.taps):
            shift = tap * self.distance - self.before
            first = max(band.start, -(shift // self.step))
            last = max(first, min(band.stop, -((shift - self.depth) // self.step)))
            begin = first * self.step + shift
            to = slice(first - band.start, last - band.start)
            yield to, slice(begin, begin + (last - first) * self.step, self.step)

    def fold(self, x: Array, band: slice) -> Array:
        """Return the images for a band of the output planes of some volumes, with zeros for planes of the padding."""
        height, width, channels = self.plane
        planes = band.stop - band.start
        images = np.zeros((len(x), planes, height, width, self.taps, channels), x.dtype)
        for tap, (to, of) in enumerate(self._planes(band)):
            images[:, to, :, :, tap] = x[:, of]
        return images.reshape(len(x) * planes, height, width, self.taps * channels)

    def unfold(self, images: Array, out: Array, band: slice) -> None:
        """Add to `out`, some volumes, what the images of a band have for each plane: the adjoint of fold()."""
        height, width, channels = self.plane
        parts = images.reshape(len(out), band.stop - band.start, height, width, self.taps, channels)
        for tap, (to, of) in enumerate(self._planes(band)):
            out[:, of] += parts[:, to, :, :, tap]


def forward(
    convolve: Callable[..., tuple[Array, list[Array]]],
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Lengths,
    padding: Padding,
    dilation: Lengths,
    relu: bool,
) -> tuple[Array, list[Array]]:
    """Return relu(convolution(x, w) + b) of volumes; nothing is saved for backward().

    Args:
        convolve: the forward pass of the 2-D convolution.
        x: volumes (examples, depth, height, width, C).
        w: weights (kd, kh, kw, C, K).
        b: (K,), or None.
        stride: steps of the window along depth, height and width.
        padding: zeros at both ends of each axis.
        dilation: distances between taps.
        relu: whether to apply ReLU.
    """
    folding = Folding(x, w, stride, padding, dilation)
    kernel, y = folding.kernel(w), np.empty(0, x.dtype)
    for group, band in folding.groups(len(x)):
        part, _ = convolve(folding.fold(x[group], band), kernel, b, **folding.options, relu=relu, pool=0)
        if y.ndim == 1:  # the size of the outputs is known now
            y = np.empty((len(x), folding.count, *part.shape[1:]), part.dtype)
        y[group, band] = part.reshape(y[group, band].shape)
    return y, []


def backward(
    pull: Callable[..., tuple[Array | None, Array | None, Array | None]],
    g: Array,
    y: Array,
    x: Array,
    w: Array,
    *,
    stride: Lengths,
    padding: Padding,
    dilation: Lengths,
    relu: bool,
    wanted: bool,
    bias: bool,
    weights: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the cotangents of x (None unless wanted), w (None unless its weights are wanted), and b (likewise).

    Args:
        pull: the backward pass of the 2-D convolution.
        g: cotangent of the outputs.
        y: the outputs.
        x: the volumes.
        w: the weights.
        stride: steps of the window.
        padding: zeros at both ends of each axis.
        dilation: distances between taps.
        relu: whether ReLU was applied.
        wanted: whether the cotangent of x is wanted.
        bias: whether there is a bias.
        weights: whether the cotangent of w is wanted.
    """
    folding = Folding(x, w, stride, padding, dilation)
    kernel = folding.kernel(w)
    dx = np.zeros(x.shape, x.dtype) if wanted else None
    dw, db = np.zeros_like(kernel), np.zeros(w.shape[-1], x.dtype) if bias else None
    for group, band in folding.groups(len(x)):
        images = folding.fold(x[group], band)
        planes = [part[group, band].reshape(len(images), *part.shape[2:]) for part in (g, y)]
        d_images, d_kernel, d_bias = pull(
            *planes, [], images, kernel, **folding.options, relu=relu, pool=0, wanted=wanted, bias=bias, weights=weights
        )
        if d_kernel is not None:
            dw += d_kernel
        if db is not None and d_bias is not None:
            db += d_bias
        if dx is not None and d_images is not None:
            folding.unfold(d_images, dx[group], band)
    return dx, folding.unfolded_kernel(dw, x.shape[-1]) if weights else None, db
