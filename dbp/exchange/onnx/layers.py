"""Which function puts which kind of layer into the graph, and layers made of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dbp import nn
from dbp.errors import UserError
from dbp.exchange.onnx import convolution, dense, normalization, pooling, recurrent, sequences
from dbp.exchange.onnx.activations import activate
from dbp.exchange.onnx.graph import Place, Value


def add(place: Place, layer: Any, x: Value) -> Value:
    """Put a layer into the graph; UserError for one of the user's own."""
    if type(layer) not in KINDS:
        name = getattr(layer, "__qualname__", type(layer).__qualname__)
        where = f" at {place.path.rstrip('/')!r}" if place.path else ""
        raise UserError(
            f"the model is, or contains{where}, the Python code {name!r}, which cannot be put into ONNX; export its "
            "weights as .safetensors or .npz, or build it from dbp's layers"
        )
    return KINDS[type(layer)](place, layer, x)


def _sequential(place: Place, layer: nn.Sequential, x: Value) -> Value:
    for name, inner in zip(layer.names, layer.layers, strict=True):
        x = add(place.inside(name), inner, x)
    return x


def _residual(place: Place, layer: nn.Residual, x: Value) -> Value:
    y = _sequential(place, nn.Sequential(*layer.layers), x)
    straight = _sequential(place.inside("shortcut"), nn.Sequential(*layer.shortcut), x) if layer.shortcut else x
    both = place.node("Add", y.name, place.arranged(straight, y.axes).name)
    return activate(place, layer.activation, replace(y, name=both))


def _recompute(place: Place, layer: nn.Recompute, x: Value) -> Value:
    return _sequential(place, nn.Sequential(*layer.layers), x)


KINDS: dict[type, Callable[[Place, Any, Value], Value]] = {
    nn.Dense: dense.dense,
    nn.Activation: dense.activation,
    nn.Flatten: dense.flatten,
    nn.Reshape: dense.reshape,
    nn.Conv1d: convolution.conv1d,
    nn.Conv2d: convolution.conv2d,
    nn.ConvTranspose2d: convolution.conv_transpose2d,
    nn.MaxPool1d: pooling.max_pool,
    nn.MaxPool2d: pooling.max_pool,
    nn.AveragePool1d: pooling.average_pool,
    nn.AveragePool2d: pooling.average_pool,
    nn.GlobalAveragePool: pooling.global_average_pool,
    nn.GlobalMaxPool: pooling.global_max_pool,
    nn.BatchNorm: normalization.batch_norm,
    nn.LayerNorm: normalization.layer_norm,
    nn.GroupNorm: normalization.group_norm,
    nn.Dropout: normalization.dropout,
    nn.Embedding: sequences.embedding,
    nn.Position: sequences.position,
    nn.Attention: sequences.attention,
    nn.GRU: recurrent.gru,
    nn.LSTM: recurrent.lstm,
    nn.Sequential: _sequential,
    nn.Residual: _residual,
    nn.Recompute: _recompute,
}
