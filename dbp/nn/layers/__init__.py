"""Layers: frozen dataclasses of settings, called with the scope that holds their parameters.

As a layer holds no arrays, a model can be compared, printed and stored in a config.

To add a layer:

1. Write a frozen dataclass with a `kind` in the module of its family: check settings in `__post_init__`, ask `scope`
   for parameters in `__call__`. Parameters in checkpoints are named after `kind`, so it must never change.
2. List the class in LAYERS, so that a config can name it, export it from dbp/nn/__init__.py, and describe it in
   docs/config.md.
3. Add it to CASES in tests/nn/test_layers.py, which checks its derivatives, and to TABLES in
   tests/config/test_toml_layers.py; compare its values with PyTorch's in tests/nn/test_layers_as_pytorch.py.
4. For export, add its conversion to KINDS in dbp/exchange/pytorch.py, if it has parameters, and to KINDS in
   dbp/exchange/onnx/layers.py.
5. Add it to a model of tests/nn/test_layers_on_ranks.py: the same bits on any number of ranks.
"""

from dbp.nn.layers.augmentation import Cutout, GaussianNoise, RandomCrop, RandomFlip, RandomRotation, RandomShift
from dbp.nn.layers.containers import Recompute, Residual, Sequential, as_model, model_of
from dbp.nn.layers.convolution import Conv1d, Conv2d, Conv3d, SeparableConv2d
from dbp.nn.layers.dense import Activation, Dense, Flatten, PReLU, Reshape
from dbp.nn.layers.dropout import Dropout
from dbp.nn.layers.graph import INPUTS, Graph, Named, Shared
from dbp.nn.layers.layer import Layer
from dbp.nn.layers.merging import Add, Average, Concatenate, Multiply, Subtract
from dbp.nn.layers.mixup import Mixup
from dbp.nn.layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from dbp.nn.layers.pooling import (
    AveragePool1d,
    AveragePool2d,
    AveragePool3d,
    GlobalAveragePool,
    GlobalMaxPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from dbp.nn.layers.recurrent import GRU, LSTM
from dbp.nn.layers.sequences import Attention, Embedding, Position
from dbp.nn.layers.spectral import FourierFeatures, SpectralConv1d, SpectralConv2d
from dbp.nn.layers.transposed_convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from dbp.nn.layers.upsampling import Upsample

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Dense,
        Activation,
        PReLU,
        Flatten,
        Reshape,
        Conv1d,
        Conv2d,
        Conv3d,
        SeparableConv2d,
        ConvTranspose1d,
        ConvTranspose2d,
        ConvTranspose3d,
        MaxPool1d,
        MaxPool2d,
        MaxPool3d,
        AveragePool1d,
        AveragePool2d,
        AveragePool3d,
        GlobalAveragePool,
        GlobalMaxPool,
        Upsample,
        BatchNorm,
        LayerNorm,
        RMSNorm,
        GroupNorm,
        Dropout,
        RandomFlip,
        RandomShift,
        RandomCrop,
        RandomRotation,
        GaussianNoise,
        Cutout,
        Mixup,
        Embedding,
        Position,
        GRU,
        LSTM,
        Attention,
        Concatenate,
        Add,
        Subtract,
        Multiply,
        Average,
        Shared,
        FourierFeatures,
        SpectralConv1d,
        SpectralConv2d,
        Residual,
        Recompute,
    )
}

# Layers that change examples in training only, and have no parameters.
AUGMENTATION_LAYERS = (RandomFlip, RandomShift, RandomCrop, RandomRotation, GaussianNoise, Cutout, Mixup)

__all__ = [
    "AUGMENTATION_LAYERS",
    "GRU",
    "INPUTS",
    "LAYERS",
    "LSTM",
    "Activation",
    "Add",
    "Attention",
    "Average",
    "AveragePool1d",
    "AveragePool2d",
    "AveragePool3d",
    "BatchNorm",
    "Concatenate",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Cutout",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "FourierFeatures",
    "GaussianNoise",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Graph",
    "GroupNorm",
    "Layer",
    "LayerNorm",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Mixup",
    "Multiply",
    "Named",
    "PReLU",
    "Position",
    "RMSNorm",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomShift",
    "Recompute",
    "Reshape",
    "Residual",
    "SeparableConv2d",
    "Sequential",
    "Shared",
    "SpectralConv1d",
    "SpectralConv2d",
    "Subtract",
    "Upsample",
    "as_model",
    "model_of",
]
