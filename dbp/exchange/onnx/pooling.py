"""Pooling and upsampling in ONNX with channels first, and pooling over all positions in any order of axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import OnnxScope, Value
from dbp.exchange.onnx.windows import image_of, window_attributes

MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
AveragePool = nn.AveragePool1d | nn.AveragePool2d | nn.AveragePool3d


def max_pool(scope: OnnxScope, layer: MaxPool, x: Value) -> Value:
    """Add the maximum of every window."""
    return _pooled(scope, layer, x, "MaxPool", {})


def average_pool(scope: OnnxScope, layer: AveragePool, x: Value) -> Value:
    """Add the mean of every window, over its positions inside the image."""
    return _pooled(scope, layer, x, "AveragePool", {"count_include_pad": 0})


def _pooled(scope: OnnxScope, layer: MaxPool | AveragePool, x: Value, op: str, attributes: dict[str, Any]) -> Value:
    image = image_of(x.shape)
    window = layer.window_on(image)
    pooled = scope.apply(
        op, scope.channels_first(x), **window_attributes(window, layer.axes, layer.padding == "same"), **attributes
    )
    return replace(pooled, shape=(*window.positions(image)[-layer.axes :], x.shape[-1]))


def upsample(scope: OnnxScope, layer: nn.Upsample, x: Value) -> Value:
    """Add a resizing by whole factors."""
    factors = layer.factors_for(x.shape)
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    if layer.method == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    scales = scope.constant("scales", [1, 1, *factors], np.float32)
    shape = (*(n * factor for n, factor in zip(x.shape[:-1], factors, strict=True)), x.shape[-1])
    return replace(scope.apply("Resize", scope.channels_first(x), "", scales, **how), shape=shape)


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
