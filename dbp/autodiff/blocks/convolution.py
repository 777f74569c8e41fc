"""A block for a convolution and what follows it: max_pool(relu(convolve(x, w) + b))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbp.autodiff import fast_convolution
from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.primitives import Window, convolve, max_pool, relu
from dbp.autodiff.primitives.convolution import check_kernel
from dbp.autodiff.primitives.shapes import of_one_type
from dbp.autodiff.primitives.windows import Lengths
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array


def _convolution(
    x: Value, w: Value, b: Value | None, window: Window, groups: int, relu_after: bool, pool: Lengths
) -> Value:
    y = convolve(x, w, window=window, groups=groups)
    y = y if b is None else y + b
    y = relu(y) if relu_after else y
    return max_pool(y, window=Window(pool, pool)) if pool else y


def convolution_forward(
    x: Array,
    w: Array,
    b: Array | None,
    window: Window,
    groups: int,
    relu_after: bool,
    pool: Lengths,
    **options: Any,
) -> tuple[Array, Any]:
    """Return max_pool(relu(convolve(x, w) + b)), and what the backward pass needs.

    The arguments are those of the block; `pool` is empty where pools_at_once() is False. Further options are those of
    the fast convolutions.
    """
    check_kernel(x.shape[-1], w, window, groups)
    positions = window.positions(x.shape[1:-1])
    if pool:
        Window(pool, pool).positions(positions)
    x, w = of_one_type(x, w)
    return fast_convolution.forward(x, w, b, **_options(window, groups, relu_after, pool), **options)


def _convolution_alone(x: Array, w: Array, b: Array | None, **options: Any) -> Array:
    """Return the outputs, and save nothing for a backward pass."""
    return convolution_forward(x, w, b, **options, keep=False)[0]


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
    groups: int,
    relu_after: bool,
    pool: Lengths,
) -> Sequence[Array | None]:
    options = _options(window, groups, relu_after, pool)
    options |= dict(zip(("wanted", "weights", "bias"), wanted, strict=True))
    return fast_convolution.backward(g, y, kept, *of_one_type(x, w), **options)


def _options(window: Window, groups: int, relu_after: bool, pool: Lengths) -> Options:
    """Return the options of the fast convolutions."""
    return {**sliding(window), "groups": groups, "relu": relu_after, "pool": pool[-1] if pool else 0}


def sliding(window: Window) -> Options:
    """Return how a window slides, as options of the fast convolutions."""
    return {"stride": window.stride, "padding": window.padding, "dilation": window.dilation}


def pools_at_once(x: Value, w: Value, window: Window, groups: int, pool: Lengths) -> bool:
    """Return True if a max pooling, with windows of these lengths, is done with the convolution."""
    return fast_convolution.fuses_pool(np.shape(x), np.shape(w), sliding(window), groups, pool)


_block = Block(
    "convolution_block",
    _convolution,
    convolution_forward,
    _convolution_backward,
    value_alone=_convolution_alone,
    new_cotangents=True,
)


def convolution_block(
    x: Value,
    w: Value,
    b: Value | None,
    window: Window,
    groups: int = 1,
    relu_after: bool = False,
    pool: Lengths = (),
) -> Value:
    """Return max_pool(relu(convolve(x, w) + b)); bias, ReLU and pooling are optional.

    Args:
        x: images (examples, height, width, channels), or volumes (examples, depth, height, width, channels).
        w: weights (*size, channels / groups, outputs).
        b: (outputs,), or None.
        window: of the convolution.
        groups: the channels are split into so many groups.
        relu_after: whether to apply ReLU.
        pool: lengths of the windows of a max pooling side by side; none without it.
    """
    fused = not pool or pools_at_once(x, w, window, groups, pool)
    convolution = _block if len(window.size) > 1 else _convolution  # along one axis; sequences are images of height 1
    y = convolution(x, w, b, window=window, groups=groups, relu_after=relu_after, pool=pool if fused else ())
    return y if fused else max_pool(y, window=Window(pool, pool))
