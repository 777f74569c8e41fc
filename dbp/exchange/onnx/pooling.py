"""Pooling in ONNX: over windows with channels first, over all positions in any order of axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value
from dbp.exchange.onnx.windows import image_of, window_attributes
from dbp.nn.layers.window_settings import pair, window_on

Pool = nn.MaxPool1d | nn.MaxPool2d | nn.AveragePool1d | nn.AveragePool2d


def max_pool(scope: OnnxScope, layer: nn.MaxPool1d | nn.MaxPool2d, x: Value) -> Value:
    """Add the maximum of every window."""
    return _pooled(scope, layer, x, "MaxPool", {})


def average_pool(scope: OnnxScope, layer: nn.AveragePool1d | nn.AveragePool2d, x: Value) -> Value:
    """Add the mean of every window, over its positions inside the image."""
    return _pooled(scope, layer, x, "AveragePool", {"count_include_pad": 0})


def _pooled(scope: OnnxScope, layer: Pool, x: Value, op: str, attributes: dict[str, Any]) -> Value:
    axes: Literal[1, 2] = 1 if isinstance(layer, (nn.MaxPool1d, nn.AveragePool1d)) else 2
    size, stride = (pair(v, axes) for v in (layer.size, layer.size if layer.stride is None else layer.stride))
    window = window_on(image_of(x.shape), size, stride, layer.padding, axes=axes)
    pooled = scope.apply(op, scope.channels_first(x), **window_attributes(window, axes), **attributes)
    return replace(pooled, shape=(*window.positions(image_of(x.shape))[-axes:], x.shape[-1]))


def global_average_pool(scope: OnnxScope, _layer: nn.GlobalAveragePool, x: Value) -> Value:
    """Add the mean of every channel over all positions."""
    return _reduced(scope, x, "ReduceMean")


def global_max_pool(scope: OnnxScope, _layer: nn.GlobalMaxPool, x: Value) -> Value:
    """Add the maximum of every channel over all positions."""
    return _reduced(scope, x, "ReduceMax")


def _reduced(scope: OnnxScope, x: Value, op: str) -> Value:
    reduced = sorted(x.graph_axis(axis) for axis in range(1, len(x.shape)))
    axes = scope.constant("axes", np.array(reduced))
    return Value.plain(scope.node(op, x.name, axes, keepdims=0), (x.shape[-1],))
