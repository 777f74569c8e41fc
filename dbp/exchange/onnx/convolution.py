"""Convolutions and the transposed convolution in ONNX: channels first, filters as (filters, channels, *size)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from dbp import nn
from dbp.autodiff import Window
from dbp.exchange.onnx.activations import activate
from dbp.exchange.onnx.graph import OnnxScope, Shape, Value
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
    """Add a convolution over the last one or two axes of positions, and its activation."""
    shape = (*window.positions(image_of(x.shape))[-axes:], layer.filters)
    attributes = window_attributes(window, axes) | {"group": layer.groups}
    return _with_filters(scope, layer, "Conv", x, shape, w, attributes)


def _with_filters(
    scope: OnnxScope, layer: Convolution, op: str, x: Value, shape: Shape, w: Array, attributes: dict[str, Any]
) -> Value:
    """Add a convolution operator and the activation.

    Args:
        scope: the graph at this layer.
        layer: the layer, for its bias and activation.
        op: the name of the operator.
        x: the inputs.
        shape: of one example's outputs, channels last.
        w: the kernel (*size, channels, filters), or (*size, filters, channels) for a transposed convolution.
        attributes: of the operator.
    """
    *window_axes, next_to_last, last = range(w.ndim)
    weights = [scope.constant("weight", w.transpose(last, next_to_last, *window_axes))]
    if layer.bias:
        weights.append(scope.constant("bias", scope.weight("bias")))
    y = scope.apply(op, scope.channels_first(x), *weights, **attributes)
    return activate(scope, layer.activation, replace(y, shape=shape))


def conv_transpose2d(scope: OnnxScope, layer: nn.ConvTranspose2d, x: Value) -> Value:
    """Add a transposed convolution; outputs that no window reaches, if the stride exceeds its size, lie at the end."""
    size, stride, inputs = pair(layer.size), pair(layer.stride), image_of(x.shape)
    outputs = layer.image_size(inputs, size, stride)
    window = window_on(outputs, size, stride, layer.padding)
    covered = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(inputs, stride, size, window.padding, strict=True)]
    output_padding = [length - reached for length, reached in zip(outputs, covered, strict=True)]
    attributes = window_attributes(window, 2) | {"output_padding": output_padding}
    shape = (*outputs, layer.filters)
    return _with_filters(scope, layer, "ConvTranspose", x, shape, scope.weight("weight"), attributes)
