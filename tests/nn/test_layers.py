"""Checks of every kind of layer: derivatives of both orders, types, shapes and independent examples."""

import math

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from tests.autodiff.derivatives import smooth_gradient
from tests.nn.models import DRAW, inputs, start

CASES = {
    "dense": (nn.Dense(3, "tanh"), (4,)),
    "dense relu": (nn.Dense(3, "relu", bias=False), (2, 4)),
    "activation": (nn.Activation("silu"), (4,)),
    "prelu": (nn.PReLU(), (3, 4)),
    "prelu shared": (nn.PReLU(shared=True), (4,)),
    "flatten": (nn.Flatten(), (2, 3)),
    "reshape": (nn.Reshape((3, 2)), (6,)),
    "reshape of any length": (nn.Reshape((-1, 1)), (6,)),
    "conv1d": (nn.Conv1d(4, 3, "tanh", stride=2, padding="same", dilation=2, groups=2), (7, 2)),
    "conv1d relu": (nn.Conv1d(3, 2, "relu", padding=1, bias=False), (5, 2)),
    "conv2d": (nn.Conv2d(4, (3, 2), "gelu", stride=(2, 1), padding="same", dilation=(1, 2), groups=2), (5, 4, 2)),
    "conv2d strided": (nn.Conv2d(3, (3, 2), "tanh", stride=(2, 3), padding=1), (5, 4, 2)),
    "conv2d relu": (nn.Conv2d(3, 2, "relu", padding=1, bias=False), (4, 3, 2)),
    "conv1d causal": (nn.Conv1d(3, 2, "tanh", padding="causal", dilation=2, stride=2), (5, 2)),
    "conv3d": (
        nn.Conv3d(4, (3, 1, 2), "tanh", stride=(1, 2, 1), padding=1, dilation=(1, 1, 2), groups=2),
        (2, 3, 4, 2),
    ),
    "conv3d relu": (nn.Conv3d(3, 2, "relu", padding="same", stride=(2, 1, 1)), (4, 3, 2, 2)),
    "separable_conv2d": (nn.SeparableConv2d(3, (2, 3), "tanh", (1, 2), "same", multiplier=2), (3, 4, 2)),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 3, "tanh", stride=2, dilation=2, groups=2, output_padding=1), (3, 2)),
    "conv_transpose2d": (nn.ConvTranspose2d(3, (3, 2), "tanh", stride=2, padding=1), (3, 3, 2)),
    "max_pool1d": (nn.MaxPool1d(3, 2, "same"), (6, 2)),
    "conv_transpose3d": (nn.ConvTranspose3d(2, (1, 2, 3), "tanh", stride=2, padding="same"), (2, 1, 2, 2)),
    "max_pool3d": (nn.MaxPool3d((1, 3, 2), 2, "same"), (2, 4, 3, 2)),
    "average_pool3d": (nn.AveragePool3d(2, (1, 2, 1), padding=1, dilation=2), (2, 3, 2, 2)),
    "max_pool2d": (nn.MaxPool2d((3, 2), 2, 1), (5, 4, 2)),
    "average_pool1d": (nn.AveragePool1d(3, 2, "same"), (6, 2)),
    "average_pool2d": (nn.AveragePool2d((3, 2), 2, 1), (5, 4, 2)),
    "global_average_pool": (nn.GlobalAveragePool(), (3, 2, 2)),
    "global_max_pool": (nn.GlobalMaxPool(), (3, 2, 2)),
    "upsample": (nn.Upsample((2, 1, 3)), (2, 1, 2, 2)),
    "upsample linear": (nn.Upsample(3, "linear"), (3, 2)),
    "upsample bilinear": (nn.Upsample((2, 3), "bilinear"), (2, 3, 2)),
    "upsample trilinear": (nn.Upsample(2, "trilinear"), (2, 1, 2, 1)),
    "batch_norm": (nn.BatchNorm(), (3, 2)),
    "batch_norm and relu": (nn.Recompute((nn.BatchNorm(), nn.Activation("relu"))), (3, 2)),
    "rms_norm": (nn.RMSNorm(0.1), (3, 4)),
    "layer_norm": (nn.LayerNorm(), (3, 4)),
    "group_norm": (nn.GroupNorm(2), (3, 4)),
    "dropout": (nn.Dropout(0.4), (6,)),
    "random_flip": (nn.RandomFlip("both"), (3, 2, 2)),
    "random_flip of sequences": (nn.RandomFlip(), (4, 2)),
    "random_shift": (nn.RandomShift((1, 2)), (3, 4, 2)),
    "random_shift of sequences": (nn.RandomShift(2), (5, 2)),
    "random_crop": (nn.RandomCrop((2, 3)), (4, 5, 2)),
    "random_crop of sequences": (nn.RandomCrop(2), (5, 2)),
    "random_rotation": (nn.RandomRotation(50), (4, 3, 2)),
    "gaussian_noise": (nn.GaussianNoise(0.3), (2, 3)),
    "cutout": (nn.Cutout((2, 1)), (4, 3, 2)),
    "cutout of sequences": (nn.Cutout(2), (5, 2)),
    "mixup": (nn.Mixup(1.0), (4,)),
    "embedding": (nn.Embedding(4, 3), (5,)),
    "position": (nn.Position(), (3, 2)),
    "position of longer sequences": (nn.Position(length=5), (3, 2)),
    "gru": (nn.GRU(3), (4, 2)),
    "gru last": (nn.GRU(3, sequences=False), (4, 2)),
    "lstm": (nn.LSTM(3), (4, 2)),
    "lstm last": (nn.LSTM(3, sequences=False), (4, 2)),
    "gru stacked": (nn.GRU(2, sequences=False, layers=2, bidirectional=True), (3, 2)),
    "lstm both ways": (nn.LSTM(2, bidirectional=True), (3, 2)),
    "attention of a memory": (nn.Attention(2), ((3, 4), (2, 5))),
    "fourier_features": (nn.FourierFeatures(3, 0.3), (4, 2)),
    "fourier_features given": (nn.FourierFeatures([[0.1, 0.2], [0.3, 0.0]]), (2,)),
    "spectral_conv1d": (nn.SpectralConv1d(3, 2), (5, 2)),
    "spectral_conv1d all frequencies": (nn.SpectralConv1d(2, 3), (4, 2)),
    "spectral_conv2d": (nn.SpectralConv2d(2, (1, 2)), (3, 4, 2)),
    "attention": (nn.Attention(2), (3, 4)),
    "attention causal": (nn.Attention(2, causal=True, bias=False), (3, 4)),
    "concatenate": (nn.Concatenate(), ((3, 2), (3, 4))),
    "concatenate along the first axis": (nn.Concatenate(axis=1), ((2, 3), (1, 3), (2, 3))),
    "add": (nn.Add(), ((3, 2, 4), (1, 1, 4), (3, 2, 4))),
    "subtract": (nn.Subtract(), ((3, 2), (3, 2))),
    "multiply": (nn.Multiply(), ((3, 2, 4), (3, 2, 1), (1, 1, 4))),
    "average": (nn.Average(), ((4,), (4,), (4,))),
    "residual": (nn.Residual((nn.Dense(4, "tanh"), nn.Dense(4)), activation="softplus"), (4,)),
    "residual relu": (nn.Residual((nn.Dense(4, "tanh"), nn.Dense(4)), activation="relu"), (4,)),
    "recompute": (nn.Recompute((nn.Dense(4, "tanh"), nn.Dropout(0.3), nn.BatchNorm(), nn.Dense(3))), (4,)),
    "residual shortcut": (nn.Residual((nn.Dense(3), nn.BatchNorm()), (nn.Dense(3),)), (4,)),
}
CONSTANTS = {"frequencies"}  # which layers draw, and which are never trained


