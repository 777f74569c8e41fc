"""Layers that make one value of several in ONNX: in the order of axes of the first of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dbp import nn
from dbp.autodiff import ShapeError
from dbp.exchange.onnx.graph import OnnxScope, Value

Merger = Callable[[OnnxScope, Any, Sequence[Value]], Value]


def concatenate(scope: OnnxScope, layer: nn.Concatenate, x: Sequence[Value]) -> Value:
    """Join values along an axis."""
    first, *others = x
    axis = layer.axis % len(first.axes)
    lengths = [value.shape[axis - 1] for value in x]
    if len({(*value.shape[: axis - 1], *value.shape[axis:]) for value in x}) > 1:
        raise ShapeError(f"{[value.shape for value in x]} do not fit side by side")  # for other lengths of the inputs
    shape = (*first.shape[: axis - 1], sum(lengths), *first.shape[axis:])
    names = (scope.arranged(value, first.axes).name for value in others)
    return replace(scope.apply("Concat", first, *names, axis=first.graph_axis(axis)), shape=shape)


def elementwise(op: str) -> Merger:
    """Return the function that adds an operator of two values, for any number of them."""

    def merged(scope: OnnxScope, _layer: Any, x: Sequence[Value]) -> Value:
        together = x[0]
        for value in x[1:]:
            shape = tuple(np.broadcast_shapes(together.shape, value.shape))
            both = scope.apply(op, together, scope.arranged(value, together.axes).name)
            together = replace(both, shape=shape)
        return together

    return merged


def average(scope: OnnxScope, layer: nn.Average, x: Sequence[Value]) -> Value:
    """Add the mean of values."""
    return scope.apply("Div", elementwise("Add")(scope, layer, x), scope.constant("count", float(len(x))))
