"""Fast 2-D and 3-D convolution fused with bias, ReLU and max pooling, in NumPy: forward and backward pass.

Arrays are channels last: images (N, H, W, C), weights (kh, kw, C, K). `winograd` does 3x3 kernels with enough channels,
`sequences` does images of height 1, with `filtering` where it pays, `columns` all others. Volumes (N, D, H, W, C) with
weights (kd, kh, kw, C, K) become images in `volumes`. With groups, weights are (*size, C / groups, K): `depthwise` does
groups of one channel, `grouped` all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dbp.autodiff.fast_convolution import columns, epilogue, sequences, winograd, winograd_tiles
from dbp.autodiff.fast_convolution.columns import Padding, Pair
from dbp.types import Array

Lengths = tuple[int, ...]

MAX_POOL = epilogue.MAX_POOL
IMAGE_AXES = 2  # that a window slides along
VOLUME_AXES = 5  # of the weights of volumes
MIN_CHANNELS = 16  # of the input; with fewer, the small products of the transforms are slow
MIN_USED = 0.5  # of the outputs of tiles
MIN_TILES = 64  # with fewer, transforming the weights takes longer than the products it saves


def _by_winograd(x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, pool: int) -> bool:
    """Return True if Winograd's method applies and pays. It is for float32, whose rounding error it multiplies."""
    if not (
        x.dtype == w.dtype == np.float32
        and w.shape[:2] == (3, 3)
        and stride == dilation == (1, 1)
        and pool in (0, 2)
        and w.shape[2] >= MIN_CHANNELS
    ):
        return False
    grid = winograd_tiles.Grid.of(x, w, padding)
    pixels, tiles = grid.images * grid.out_height * grid.out_width, grid.images * grid.down * grid.across
    used = pixels / max(1, winograd_tiles.OUT**2 * tiles)  # of the tiles' outputs
    return tiles >= MIN_TILES and used >= MIN_USED


def fuses_pool(x: Lengths, w: Lengths, window: dict[str, Any], groups: int, pool: Lengths) -> bool:
    """Return True if a max pooling, side by side with windows of these lengths, is done with the convolution.

    Args:
        x: shape of the images or volumes.
        w: shape of the weights.
        window: stride, padding and dilation.
        groups: of the channels.
        pool: lengths of the pooling's windows.
    """
    if len(pool) != IMAGE_AXES or max(pool) > MAX_POOL or is_depthwise(w, groups):
        return False
    return pool[0] == pool[1] or (pool[0] == 1 and sequences.fits(x, w, **window, pool=pool[1]))


def is_depthwise(w: Lengths, groups: int) -> bool:
    """Return True if each group has one channel; one group alone is done as any other convolution."""
    return groups > 1 and w[-2] == 1


def forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    relu: bool,
    pool: int,
    groups: int = 1,
    keep: bool = True,
    added: Array | None = None,
    transformed: Callable[[], Array] | None = None,
) -> tuple[Array, Any]:
    """Return y = pool(relu(convolution(x, w) + b + added)), as cross-correlation, and arrays to save for backward().

    `stride` and `dilation` have a number for each axis, `padding` a pair, ((top, bottom), (left, right)); `pool` is 0
    or the size and stride of a max pooling, which drops an incomplete last window and does not go along a height of 1;
    it is 0 where fuses_pool() is False. Unless `keep`, there is no backward pass, so that nothing is saved where that
    takes time. `added` has the shape of the outputs; it is None with a pooling. `transformed` returns what `winograd`
    makes of the weights first; None to make it. `winograd` has a rounding error of about four times that of `columns`.
    """
    window: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    is_plain = groups == 1 and w.ndim < VOLUME_AXES and not sequences.fits(x.shape, w.shape, **window)
    if added is not None and not is_plain:
        y, saved = forward(x, w, b, **window, relu=False, pool=pool, groups=groups, keep=keep)
        epilogue.Activation(None, relu).apply(y, added)
        return y, saved
    if is_depthwise(w.shape, groups):
        from dbp.autodiff.fast_convolution import depthwise  # as few models need it, grouped and volumes

        return depthwise.forward(x, w, b, **window, relu=relu), []
    if groups > 1:
        from dbp.autodiff.fast_convolution import grouped

        return grouped.forward(forward, x, w, b, groups, **window, relu=relu, pool=pool, keep=keep)
    if w.ndim == VOLUME_AXES:
        from dbp.autodiff.fast_convolution import volumes

        return volumes.forward(forward, x, w, b, **window, relu=relu)
    if pool > epilogue.MAX_POOL:
        raise ValueError(f"pool must be at most {epilogue.MAX_POOL}, got {pool}: pool apart from the convolution")
    if not is_plain:
        return sequences.forward(x, w, b, **window, relu=relu, pool=pool, keep=keep)
    options: dict[str, Any] = {"relu": relu, "pool": pool, "keep": keep, "added": added}
    if _by_winograd(x, w, stride, padding, dilation, pool):
        return winograd.forward(x, w, b, padding=padding, **options, transformed=transformed)
    return columns.forward(x, w, b, **window, **options)


def backward(
    g: Array,
    y: Array,
    saved: Any,
    x: Array,
    w: Array,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    relu: bool,
    pool: int,
    wanted: bool,
    bias: bool,
    weights: bool = True,
    groups: int = 1,
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the cotangents of x (None unless wanted), w (None unless its weights are wanted), and b (likewise).

    The first of equal maxima, row by row, gets the cotangent.
    """
    window: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    which: dict[str, Any] = {"wanted": wanted, "weights": weights}
    if is_depthwise(w.shape, groups):
        from dbp.autodiff.fast_convolution import depthwise

        return depthwise.backward(g, y, x, w, **window, relu=relu, **which, bias=bias)
    if groups > 1:
        from dbp.autodiff.fast_convolution import grouped

        options = window | which | {"relu": relu, "pool": pool, "bias": bias}
        return grouped.backward(backward, g, y, saved, x, w, groups, **options)
    if w.ndim == VOLUME_AXES:
        from dbp.autodiff.fast_convolution import volumes

        return volumes.backward(backward, g, y, x, w, **window, relu=relu, **which, bias=bias)
    same: dict[str, Any] = {"relu": relu, "pool": pool, **which, "bias": bias}
    if sequences.fits(x.shape, w.shape, **window):
        dx, dw, db = sequences.backward(g, y, saved, x, w, **window, **same)
    elif _by_winograd(x, w, stride, padding, dilation, pool):
        dx, dw, db = winograd.backward(g, y, saved, x, w, padding=padding, **same)
    else:
        dx, dw, db = columns.backward(g, y, saved, x, w, **window, **same)
    return dx, dw if weights else None, db if bias else None
