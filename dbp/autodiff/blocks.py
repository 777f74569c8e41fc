"""Blocks: compositions of primitives, fused into one node of the graph with fewer passes over memory.

The specification of a block is the composition itself. On plain arrays a fused version of value and derivative runs in
its place. When the derivative is to be differentiated again, the block records its specification instead.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dbp.autodiff import kernels
from dbp.autodiff.primitives import (
    Window,
    convolve,
    log_softmax,
    max_pool,
    mean,
    pick,
    relu,
    reshape,
    sqrt,
    square,
    sum_,
)
from dbp.autodiff.primitives.convolution import check_kernel
from dbp.autodiff.primitives.shapes import keepdims_shape, rows_of, unbroadcast
from dbp.autodiff.recompute import Recomputed
from dbp.autodiff.tensor import PRIMITIVES, OutputSlot, Tensor, Value, new_node
from dbp.types import Array

Options = dict[str, Any]
PIECE = 1 << 18  # elements of a gradient computed in one matrix product; fewer would cost speed
TILE = 64  # rows of a piece are a multiple of it, as matrix products work on tiles of rows


class Block(Recomputed):
    """A fused primitive: a specification, and the forward and backward pass of its fast version.

    Args:
        name: of the primitive.
        specification: (*inputs, **options) -> output, composed of primitives.
        forward: (*arrays, **options) -> output, and anything to keep for backward.
        backward: (g, output, kept, wanted, slots, *arrays, **options) -> cotangents of the inputs, None where not
            wanted. Where slots holds an OutputSlot for an input, the cotangent may be written there.
        tangent: (tangents, output, *arrays, **options) -> tangent of the output; by default that of the specification.
    """

    takes_output_slots = True

    def __init__(
        self,
        name: str,
        specification: Callable[..., Value],
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[..., Sequence[Value | None]],
        tangent: Callable[..., Value] | None = None,
    ):
        super().__init__(specification)
        self.name, self.value, self._backward, self._tangent = name, forward, backward, tangent
        PRIMITIVES[name] = self

    def __call__(self, *inputs: Value, **options: Any) -> Any:
        """Return the output on plain arrays; a node of the graph if a tensor is among the inputs."""
        arrays = [x.value if type(x) is Tensor else x for x in inputs]
        output, kept = self._compute(arrays, options)
        for x in inputs:
            if type(x) is Tensor:
                return new_node(output, self, inputs, {"kept": kept, "own": options}, options)
        return output

    def record_again(self, inputs: Sequence[Value], options: Options) -> Value:
        """Return the output of the specification, recorded from new leaves in place of the tensors among the inputs."""
        return super().record_again(inputs, options["own"])

    def pull(
        self, g: Value, y: Value, inputs: Sequence[Value], options: Options, wanted: Sequence[bool]
    ) -> list[Value]:
        """Return the cotangents of the wanted inputs, None for the others."""
        own = options["own"]
        if type(g) is Tensor or any(type(x) is Tensor for x in inputs):
            return super().pull(g, y, inputs, own, wanted)
        slots = options.get("slots") or [None] * len(inputs)
        return list(self._backward(g, y, options["kept"], wanted, slots, *inputs, **own))

    def push(
        self, tangents: Sequence[Value | None], y: Value, inputs: Sequence[Value], options: Options
    ) -> Value | None:
        """Return the output's tangent."""
        if self._tangent is None or any(type(x) is Tensor for x in (*tangents, *inputs)):
            return super().push(tangents, y, inputs, options["own"])
        return self._tangent(tangents, y, *inputs, **options["own"])


# --- dense: activation(x w + b) ---------------------------------------------------------------------


def _dense(x: Value, w: Value, b: Value | None, relu_after: bool) -> Value:
    z = rows_of(x) @ w
    z = z if b is None else z + b
    z = relu(z) if relu_after else z
    return reshape(z, shape=(*np.shape(x)[:-1], np.shape(w)[1]))


def _dense_forward(x: Array, w: Array, b: Array | None, relu_after: bool) -> tuple[Array, None]:
    y = np.matmul(rows_of(x), w)
    if b is not None:
        y += b
    if relu_after:
        np.maximum(y, 0, out=y)
    return y.reshape(*x.shape[:-1], w.shape[1]), None


