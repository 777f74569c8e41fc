"""Fast 2-D and 3-D convolution fused with bias, ReLU and max pooling, in NumPy: forward and backward pass.

Arrays are channels last: images (N, H, W, C), weights (kh, kw, C, K). `winograd` does 3x3 kernels with enough channels,
`columns` all others. Volumes (N, D, H, W, C) with weights (kd, kh, kw, C, K) become images in `volumes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.autodiff.fast_convolution import columns, epilogue, winograd
from dbp.autodiff.fast_convolution.columns import Padding, Pair
from dbp.types import Array

Saved = list[Array]

MAX_POOL = epilogue.MAX_POOL
VOLUME_AXES = 5  # of the weights of volumes
MIN_CHANNELS = 16  # of the input; with fewer, the small products of the transforms are slow
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
    grid = winograd.Grid.of(x, w, padding)
    pixels, tiles = grid.images * grid.out_height * grid.out_width, grid.images * grid.down * grid.across
    return tiles >= MIN_TILES and 2 * pixels >= winograd.OUT**2 * tiles  # at least half of the tiles' outputs are used


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
) -> tuple[Array, Saved]:
    """Return y = pool(relu(convolution(x, w) + b)), as cross-correlation, and arrays to save for backward().

    `stride` and `dilation` have a number for each axis, `padding` a pair, ((top, bottom), (left, right)); `pool` is 0
    or the size and stride of a max pooling, which drops an incomplete last window, and 0 for volumes. `winograd` has a
    rounding error of about four times that of `columns`.
    """
    if w.ndim == VOLUME_AXES:
        from dbp.autodiff.fast_convolution import volumes  # which few models need

        return volumes.forward(forward, x, w, b, stride=stride, padding=padding, dilation=dilation, relu=relu)
    if pool > epilogue.MAX_POOL:
        raise ValueError(f"pool must be at most {epilogue.MAX_POOL}, got {pool}: pool apart from the convolution")
    if _by_winograd(x, w, stride, padding, dilation, pool):
        return winograd.forward(x, w, b, padding=padding, relu=relu, pool=pool)
    return columns.forward(x, w, b, stride=stride, padding=padding, dilation=dilation, relu=relu, pool=pool)


def backward(
    g: Array,
    y: Array,
    saved: Saved,
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
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the cotangents of x (None unless wanted), w (None unless its weights are wanted), and b (likewise).

    The first of equal maxima, row by row, gets the cotangent.
    """
    if w.ndim == VOLUME_AXES:
        from dbp.autodiff.fast_convolution import volumes

        options = {"stride": stride, "padding": padding, "dilation": dilation, "relu": relu}
        return volumes.backward(backward, g, y, x, w, **options, wanted=wanted, bias=bias, weights=weights)
    same: dict[str, Any] = {"padding": padding, "relu": relu, "pool": pool, "wanted": wanted, "weights": weights}
    if _by_winograd(x, w, stride, padding, dilation, pool):
        dx, dw, db = winograd.backward(g, y, saved, x, w, **same)
    else:
        dx, dw, db = columns.backward(g, y, saved, x, w, stride=stride, dilation=dilation, **same)
    return dx, dw if weights else None, db if bias else None
