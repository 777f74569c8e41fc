"""A convolution whose weights are the same in many calls, of which nothing is differentiated, as in inference."""

from __future__ import annotations

from functools import cached_property

from dbp.autodiff.blocks.convolution import convolution_forward, pools_at_once
from dbp.autodiff.fast_convolution.winograd import transformed_weights
from dbp.autodiff.primitives import Window, max_pool
from dbp.autodiff.primitives.windows import Lengths
from dbp.autodiff.tensor import ShapeError, array_of
from dbp.types import Array


class ConstantConvolution:
    """Weights and bias of a convolution, which must not change; those that Winograd's method transforms, it does once.

    Args:
        w: weights (*size, channels / groups, outputs).
        b: (outputs,), or None.
    """

    def __init__(self, w: Array, b: Array | None):
        self._w, self._b = w, b

    @cached_property
    def _transformed(self) -> Array:
        return transformed_weights(self._w)

    def __call__(
        self,
        x: Array,
        window: Window,
        groups: int = 1,
        relu_after: bool = False,
        pool: Lengths = (),
        added: Array | None = None,
    ) -> Array:
        """Return max_pool(relu(convolve(x, w) + b + added)), as convolution_block() does.

        Args:
            x: images or volumes.
            window: of the convolution.
            groups: the channels are split into so many groups.
            relu_after: whether to apply ReLU.
            pool: lengths of the windows of a max pooling side by side; none without it.
            added: an array of the outputs' shape; None for none, as with a pooling.

        Raises:
            ShapeError: it has another shape.
        """
        shape = len(x), *window.positions(x.shape[1:-1]), self._w.shape[-1]
        if added is not None and added.shape != shape:
            raise ShapeError(f"returns {shape[1:]} per example, but what is added to it has shape {added.shape[1:]}")
        fused = not pool or pools_at_once(x, self._w, window, groups, pool)
        y, _ = convolution_forward(
            x,
            self._w,
            self._b,
            window,
            groups,
            relu_after,
            pool if fused else (),
            keep=False,
            added=added,
            transformed=lambda: self._transformed,
        )
        return y if fused else array_of(max_pool(y, window=Window(pool, pool)))
