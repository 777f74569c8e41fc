"""The function that adds each kind of layer to the graph, and layers made of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dbp import nn
from dbp.autodiff import ShapeError
from dbp.errors import UserError
from dbp.exchange.onnx import (
    augmentation,
    convolution,
    dense,
    dropout,
    merging,
    normalization,
    pooling,
    recurrent,
    sequences,
    spectral,
)
from dbp.exchange.onnx.activations import activate
from dbp.exchange.onnx.graph import OnnxScope, Value
from dbp.named_arrays import as_dict


def add(scope: OnnxScope, layer: Any, x: Any) -> Any:
    """Add a layer to the graph: one of the user's own by its method onnx(scope, x), or by the function of its kind.

    Raises:
        UserError: it is the user's own, and has no such method, or that returns no value of the graph.
    """
    if type(layer) not in KINDS and callable(getattr(layer, "onnx", None)):
        y = layer.onnx(scope, x)
        if not isinstance(y, Value):
            raise UserError(f"{scope.path.rstrip('/')}: onnx() must return a value of the graph, but returned {y!r}")
        return y
    if type(layer) not in KINDS:
        name = getattr(layer, "__qualname__", type(layer).__qualname__)
        where = f" at {scope.path.rstrip('/')!r}" if scope.path else ""
        raise UserError(
            f"the model is, or contains{where}, the Python code {name!r}, which cannot be put into ONNX; give a layer "
            "a method onnx(scope, x), build it from dbp's layers, or export its weights as .safetensors or .npz"
        )
    return KINDS[type(layer)](scope, layer, x)


def _sequential(scope: OnnxScope, layer: nn.Sequential, x: Value) -> Value:
    for name, inner in zip(layer.names, layer.layers, strict=True):
        x = add(scope.inside(name), inner, x)
    return x


def graph(scope: OnnxScope, layer: nn.Graph, x: Any) -> Any:
    """Add layers that say what they take: inputs and outputs are values, or dicts of them as those of the model."""
    values = as_dict(x, nn.INPUTS)
    if len(values) == 1:
        values.setdefault(nn.INPUTS, *values.values())
    for step in layer.steps:
        taken = tuple(values[source] for source in step.takes)
        given = taken if len(taken) > 1 else taken[0]
        values[step.name] = add(scope.inside(step.weights or step.name), step.layer, given)
    found = {output: values[name] for output, name in layer.results.items()}
    return found[""] if layer.outputs is None else found


def _residual(scope: OnnxScope, layer: nn.Residual, x: Value) -> Value:
    main, shortcut = layer.paths
    y = add(scope, main, x)
    straight = add(scope.inside("shortcut"), shortcut, x) if shortcut else x
    if y.shape != straight.shape:  # as for lengths of the inputs that the model does not take
        raise ShapeError(f"both paths of a residual layer must have one shape, but have {y.shape} and {straight.shape}")
    both = scope.node("Add", y.name, scope.arranged(straight, y.axes).name)
    return activate(scope, layer.activation, replace(y, name=both))


def _recompute(scope: OnnxScope, layer: nn.Recompute, x: Value) -> Any:
    return add(scope, layer.inner, x)


KINDS: dict[type, Callable[[OnnxScope, Any, Any], Any]] = {
    nn.Dense: dense.dense,
    nn.Activation: dense.activation,
    nn.PReLU: dense.prelu,
    nn.Flatten: dense.flatten,
    nn.Reshape: dense.reshape,
    nn.Conv1d: convolution.convolution,
    nn.Conv2d: convolution.convolution,
    nn.Conv3d: convolution.convolution,
    nn.SeparableConv2d: convolution.separable,
    nn.ConvTranspose1d: convolution.transposed_convolution,
    nn.ConvTranspose2d: convolution.transposed_convolution,
    nn.ConvTranspose3d: convolution.transposed_convolution,
    nn.MaxPool1d: pooling.max_pool,
    nn.MaxPool2d: pooling.max_pool,
    nn.MaxPool3d: pooling.max_pool,
    nn.AveragePool1d: pooling.average_pool,
    nn.AveragePool2d: pooling.average_pool,
    nn.AveragePool3d: pooling.average_pool,
    nn.Upsample: pooling.upsample,
    nn.GlobalAveragePool: pooling.global_average_pool,
    nn.GlobalMaxPool: pooling.global_max_pool,
    nn.BatchNorm: normalization.batch_norm,
    nn.LayerNorm: normalization.layer_norm,
    nn.RMSNorm: normalization.rms_norm,
    nn.GroupNorm: normalization.group_norm,
    nn.Dropout: dropout.dropout,
    nn.RandomCrop: augmentation.random_crop,
    **dict.fromkeys(set(nn.AUGMENTATION_LAYERS) - {nn.RandomCrop}, dropout.dropout),
    nn.Embedding: sequences.embedding,
    nn.Position: sequences.position,
    nn.Attention: sequences.attention,
    nn.FourierFeatures: spectral.fourier_features,
    nn.SpectralConv1d: spectral.spectral_conv1d,
    nn.SpectralConv2d: spectral.spectral_conv2d,
    nn.GRU: recurrent.gru,
    nn.LSTM: recurrent.lstm,
    nn.Concatenate: merging.concatenate,
    nn.Add: merging.elementwise("Add"),
    nn.Subtract: merging.elementwise("Sub"),
    nn.Multiply: merging.elementwise("Mul"),
    nn.Average: merging.average,
    nn.Sequential: _sequential,
    nn.Graph: graph,
    nn.Residual: _residual,
    nn.Recompute: _recompute,
}
