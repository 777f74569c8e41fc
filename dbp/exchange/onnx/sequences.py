"""Embeddings, positions and attention in ONNX."""

from __future__ import annotations

import math

import numpy as np

from dbp import nn
from dbp.exchange.onnx.dense import weighted_sum
from dbp.exchange.onnx.graph import OnnxScope, Value

INT64 = 7  # the number of the type in ONNX


def embedding(scope: OnnxScope, layer: nn.Embedding, x: Value) -> Value:
    """Add a lookup of the rows that the inputs number."""
    x = scope.plain(x)
    numbers = scope.node("Cast", x.name, to=INT64)
    rows = scope.node("Gather", scope.constant("weight", scope.weight("weight")), numbers, axis=0)
    return Value.plain(rows, (*x.shape, layer.units))


def position(scope: OnnxScope, layer: nn.Position, x: Value) -> Value:
    """Add learned numbers to each position."""
    x, weight = scope.plain(x), scope.constant("weight", scope.weight("weight"))
    if layer.length is not None:
        first = scope.constant("first", np.array([0]))
        weight = scope.node("Slice", weight, first, scope.node("Shape", x.name, start=1, end=2))
    return scope.apply("Add", x, weight)


def attention(scope: OnnxScope, layer: nn.Attention, x: Value | tuple[Value, Value]) -> Value:
    """Add scaled dot-product attention over all heads, followed by the output matrix."""
    queries, memory = x if isinstance(x, tuple) else (x, x)
    length, channels = queries.shape
    width = channels // layer.heads
    split = scope.constant("split", np.array([0, 0, layer.heads, width]))

    def part(name: str, of: Value, perm: tuple[int, ...]) -> str:
        projected = weighted_sum(scope.inside(name), of, layer.bias)
        return scope.node("Transpose", scope.node("Reshape", projected.name, split), perm=perm)

    query = part("query", queries, (0, 2, 1, 3))
    key, value = part("key", memory, (0, 2, 3, 1)), part("value", memory, (0, 2, 1, 3))
    scores = scope.node("MatMul", query, key)
    scores = scope.node("Div", scores, scope.constant("root", math.sqrt(width)))
    if layer.causal:
        scores = scope.node("Add", scores, _later(scope, scores))
    gathered = scope.node("MatMul", scope.node("Softmax", scores, axis=-1), value)
    gathered = scope.node("Transpose", gathered, perm=(0, 2, 1, 3))
    joined = scope.node("Reshape", gathered, scope.constant("joined", np.array([0, 0, channels])))
    return weighted_sum(scope.inside("output"), Value.plain(joined, (length, channels)), layer.bias)


def _later(scope: OnnxScope, scores: str) -> str:
    """Add what hides later positions from earlier ones, for whatever lengths the scores have."""
    lengths = scope.node("Shape", scores, start=2, end=4)
    hidden = scope.node("Expand", scope.constant("hidden", np.array([[-1e30]])), lengths)
    return scope.node("Trilu", hidden, scope.constant("above", np.array(1)), upper=1)
