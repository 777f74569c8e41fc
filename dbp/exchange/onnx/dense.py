"""Weighted sums of all inputs, activations, and changes of shape in ONNX."""

from __future__ import annotations

import math

from dbp import nn
from dbp.exchange.onnx.activations import activate
from dbp.exchange.onnx.graph import Place, Value


def weighted_sum(place: Place, x: Value, bias: bool) -> Value:
    """X W + b along the last axis, of the place's weights."""
    x, w = place.plain(x), place.weight("weight")
    shape, matrix = (*x.shape[:-1], w.shape[1]), place.constant("weight", w)
    if not bias:
        return Value.plain(place.node("MatMul", x.name, matrix), shape)
    shift = place.constant("bias", place.weight("bias"))
    if len(shape) == 1:
        return Value.plain(place.node("Gemm", x.name, matrix, shift), shape)
    return Value.plain(place.node("Add", place.node("MatMul", x.name, matrix), shift), shape)


def dense(place: Place, layer: nn.Dense, x: Value) -> Value:
    """The activated outputs."""
    return activate(place, layer.activation, weighted_sum(place, x, layer.bias))


def activation(place: Place, layer: nn.Activation, x: Value) -> Value:
    """The function of each input."""
    return activate(place, layer.function, x)


def flatten(place: Place, _layer: nn.Flatten, x: Value) -> Value:
    """All numbers of an example in one row, in dbp's order."""
    return place.reshaped(x, (math.prod(x.shape),))


def reshape(place: Place, layer: nn.Reshape, x: Value) -> Value:
    """The numbers of an example in another shape."""
    return place.reshaped(x, layer.shape)
