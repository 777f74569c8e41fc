"""Layers: frozen dataclasses of settings, called with the scope that holds their parameters.

As a layer holds no arrays, a model can be compared, printed and stored in a config.

To add a layer:

1. Write a frozen dataclass with a `kind` in the module of its family: check settings in `__post_init__`, ask `scope`
   for parameters in `__call__`. Parameters in checkpoints are named after `kind`, so it must never change.
2. List its module and class in LAYERS, so that a config can name it, and export it from dbp/nn/__init__.py, among those
   that are imported when they are used. Describe it in docs/config.md.
3. Add it to CASES in tests/nn/test_layers.py, which checks its derivatives, and to TABLES in
   tests/config/test_toml_layers.py; compare its values with PyTorch's in tests/nn/test_layers_as_pytorch.py.
4. For export, add its conversion to KINDS in dbp/exchange/pytorch.py, if it has parameters, and to KINDS in
   dbp/exchange/onnx/layers.py.
5. Add it to a model of tests/nn/test_layers_on_ranks.py: the same bits on any number of ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbp import lazy
from dbp.nn.layers.containers import Recompute, Residual, Sequential, as_model, model_of
from dbp.nn.layers.convolution import Conv1d, Conv2d, Conv3d, SeparableConv2d
from dbp.nn.layers.dense import Activation, Dense, Flatten, PReLU, Reshape
from dbp.nn.layers.dropout import Dropout
from dbp.nn.layers.graph import INPUTS, Graph, Named, Shared
from dbp.nn.layers.layer import Layer
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

if TYPE_CHECKING:
    from dbp.nn.layers.augmentation import (
        AUGMENTATION_LAYERS,
        Cutout,
        GaussianNoise,
        RandomCrop,
        RandomFlip,
        RandomRotation,
        RandomShift,
    )
    from dbp.nn.layers.merging import Add, Average, Concatenate, Multiply, Subtract
    from dbp.nn.layers.mixup import Mixup
    from dbp.nn.layers.recurrent import GRU, LSTM
    from dbp.nn.layers.sequences import Attention, Embedding, Position
    from dbp.nn.layers.spectral import FourierFeatures, SpectralConv1d, SpectralConv2d
    from dbp.nn.layers.transposed_convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
    from dbp.nn.layers.upsampling import Upsample

LAYERS = lazy.Kinds(
    __name__,
    {
        "dense": "dense.Dense",
        "activation": "dense.Activation",
        "prelu": "dense.PReLU",
        "flatten": "dense.Flatten",
        "reshape": "dense.Reshape",
        "conv1d": "convolution.Conv1d",
        "conv2d": "convolution.Conv2d",
        "conv3d": "convolution.Conv3d",
        "separable_conv2d": "convolution.SeparableConv2d",
        "conv_transpose1d": "transposed_convolution.ConvTranspose1d",
        "conv_transpose2d": "transposed_convolution.ConvTranspose2d",
        "conv_transpose3d": "transposed_convolution.ConvTranspose3d",
        "max_pool1d": "pooling.MaxPool1d",
        "max_pool2d": "pooling.MaxPool2d",
        "max_pool3d": "pooling.MaxPool3d",
        "average_pool1d": "pooling.AveragePool1d",
        "average_pool2d": "pooling.AveragePool2d",
        "average_pool3d": "pooling.AveragePool3d",
        "global_average_pool": "pooling.GlobalAveragePool",
        "global_max_pool": "pooling.GlobalMaxPool",
        "upsample": "upsampling.Upsample",
        "batch_norm": "normalization.BatchNorm",
        "layer_norm": "normalization.LayerNorm",
        "rms_norm": "normalization.RMSNorm",
        "group_norm": "normalization.GroupNorm",
        "dropout": "dropout.Dropout",
        "random_flip": "augmentation.RandomFlip",
        "random_shift": "augmentation.RandomShift",
        "random_crop": "augmentation.RandomCrop",
        "random_rotation": "augmentation.RandomRotation",
        "gaussian_noise": "augmentation.GaussianNoise",
        "cutout": "augmentation.Cutout",
        "mixup": "mixup.Mixup",
        "embedding": "sequences.Embedding",
        "position": "sequences.Position",
        "gru": "recurrent.GRU",
        "lstm": "recurrent.LSTM",
        "attention": "sequences.Attention",
        "concatenate": "merging.Concatenate",
        "add": "merging.Add",
        "subtract": "merging.Subtract",
        "multiply": "merging.Multiply",
        "average": "merging.Average",
        "shared": "graph.Shared",
        "fourier_features": "spectral.FourierFeatures",
        "spectral_conv1d": "spectral.SpectralConv1d",
        "spectral_conv2d": "spectral.SpectralConv2d",
        "residual": "containers.Residual",
        "recompute": "containers.Recompute",
    },
)

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


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        return lazy.attribute(__name__, LAYERS.homes | {"AUGMENTATION_LAYERS": "augmentation"}, name)
