"""The layers of the cases as dbp's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases

from dbp import nn


def layers_of(network: cases.Network) -> tuple[nn.Layer, ...]:
    """Return a network as dbp's layers."""
    return tuple(MAKERS[type(layer)](layer) for layer in network)


def _convolution(layer: cases.Conv) -> nn.Layer:
    """Return a convolution of images or sequences."""
    made = nn.Conv2d if layer.axes == 2 else nn.Conv1d
    how = {name: getattr(layer, name) for name in ("stride", "padding", "groups", "bias")}
    return made(layer.filters, layer.size, layer.activation, **how)


MAKERS: dict[type[cases.Layer], Callable[[Any], nn.Layer]] = {
    cases.Dense: lambda layer: nn.Dense(layer.units, layer.activation),
    cases.Conv: _convolution,
    cases.BatchNorm: lambda _: nn.BatchNorm(),
    cases.LayerNorm: lambda _: nn.LayerNorm(),
    cases.ReLU: lambda _: nn.Activation("relu"),
    cases.Pool: lambda layer: nn.MaxPool2d(2) if layer.axes == 2 else nn.MaxPool1d(2),
    cases.GlobalAverage: lambda _: nn.GlobalAveragePool(),
    cases.Flatten: lambda _: nn.Flatten(),
    cases.Embedding: lambda layer: nn.Embedding(layer.tokens, layer.units),
    cases.Position: lambda _: nn.Position(),
    cases.Attention: lambda layer: nn.Attention(layer.heads, causal=True),
    cases.Recurrent: lambda layer: {"lstm": nn.LSTM, "gru": nn.GRU}[layer.kind](layer.units),
    cases.Residual: lambda layer: nn.Residual(layers_of(layer.layers), layers_of(layer.shortcut), layer.activation),
}
