"""Weighted sums of all inputs, activations, and changes of shape in ONNX."""

from __future__ import annotations

import math

from dbp import nn
from dbp.exchange.onnx.activations import activate
from dbp.exchange.onnx.graph import OnnxScope, Value


def weighted_sum(scope: OnnxScope, x: Value, bias: bool) -> Value:
    """Add X W + b along the last axis, with the weights of the scope."""
    x, w = scope.plain(x), scope.weight("weight")
    shape, matrix = (*x.shape[:-1], w.shape[1]), scope.constant("weight", w)
    if not bias:
        return Value.plain(scope.node("MatMul", x.name, matrix), shape)
    shift = scope.constant("bias", scope.weight("bias"))
    if len(shape) == 1:
        return Value.plain(scope.node("Gemm", x.name, matrix, shift), shape)
    return Value.plain(scope.node("Add", scope.node("MatMul", x.name, matrix), shift), shape)


def dense(scope: OnnxScope, layer: nn.Dense, x: Value) -> Value:
    """Add a dense layer."""
    return activate(scope, layer.activation, weighted_sum(scope, x, layer.bias))


def activation(scope: OnnxScope, layer: nn.Activation, x: Value) -> Value:
    """Add an activation function."""
    return activate(scope, layer.function, x)


def prelu(scope: OnnxScope, _layer: nn.PReLU, x: Value) -> Value:
    """Add a rectifier whose slopes lie along the channels, wherever these are."""
    slope, shape = scope.weight("slope"), [1] * len(x.axes)
    shape[x.graph_axis(-1)] = len(slope)
    return scope.apply("PRelu", x, scope.constant("slope", slope.reshape(shape[1:])))


def flatten(scope: OnnxScope, _layer: nn.Flatten, x: Value) -> Value:
    """Reshape each example to one row, in dbp's order of axes."""
    return scope.reshaped(x, (math.prod(x.shape),))


def reshape(scope: OnnxScope, layer: nn.Reshape, x: Value) -> Value:
    """Reshape each example."""
    return scope.reshaped(x, layer.for_inputs(x.shape), layer.shape)
