"""Blocks for activation functions whose derivative is cheap to find together with their value.

Both are computed piece by piece, while a piece is in the cache. The derivative is kept in place of what it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dbp.autodiff import scratch
from dbp.autodiff.blocks.block import Block
from dbp.autodiff.blocks.normal_distribution import fill_with_normal_distribution
from dbp.autodiff.cotangents import array_in
from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.primitives import gelu, relu, sigmoid, silu, tanh
from dbp.autodiff.primitives.error_function import erfc
from dbp.autodiff.tensor import OutputSlot, Value
from dbp.types import Array

GELU_SLOPE, GELU_CUBE = 1.5957691216057308, 0.044715  # gelu(x) = x sigmoid(GELU_SLOPE (x + GELU_CUBE x^3))


class Fused(NamedTuple):
    """An activation function of one number, for use in place.

    Args:
        specification: the function, composed of primitives.
        apply: (z, slope) replaces z by the function of z, and fills slope with the derivative unless that is None.
        slope_of_output: (y, slope) fills slope with the derivative, given the function's value y; None if that does
            not determine it. Then the derivative must be kept.
    """

    specification: Callable[[Value], Value]
    apply: Callable[[Array, Array | None], None]
    slope_of_output: Callable[[Array, Array], None] | None = None


def gelu_exact(x: Value) -> Value:
    """Return x times the normal distribution function of x (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * erfc(x * -math.sqrt(0.5))


def _like(name: str, x: Array) -> Array:
    """Return scratch memory in the form of x."""
    return scratch.buffer(f"activation {name}", x.shape, x.dtype)


def relu_in_place(z: Array) -> None:
    """Replace the elements of a contiguous piece by ReLU of them."""
    np.maximum(z, scratch.zeros(z.shape, z.dtype), out=z)


def _apply_relu(z: Array, slope: Array | None) -> None:
    relu_in_place(z)
    if slope is not None:
        _slope_of_relu(z, slope)


def _slope_of_relu(y: Array, slope: Array) -> None:
    np.greater(y, 0, out=slope)


def _apply_tanh(z: Array, slope: Array | None) -> None:
    np.tanh(z, out=z)
    if slope is not None:
        _slope_of_tanh(z, slope)


def _slope_of_tanh(y: Array, slope: Array) -> None:
    np.multiply(y, y, out=slope)
    np.subtract(1, slope, out=slope)


def _apply_sigmoid(z: Array, slope: Array | None) -> None:
    np.multiply(z, 0.5, out=z)
    np.tanh(z, out=z)
    z *= 0.5
    z += 0.5
    if slope is not None:
        _slope_of_sigmoid(z, slope)


def _slope_of_sigmoid(y: Array, slope: Array) -> None:
    np.subtract(1, y, out=slope)
    slope *= y


def _apply_silu(z: Array, slope: Array | None) -> None:
    s = _like("gate", z)
    np.copyto(s, z)
    _apply_sigmoid(s, None)
    z *= s
    if slope is not None:  # s + y (1 - s)
        np.subtract(1, s, out=slope)
        slope *= z
        slope += s


def _apply_gelu(z: Array, slope: Array | None) -> None:
    square, s = _like("square", z), _like("gate", z)
    np.multiply(z, z, out=square)
    np.multiply(square, 0.5 * GELU_SLOPE * GELU_CUBE, out=s)
    s += 0.5 * GELU_SLOPE
    s *= z
    np.tanh(s, out=s)
    s *= 0.5
    s += 0.5
    z *= s
    if slope is not None:  # s + y (1 - s) GELU_SLOPE (1 + 3 GELU_CUBE x^2)
        square *= 3 * GELU_SLOPE * GELU_CUBE
        square += GELU_SLOPE
        square *= z
        np.subtract(1, s, out=slope)
        slope *= square
        slope += s


def _apply_gelu_exact(z: Array, slope: Array | None) -> None:
    s, bell = _like("gate", z), _like("bell", z) if slope is None else slope
    fill_with_normal_distribution(z, s, bell)
    if slope is not None:  # s + x exp(-x^2 / 2) / sqrt(2 pi)
        slope *= z
        slope *= 1 / math.sqrt(2 * math.pi)
        slope += s
    z *= s


FUSED = {
    "relu": Fused(relu, _apply_relu, _slope_of_relu),
    "tanh": Fused(tanh, _apply_tanh, _slope_of_tanh),
    "sigmoid": Fused(sigmoid, _apply_sigmoid, _slope_of_sigmoid),
    "silu": Fused(silu, _apply_silu),
    "gelu": Fused(gelu, _apply_gelu),
    "gelu_exact": Fused(gelu_exact, _apply_gelu_exact),
}


def times_slope(fused: Fused, g: Array, y: Array, slope: Array | None, memory: Array | None = None) -> Array:
    """Return g times the derivative of an activation function, all matrices of one shape.

    Args:
        fused: the activation function.
        g: the cotangent of its values.
        y: the values.
        slope: the derivative, if it was kept.
        memory: g, if it may be written to.
    """
    product = array_in(memory, g.shape, np.result_type(g, y))
    for rows in row_pieces(*g.shape):
        here = slope[rows] if slope is not None else _like("slope", y[rows])
        if slope is None:
            assert fused.slope_of_output is not None
            fused.slope_of_output(y[rows], here)
        np.multiply(here, g[rows], out=product[rows])
    return product


def _as_rows(x: Array) -> Array:
    """Return x as a matrix of one column, whose pieces are pieces of any shape."""
    return x.reshape(-1, 1)


def _block(name: str) -> Block:
    fused = FUSED[name]

    def apply(x: Array, keep: bool) -> tuple[Array, Array | None]:
        x = np.asarray(x)
        y = np.array(x, np.result_type(x, np.float16) if x.dtype.kind != "f" else x.dtype, order="C")
        slope = np.empty_like(y) if keep else None
        flat, slopes = y.reshape(-1), None if slope is None else slope.reshape(-1)
        for rows in row_pieces(flat.size, 1):
            fused.apply(flat[rows], None if slopes is None else slopes[rows])
        return y, slope

    def backward(
        g: Array,
        _y: Array,
        slope: Array,
        _wanted: Sequence[bool],
        _slots: Sequence[OutputSlot | None],
        _x: Array,
        memory: Array | None = None,
    ) -> Sequence[Array | None]:
        return [np.multiply(g, slope, out=array_in(memory, slope.shape, np.result_type(g, slope)))]

    def tangent(tangents: Sequence[Array | None], _y: Array, slope: Array, _x: Array) -> Array:
        (t,) = tangents
        return t * slope

    return Block(
        f"{name}_block",
        fused.specification,
        lambda x: apply(x, True),
        backward,
        tangent,
        lambda x: apply(x, False)[0],
        new_cotangents=True,
        takes_memory=True,
    )


gelu_block, gelu_exact_block, silu_block = map(_block, ("gelu", "gelu_exact", "silu"))
