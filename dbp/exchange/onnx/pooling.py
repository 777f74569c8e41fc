"""Pooling in ONNX: over windows channels first, over all places in any order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from dbp import nn
from dbp.exchange.onnx.graph import Place, Value
from dbp.exchange.onnx.windows import image_of, window_attributes
from dbp.nn.layers.window_settings import pair, window_on

Pool = nn.MaxPool1d | nn.MaxPool2d | nn.AveragePool1d | nn.AveragePool2d


def max_pool(place: Place, layer: nn.MaxPool1d | nn.MaxPool2d, x: Value) -> Value:
    """The largest value of every window."""
    return _pooled(place, layer, x, "MaxPool", {})


def average_pool(place: Place, layer: nn.AveragePool1d | nn.AveragePool2d, x: Value) -> Value:
    """The mean of every window, over the places within the image."""
    return _pooled(place, layer, x, "AveragePool", {"count_include_pad": 0})


def _pooled(place: Place, layer: Pool, x: Value, op: str, attributes: dict[str, Any]) -> Value:
    axes: Literal[1, 2] = 1 if isinstance(layer, (nn.MaxPool1d, nn.AveragePool1d)) else 2
    size, stride = (pair(v, axes) for v in (layer.size, layer.size if layer.stride is None else layer.stride))
    window = window_on(image_of(x.shape), size, stride, layer.padding, axes=axes)
    pooled = place.apply(op, place.channels_first(x), **window_attributes(window, axes), **attributes)
    return replace(pooled, shape=(*window.positions(image_of(x.shape))[-axes:], x.shape[-1]))


def global_average_pool(place: Place, _layer: nn.GlobalAveragePool, x: Value) -> Value:
    """The mean of every channel over all places."""
    return _reduced(place, x, "ReduceMean")


def global_max_pool(place: Place, _layer: nn.GlobalMaxPool, x: Value) -> Value:
    """The largest value of every channel over all places."""
    return _reduced(place, x, "ReduceMax")


def _reduced(place: Place, x: Value, op: str) -> Value:
    places = sorted(x.place_of(axis) for axis in range(1, len(x.shape)))
    axes = place.constant("axes", np.array(places))
    return Value.plain(place.node(op, x.name, axes, keepdims=0), (x.shape[-1],))
