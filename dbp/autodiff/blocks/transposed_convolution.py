"""A block for a transposed convolution with its bias: convolve_transposed(x, w) + b, the adjoint of a convolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.autodiff import fast_convolution
from dbp.autodiff.blocks.block import Block, Options
from dbp.autodiff.blocks.convolution import sliding
from dbp.autodiff.fast_convolution.epilogue import Activation
from dbp.autodiff.primitives import Window, convolve_transposed
from dbp.autodiff.primitives.convolution import check_transposed
from dbp.autodiff.primitives.shapes import of_one_type
from dbp.autodiff.primitives.windows import Lengths
from dbp.autodiff.products import column_sum
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array


def _transposed(x: Value, w: Value, b: Value | None, window: Window, image: Lengths, groups: int) -> Value:
    y = convolve_transposed(x, w, window=window, image=image, groups=groups)
    return y if b is None else y + b


def _transposed_forward(
    x: Array, w: Array, b: Array | None, window: Window, image: Lengths, groups: int
) -> tuple[Array, None]:
    check_transposed(x, w, window, image, groups)
    x, w = of_one_type(x, w)
    shape = len(x), *image, w.shape[-2] * groups
    images = np.broadcast_to(np.zeros((), x.dtype), shape)  # of which no element is read
    options = _options(window, groups) | {"wanted": True, "weights": False, "bias": False}
    y, _, _ = fast_convolution.backward(x, x, [], images, w, **options)
    assert y is not None
    if b is not None:
        Activation(b, relu=False).apply(y)
    return y, None


def _transposed_backward(
    g: Array,
    _y: Array,
    _kept: None,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    x: Array,
    w: Array,
    _b: Array | None,
    window: Window,
    image: Lengths,  # noqa: ARG001
    groups: int,
) -> Sequence[Array | None]:
    options, which = _options(window, groups), {"wanted": False, "weights": True, "bias": False}
    x, w = x.astype(g.dtype, copy=False), w.astype(g.dtype, copy=False)
    by_x = fast_convolution.forward(g, w, None, **options)[0] if wanted[0] else None
    by_w = fast_convolution.backward(x, x, [], g, w, **options, **which)[1] if wanted[1] else None
    by_b = column_sum(g.reshape(-1, g.shape[-1])) if wanted[2] else None
    return by_x, by_w, by_b


def _options(window: Window, groups: int) -> Options:
    return {**sliding(window), "groups": groups, "relu": False, "pool": 0}


_block = Block("transposed_convolution_block", _transposed, _transposed_forward, _transposed_backward)


def transposed_convolution_block(
    x: Value, w: Value, b: Value | None, window: Window, image: Lengths, groups: int = 1
) -> Value:
    """Return convolve_transposed(x, w) + b.

    Args:
        x: images (examples, *positions, channels), along two axes or three.
        w: weights (*size, outputs / groups, channels).
        b: (outputs,), or None.
        window: of the convolution whose adjoint it is.
        image: lengths of the outputs.
        groups: the channels are split into so many groups.
    """
    return _block(x, w, b, window=window, image=image, groups=groups)
