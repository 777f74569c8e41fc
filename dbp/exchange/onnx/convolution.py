"""Convolutions and the transposed convolution in ONNX: channels first, filters as (filters, channels, *size)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from dbp import nn
from dbp.autodiff import Window
from dbp.exchange.onnx.activations import activate
from dbp.exchange.onnx.graph import OnnxScope, Value
from dbp.exchange.onnx.windows import image_of, window_attributes
from dbp.nn.layers.window_settings import pair, window_on
from dbp.types import Array

Convolution = nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d


def conv2d(scope: OnnxScope, layer: nn.Conv2d, x: Value) -> Value:
    """Add a convolution of images."""
    size, stride, dilation = map(pair, (layer.size, layer.stride, layer.dilation))
    window = window_on(image_of(x.shape), size, stride, layer.padding, dilation)
    return _convolved(scope, layer, x, window, scope.weight("weight"), axes=2)


def conv1d(scope: OnnxScope, layer: nn.Conv1d, x: Value) -> Value:
    """Add a convolution of sequences."""
    size, stride, dilation = (pair(v, axes=1) for v in (layer.size, layer.stride, layer.dilation))
    window = window_on(image_of(x.shape), size, stride, layer.padding, dilation, axes=1)
    return _convolved(scope, layer, x, window, scope.weight("weight")[0], axes=1)


def _convolved(
    scope: OnnxScope, layer: nn.Conv1d | nn.Conv2d, x: Value, window: Window, w: Array, axes: Literal[1, 2]
) -> Value:
    positions = window.positions(image_of(x.shape))[-axes:]
    attributes = window_attributes(window, axes) | {"group": layer.groups}
    return _with_filters(scope, layer, "Conv", replace(x, shape=(*positions, layer.filters)), w, attributes)


def _with_filters(
    scope: OnnxScope, layer: Convolution, op: str, x: Value, w: Array, attributes: dict[str, Any]
) -> Value:
    """Add a convolution operator and the activation; the inputs have the shape of the outputs already."""
    *spatial, before, last = range(w.ndim)
    taken = [scope.constant("weight", w.transpose(last, before, *spatial))]
    if layer.bias:
        taken.append(scope.constant("bias", scope.weight("bias")))
    return activate(scope, layer.activation, scope.apply(op, scope.channels_first(x), *taken, **attributes))


def conv_transpose2d(scope: OnnxScope, layer: nn.ConvTranspose2d, x: Value) -> Value:
    """Add a transposed convolution; outputs that no window reaches, if the stride exceeds its size, lie at the end."""
    size, stride, small = pair(layer.size), pair(layer.stride), image_of(x.shape)
    image = layer.image_size(small, size, stride)
    window = window_on(image, size, stride, layer.padding)
    reached = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(small, stride, size, window.padding, strict=True)]
    more = {"output_padding": [whole - part for whole, part in zip(image, reached, strict=True)]}
    grown = replace(x, shape=(*image, layer.filters))
    attributes = window_attributes(window, 2) | more
    return _with_filters(scope, layer, "ConvTranspose", grown, scope.weight("weight"), attributes)
