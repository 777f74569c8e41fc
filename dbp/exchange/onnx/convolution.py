"""Convolutions and transposed convolutions in ONNX: channels first, filters as (filters, channels, *size)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dbp import nn
from dbp.exchange.onnx.activations import activate
from dbp.exchange.onnx.graph import OnnxScope, Shape, Value
from dbp.exchange.onnx.windows import image_of, window_attributes
from dbp.nn.layers.convolution import convolution_window

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def convolution(scope: OnnxScope, layer: Convolution, x: Value) -> Value:
    """Add a convolution of sequences, images or volumes."""
    image = image_of(x.shape)
    window = convolution_window(layer, image)
    shape = (*window.positions(image)[-layer.axes :], layer.filters)
    return _with_filters(scope, layer, "Conv", x, shape, window_attributes(window, layer.axes, layer.padding == "same"))


def separable(scope: OnnxScope, layer: nn.SeparableConv2d, x: Value) -> Value:
    """Add both convolutions of a separable one."""
    for name, part in layer.parts(x.shape[-1]).items():
        x = convolution(scope.inside(name), part, x)
    return x


def transposed_convolution(scope: OnnxScope, layer: Transposed, x: Value) -> Value:
    """Add a transposed convolution; outputs that no window reaches, if the stride exceeds its size, lie at the end."""
    image = image_of(x.shape)
    outputs, window = layer.geometry(image)
    axes = zip(image, outputs, window.stride, window.size, window.dilation, window.padding, strict=True)
    added = [length - ((n - 1) * s + d * (k - 1) + 1 - sum(p)) for n, length, s, k, d, p in axes]
    attributes = window_attributes(window, layer.axes) | {"output_padding": added[-layer.axes :]}
    shape = (*outputs[-layer.axes :], layer.filters)
    return _with_filters(scope, layer, "ConvTranspose", x, shape, attributes)


def _with_filters(
    scope: OnnxScope, layer: Convolution | Transposed, op: str, x: Value, shape: Shape, attributes: dict[str, Any]
) -> Value:
    """Add a convolution operator and the activation.

    Args:
        scope: the graph at this layer.
        layer: the layer, for its bias and activation.
        op: the name of the operator.
        x: the inputs.
        shape: of one example's outputs, channels last.
        attributes: of the operator.
    """
    w = scope.weight("weight")  # (*size, channels, filters), or (*size, filters, channels) of a transposed convolution
    w = w[0] if layer.axes == 1 else w
    *window_axes, next_to_last, last = range(w.ndim)
    weights = [scope.constant("weight", w.transpose(last, next_to_last, *window_axes))]
    if layer.bias:
        weights.append(scope.constant("bias", scope.weight("bias")))
    y = scope.apply(op, scope.channels_first(x), *weights, **attributes, group=layer.groups)
    return activate(scope, layer.activation, replace(y, shape=shape))
