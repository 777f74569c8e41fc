"""Embeddings, positions and attention in ONNX."""

from __future__ import annotations

import math

import numpy as np

from dbp import nn
from dbp.exchange.onnx.dense import weighted_sum
from dbp.exchange.onnx.graph import Place, Value

INT64 = 7  # ONNX's number of the type


def embedding(place: Place, layer: nn.Embedding, x: Value) -> Value:
    """The rows of the inputs' numbers."""
    x = place.plain(x)
    numbers = place.node("Cast", x.name, to=INT64)
    rows = place.node("Gather", place.constant("weight", place.weight("weight")), numbers, axis=0)
    return Value.plain(rows, (*x.shape, layer.units))


def position(place: Place, _layer: nn.Position, x: Value) -> Value:
    """Adds to each place numbers of its own."""
    return place.apply("Add", place.plain(x), place.constant("weight", place.weight("weight")))


def attention(place: Place, layer: nn.Attention, x: Value) -> Value:
    """What each place gathered, through a last matrix."""
    length, channels = x.shape
    width = channels // layer.heads
    split = place.constant("split", np.array([0, length, layer.heads, width]))

    def part(name: str, perm: tuple[int, ...]) -> str:
        projected = weighted_sum(place.inside(name), x, layer.bias)
        return place.node("Transpose", place.node("Reshape", projected.name, split), perm=perm)

    query, key, value = part("query", (0, 2, 1, 3)), part("key", (0, 2, 3, 1)), part("value", (0, 2, 1, 3))
    scores = place.node("MatMul", query, key)
    scores = place.node("Div", scores, place.constant("root", math.sqrt(width)))
    if layer.causal:
        scores = place.node("Add", scores, place.constant("later", np.triu(np.full((length, length), -1e30), 1)))
    gathered = place.node("MatMul", place.node("Softmax", scores, axis=-1), value)
    gathered = place.node("Transpose", gathered, perm=(0, 2, 1, 3))
    joined = place.node("Reshape", gathered, place.constant("joined", np.array([0, length, channels])))
    return weighted_sum(place.inside("output"), Value.plain(joined, x.shape), layer.bias)
