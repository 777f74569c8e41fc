"""A block for a convolution and what follows it: max_pool(relu(convolve(x, w) + b))."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from dbp.autodiff import fast_convolution
from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.primitives import Window, convolve, max_pool, relu
from dbp.autodiff.primitives.convolution import check_kernel
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array


def _convolution(
    x: Value, w: Value, b: Value | None, window: Window, groups: int = 1, relu_after: bool = False, pool: int = 0
) -> Value:
    y = convolve(x, w, window=window, groups=groups)
    y = y if b is None else y + b
    y = relu(y) if relu_after else y
    return max_pool(y, window=Window((pool, pool), (pool, pool))) if pool else y


def _convolution_forward(
    x: Array, w: Array, b: Array | None, window: Window, relu_after: bool, pool: int
) -> tuple[Array, Any]:
    check_kernel(x.shape[-1], w, window)
    positions = window.positions(x.shape[1:-1])
    if pool:
        Window((pool, pool), (pool, pool)).positions(positions)
    x, w = _same_dtype(x, w)
    return fast_convolution.forward(x, w, b, **_window_options(window), relu=relu_after, pool=pool)


def _same_dtype(x: Array, w: Array) -> tuple[Array, Array]:
    """Return both in the larger dtype, as the fast convolutions require."""
    dtype = np.result_type(x, w)
    return x.astype(dtype, copy=False), w.astype(dtype, copy=False)


def _convolution_backward(
    g: Array,
    y: Array,
    kept: Any,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    x: Array,
    w: Array,
    _b: Array | None,
    window: Window,
    relu_after: bool,
    pool: int,
) -> Sequence[Array | None]:
    options = _window_options(window) | {"relu": relu_after, "pool": pool}
    options |= dict(zip(("wanted", "weights", "bias"), wanted, strict=True))
    return fast_convolution.backward(g, y, kept, *_same_dtype(x, w), **options)


def _window_options(window: Window) -> Options:
    return {"stride": window.stride, "padding": window.padding, "dilation": window.dilation}


_one_group = Block("convolution_block", _convolution, _convolution_forward, _convolution_backward)


def convolution_block(
    x: Value, w: Value, b: Value | None, window: Window, groups: int = 1, relu_after: bool = False, pool: int = 0
) -> Value:
    """Return max_pool(relu(convolve(x, w) + b)); bias, ReLU and pooling are optional.

    Args:
        x: images (examples, height, width, channels), or volumes (examples, depth, height, width, channels).
        w: weights (*size, channels / groups, outputs).
        b: (outputs,), or None.
        window: of the convolution.
        groups: the channels are split into so many groups.
        relu_after: whether to apply ReLU.
        pool: size and stride of the max pooling of images, 0 for none and for volumes.
    """
    block = (
        _one_group
        if groups == 1 and pool <= fast_convolution.MAX_POOL and len(window.size) > 1
        else functools.partial(_convolution, groups=groups)
    )
    return block(x, w, b, window=window, relu_after=relu_after, pool=pool)