def inputs_of(name, dtype="float64"):
    layer, shape = CASES[name]
    if isinstance(layer, nn.Embedding):
        return layer, np.random.default_rng(2).integers(0, layer.entries, (3, *shape))
    if shape and isinstance(shape[0], tuple):
        return several_in_one(layer, shape), inputs(3, sum(map(math.prod, shape)), seed=2).astype(dtype)
    return layer, inputs(3, *shape, seed=2).astype(dtype)


def several_in_one(layer, shapes):
    """Return a function of rows of numbers, which a layer of several values gets as parts of these shapes."""

    def from_parts(scope, x):
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = [
            ad.take(x, index=(slice(None), slice(end - math.prod(s), end))) for end, s in zip(ends, shapes, strict=True)
        ]
        return layer(scope, tuple(ad.reshape(part, shape=(len(x), *s)) for part, s in zip(parts, shapes, strict=True)))

    return from_parts


def as_function(name, draw):
    """Return the layer as a function of its parameters and, unless these are integers, its inputs; with a point."""
    layer, x = inputs_of(name)
    parameters, running = start(layer, x)
    trained = {path: array for path, array in parameters.items() if path not in CONSTANTS}
    points = [*trained.values()] if isinstance(layer, nn.Embedding) else [*trained.values(), x]

    def function(*arrays):
        found = parameters | dict(zip(trained, arrays, strict=False))
        return layer(nn.use(found, running, draw), arrays[-1] if len(arrays) > len(trained) else x)

    return function, points


def test_every_kind_has_a_case():
    assert {layer.kind for layer, _ in CASES.values()} == set(nn.LAYERS) - {"shared"}  # which tests/nn/layers has


@pytest.mark.parametrize("draw", [None, DRAW], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_both_orders(name, draw):
    function, points = as_function(name, draw)
    ad.check_derivatives(function, *points)
    ad.check_derivatives(smooth_gradient(function), *points, tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_types_and_shapes_are_kept(name, dtype):
    layer, x = inputs_of(name, dtype)
    parameters, running = start(layer, x, dtype)
    leaves = {path: ad.Tensor(array) for path, array in parameters.items() if path not in CONSTANTS}
    if not isinstance(layer, nn.Embedding):
        leaves["x"] = ad.Tensor(x)
    call = nn.call_with(parameters | leaves, running, DRAW)
    output = layer(nn.Scope(call), leaves.get("x", x))
    assert output.dtype == dtype
    for leaf, g in zip(
        leaves.values(), ad.pullback(output, np.ones(output.shape, dtype), [*leaves.values()]), strict=True
    ):
        assert (g.dtype, g.shape) == (dtype, leaf.shape)
    for moments in call.observed.values():
        assert moments.mean.dtype == moments.variance.dtype == dtype
    evaluated = layer(nn.use(parameters, running), x)
    assert (type(evaluated), evaluated.dtype, evaluated.shape) == (np.ndarray, dtype, output.shape)


@pytest.mark.parametrize("name", CASES)
def test_examples_do_not_touch_each_other(name):
    """Batch normalization in training is the exception."""
    layer, x = inputs_of(name)
    parameters, running = start(layer, x)
    whole = layer(nn.use(parameters, running), x)
    for i in range(len(x)):
        np.testing.assert_allclose(
            layer(nn.use(parameters, running), x[i : i + 1])[0], whole[i], rtol=1e-12, atol=1e-14
        )
