"""Normalization in ONNX; batch normalization uses running moments."""

from __future__ import annotations

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value

TYPES = {"float32": 1, "float64": 11}  # the numbers of types in ONNX


def _settings(scope: OnnxScope, epsilon: float) -> dict[str, float]:
    """Return attributes that make operators compute moments in the type of the graph."""
    return {"epsilon": epsilon, "stash_type": TYPES[scope.graph.dtype.name]}


def _scale_and_shift(scope: OnnxScope) -> tuple[str, str]:
    return scope.constant("scale", scope.weight("scale")), scope.constant("shift", scope.weight("shift"))


def batch_norm(scope: OnnxScope, layer: nn.BatchNorm, x: Value) -> Value:
    """Normalize each channel by its running mean and variance."""
    moments = (scope.constant(name, scope.weight(name)) for name in ("running_mean", "running_variance"))
    taken = (*_scale_and_shift(scope), *moments)
    return scope.apply("BatchNormalization", scope.channels_first(x), *taken, epsilon=layer.epsilon)


def layer_norm(scope: OnnxScope, layer: nn.LayerNorm, x: Value) -> Value:
    """Normalize the last axis by its own mean and variance."""
    return scope.apply(
        "LayerNormalization", scope.plain(x), *_scale_and_shift(scope), axis=-1, **_settings(scope, layer.epsilon)
    )


def rms_norm(scope: OnnxScope, layer: nn.RMSNorm, x: Value) -> Value:
    """Divide by the root of the mean square along the last axis, in operators that have had their form for long."""
    x = scope.plain(x)
    squares = scope.node("ReduceMean", scope.node("Mul", x.name, x.name), scope.constant("axes", np.array([-1])))
    root = scope.node("Sqrt", scope.node("Add", squares, scope.constant("epsilon", layer.epsilon)))
    return scope.apply("Mul", scope.apply("Div", x, root), scope.constant("scale", scope.weight("scale")))


def group_norm(scope: OnnxScope, layer: nn.GroupNorm, x: Value) -> Value:
    """Normalize groups of channels by their mean and variance over all positions."""
    return scope.apply(
        "GroupNormalization",
        scope.channels_first(x),
        *_scale_and_shift(scope),
        num_groups=layer.groups,
        **_settings(scope, layer.epsilon),
    )