def _dense_backward(
    g: Array,
    y: Array,
    _kept: None,
    wanted: Sequence[bool],
    slots: Sequence[OutputSlot | None],
    x: Array,
    w: Array,
    _b: Array | None,
    relu_after: bool,
) -> Sequence[Array | None]:
    if relu_after:
        g = g * (y > 0)
    gz = rows_of(g)
    by_b = _bias_gradient(gz, slots[2]) if wanted[2] else None
    by_w = _weight_gradient(rows_of(x), gz, slots[1]) if wanted[1] else None
    return np.matmul(gz, w.T).reshape(x.shape) if wanted[0] else None, by_w, by_b


def _bias_gradient(gz: Array, slot: OutputSlot | None) -> Array:
    """Return the sum of gz over its rows."""
    found: Array = np.add.reduce(gz, axis=0, out=slot and slot.array)
    if slot is not None:
        slot.on_ready(0)
    return found


def _weight_gradient(x: Array, gz: Array, slot: OutputSlot | None) -> Array:
    """Return x^T gz, computed from its last rows to its first: the last can be sent while the others are computed."""
    array, on_ready = slot or OutputSlot(np.empty((x.shape[1], gz.shape[1]), np.result_type(x, gz)), lambda start: None)
    rows = max(1, -(-PIECE // (gz.shape[1] * TILE))) * TILE
    for start in reversed(range(0, x.shape[1], rows)):
        np.matmul(x[:, start : start + rows].T, gz, out=array[start : start + rows])
        if start:
            on_ready(start * gz.shape[1])
    return array


def _dense_tangent(
    tangents: Sequence[Array | None], y: Array, x: Array, w: Array, _b: Array | None, relu_after: bool
) -> Array:
    """Return the tangent of the output for the tangents of x, w and b, None for one that has none."""
    (tx, tw, tb), rows = tangents, rows_of(y)
    t: Array = np.zeros_like(rows) if tx is None else np.matmul(rows_of(tx), w)
    if tw is not None:
        t += np.matmul(rows_of(x), tw)
    if tb is not None:
        t += tb
    if relu_after:
        t *= rows > 0
    return t.reshape(y.shape)


dense_block = Block("dense_block", _dense, _dense_forward, _dense_backward, _dense_tangent)
dense_block.separable = True

# --- cross-entropy: -log_softmax(z)[target] ---------------------------------------------------------


def _cross_entropy(z: Value, targets: Array) -> Value:
    losses = -pick(log_softmax(rows_of(z)), index=targets.reshape(-1))
    return reshape(losses, shape=targets.shape)


def _cross_entropy_forward(z: Array, targets: Array) -> tuple[Array, Array]:
    logarithms = log_softmax.value(rows_of(z))
    losses = logarithms[np.arange(len(logarithms)), targets.reshape(-1)]
    return np.negative(losses, out=losses).reshape(targets.shape), logarithms


def _cross_entropy_backward(
    g: Array,
    _y: Array,
    logarithms: Array,
    _wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    z: Array,
    targets: Array,
) -> Sequence[Array | None]:
    """Return g (softmax(z) - 1 at the target)."""
    slope = np.exp(logarithms)
    slope[np.arange(len(slope)), targets.reshape(-1)] -= 1
    slope *= g.reshape(-1, 1)
    return [slope.reshape(z.shape)]


cross_entropy_block = Block("cross_entropy_block", _cross_entropy, _cross_entropy_forward, _cross_entropy_backward)

# --- normalization: (x - mean) / sqrt(variance + epsilon) scale + shift -------------------------------


def _total(x: Value, axes: tuple[int, ...], weights: Array | None) -> Any:
    """Return what the elements over some axes count together; those axes of weights stay at length one."""
    if weights is None:
        return max(1, math.prod(np.shape(x)[axis] for axis in axes))
    return np.add.reduce(weights, axis=axes, keepdims=True)


def moments_of(x: Array, axes: tuple[int, ...], weights: Array | None = None) -> tuple[Array, Array]:
    """Return mean and variance over some axes, which stay at length one.

    Args:
        x: the elements.
        axes: to take the moments over.
        weights: how much each element counts, with the length of x along these axes, else 1; by default all the same.
    """
    total = _total(x, axes, weights)
    center = np.add.reduce(x if weights is None else x * weights, axis=axes, keepdims=True) / total
    distance = x - center
    squares = np.multiply(distance, distance, out=distance)
    if weights is not None:
        squares *= weights
    return center, np.add.reduce(squares, axis=axes, keepdims=True) / total


def _normalize(
    x: Value,
    scale: Value,
    shift: Value,
    axes: tuple[int, ...],
    epsilon: float,
    weights: Array | None = None,
    moments: Any = None,  # noqa: ARG001
) -> Value:
    shape = keepdims_shape(x, axes)

    def mean_of(values: Value) -> Value:
        if weights is None:
            return mean(values, axis=axes)
        return sum_(values * (weights / _total(x, axes, weights)), axis=axes)

    distance = x - reshape(mean_of(x), shape=shape)
    deviation = reshape(sqrt(mean_of(square(distance)) + epsilon), shape=shape)
    return distance / deviation * scale + shift


def _normalize_forward(
    x: Array,
    scale: Array,
    shift: Array,
    axes: tuple[int, ...],
    epsilon: float,
    weights: Array | None = None,
    moments: Any = None,
) -> tuple[Array, Any]:
    center, variance = moments or moments_of(x, axes, weights)
    inverse = 1 / np.sqrt(variance + epsilon)
    y = x - center
    y *= inverse
    y *= scale
    y += shift
    return y, (center, inverse)


def _normalize_backward(
    g: Array,
    _y: Array,
    kept: Any,
    wanted: Sequence[bool],
    _slots: Sequence[OutputSlot | None],
    x: Array,
    scale: Array,
    shift: Array,
    axes: tuple[int, ...],
    epsilon: float,  # noqa: ARG001
    weights: Array | None = None,
    moments: Any = None,  # noqa: ARG001
) -> Sequence[Array | None]:
    """Return the gradients of Ioffe and Szegedy 2015, section 3; the normalized x is computed again, not kept."""
    center, inverse = kept
    normal = x - center
    normal *= inverse
    product = g * normal
    by_scale = unbroadcast(product, scale) if wanted[1] else None
    by_shift = unbroadcast(g, shift) if wanted[2] else None
    if not wanted[0]:
        return None, by_scale, by_shift
    total = _total(x, axes, weights)
    product *= scale
    normal *= np.add.reduce(product, axis=axes, keepdims=True) / -total
    by_x = np.multiply(g, scale, out=product)
    normal -= np.add.reduce(by_x, axis=axes, keepdims=True) / total
    if weights is not None:
        normal *= weights
    by_x += normal
    by_x *= inverse
    return by_x, by_scale, by_shift


normalize_block = Block("normalize_block", _normalize, _normalize_forward, _normalize_backward)

# --- convolution: max_pool(relu(convolve(x, w) + b)) ------------------------------------------------


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
    check_kernel(x.shape[3], w, window)
    positions = window.positions(x.shape[1:3])
    if pool:
        Window((pool, pool), (pool, pool)).positions(positions)
    x, w = _same_dtype(x, w)
    return kernels.forward(x, w, b, **_window_options(window), relu=relu_after, pool=pool)


def _same_dtype(x: Array, w: Array) -> tuple[Array, Array]:
    """Return both in the larger dtype, as the kernels require."""
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
    dx, dw, db = kernels.backward(g, y, kept, *_same_dtype(x, w), **options, wanted=wanted[0], bias=wanted[2])
    return dx, dw if wanted[1] else None, db


def _window_options(window: Window) -> Options:
    return {"stride": window.stride, "padding": window.padding, "dilation": window.dilation}


_one_group = Block("convolution_block", _convolution, _convolution_forward, _convolution_backward)


def convolution_block(
    x: Value, w: Value, b: Value | None, window: Window, groups: int = 1, relu_after: bool = False, pool: int = 0
) -> Value:
    """Return max_pool(relu(convolve(x, w) + b)); bias, ReLU and pooling are optional.

    Args:
        x: images (examples, height, width, channels).
        w: weights (down, across, channels / groups, outputs).
        b: (outputs,), or None.
        window: of the convolution.
        groups: the channels are split into so many groups.
        relu_after: whether to apply ReLU.
        pool: size and stride of the max pooling, 0 for none.
    """
    block = _one_group if groups == 1 and pool <= kernels.MAX_POOL else functools.partial(_convolution, groups=groups)
    return block(x, w, b, window=window, relu_after=relu_after, pool=pool)
