"""Fast 2-D convolution with bias, ReLU and max pooling in one call, in NumPy: the value and its reverse.

Arrays are channels last: images (N, H, W, C), weights (kh, kw, C, K). `winograd` does 3x3 kernels with enough channels,
`columns` all others.
"""

from __future__ import annotations

import numpy as np

from dbp.autodiff.kernels import columns, winograd
from dbp.autodiff.kernels.columns import Padding, Pair
from dbp.autodiff.kernels.scratch import Array

Saved = list[Array]

LEAST_CHANNELS = 16  # in and out: with fewer, the transforms take longer than the products they save


def _by_winograd(x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, pool: int) -> bool:
    """Whether Winograd's method applies and pays: it is one for float32, whose rounding it multiplies."""
    small = min(size + sum(pad) - 2 for size, pad in zip(x.shape[1:3], padding, strict=True)) < winograd.OUT
    return (
        x.dtype == w.dtype == np.float32
        and w.shape[:2] == (3, 3)
        and stride == dilation == (1, 1)
        and pool in (0, 2)
        and min(w.shape[2:]) >= LEAST_CHANNELS
        and not small
    )


def forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    relu: bool,
    pool: int,
) -> tuple[Array, Saved]:
    """Compute y = pool(relu(convolution(x, w) + b)), as cross-correlation, and what its reverse needs besides x, y, w.

    `padding` is ((top, bottom), (left, right)), `pool` 0 or the size and stride of a max pooling, without odd rests.
    The largest error over the largest value, against float64, is 0.4e-6 by columns and 1.4e-6 by Winograd.
    """
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
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    relu: bool,
    pool: int,
    wanted: bool,
    bias: bool,
) -> tuple[Array | None, Array, Array | None]:
    """Compute the cotangents of x (None unless wanted), w, and b (None without bias).

    Of equal maxima the first, row by row, gets the cotangent.
    """
    if _by_winograd(x, w, stride, padding, dilation, pool):
        dx, dw, db = winograd.backward(g, y, saved, x, w, padding=padding, relu=relu, pool=pool, wanted=wanted)
    else:
        dx, dw, db = columns.backward(
            g, y, saved, x, w, stride=stride, padding=padding, dilation=dilation, relu=relu, pool=pool, wanted=wanted
        )
    return dx, dw, db if bias else None
