"""Layers beside PyTorch's in float64: values, gradients, Hessian and Gauss-Newton products, running moments.

The PyTorch model takes its weights in dbp's form and turns them inside, so that all derivatives compare as they are.
"""

import numpy as np
import pytest

from dbp import nn
from tests.nn.torch_comparison import compare
from tests.nn.torch_layers import Cross

IMAGES = np.random.default_rng(0).standard_normal((3, 7, 6, 4))
VOLUMES = np.random.default_rng(4).standard_normal((2, 4, 5, 3, 4))
SEQUENCES = np.random.default_rng(1).standard_normal((3, 6, 4))
ROWS = np.random.default_rng(2).standard_normal((5, 4))
NUMBERS = np.random.default_rng(3).integers(0, 5, (3, 6))
LAYERS = [
    *((nn.Dense(5, name), ROWS) for name in nn.ACTIVATIONS),
    (nn.Dense(5, "tanh", bias=False), IMAGES),
    (nn.Conv2d(6, 3), IMAGES),
    (nn.Conv2d(6, (3, 2), "tanh", stride=(1, 2), padding=1), IMAGES),
    (nn.Conv2d(6, (2, 3), "relu", padding="same", dilation=(2, 1)), IMAGES),
    (nn.Conv2d(6, 4, "gelu", padding="same", bias=False), IMAGES),
    (nn.Conv2d(6, 3, "relu", stride=2, groups=2), IMAGES),
    (nn.Conv2d(4, 3, "silu", groups=4, padding=2, dilation=2), IMAGES),
    (nn.Conv2d(8, (1, 3), groups=4), IMAGES),
    (nn.Conv1d(6, 3, "tanh", stride=2, padding=1), SEQUENCES),
    (nn.Conv1d(6, 2, "relu", padding="same", dilation=2, groups=2), SEQUENCES),
    (nn.Conv1d(8, 4, "elu", groups=4, bias=False), SEQUENCES),
    (nn.Conv1d(6, 3, "tanh", padding="causal", dilation=2, groups=2), SEQUENCES),
    (nn.Conv3d(6, 3, "relu", padding="same"), VOLUMES),
    (nn.Conv3d(6, (3, 2, 1), "tanh", stride=(1, 2, 1), padding=1, dilation=(2, 1, 1)), VOLUMES),
    (nn.Conv3d(8, (1, 2, 3), groups=4, bias=False), VOLUMES),
    (nn.SeparableConv2d(5, 3, "tanh", 2, 1, multiplier=3), IMAGES),
    (nn.SeparableConv2d(5, (2, 3), "relu", padding="same", dilation=(2, 1), bias=False), IMAGES),
    *((nn.PReLU(shared), x) for shared in (True, False) for x in (ROWS, IMAGES)),
    (nn.RMSNorm(), SEQUENCES),
    (nn.RMSNorm(epsilon=0.1), ROWS),
    (nn.ConvTranspose1d(4, 3, "tanh", stride=3, padding=1, dilation=2, groups=2, output_padding=2), SEQUENCES),
    (nn.ConvTranspose2d(3, 3, "tanh"), IMAGES),
    (nn.ConvTranspose2d(8, 3, stride=2, padding=1, groups=4, output_padding=(0, 1), bias=False), IMAGES),
    (nn.ConvTranspose3d(3, (2, 3, 1), "elu", stride=(1, 2, 2), dilation=(2, 1, 1)), VOLUMES),
    (nn.ConvTranspose2d(3, (2, 4), "softplus", stride=(3, 2), padding=1), IMAGES),
    (nn.BatchNorm(decay=0.7, epsilon=1e-3), ROWS),
    (nn.BatchNorm(), SEQUENCES),
    (nn.BatchNorm(decay=0.0), IMAGES),
    (nn.LayerNorm(), SEQUENCES),
    (nn.LayerNorm(epsilon=0.1), ROWS),
    *((nn.GroupNorm(groups, epsilon=0.01), x) for groups in (1, 2, 4) for x in (IMAGES, SEQUENCES)),
    (nn.Embedding(5, 3), NUMBERS),
    (nn.Position(), SEQUENCES),
    *((layer(3, sequences), SEQUENCES) for layer in (nn.GRU, nn.LSTM) for sequences in (True, False)),
    (nn.GRU(3, layers=2, bidirectional=True), SEQUENCES),
    (nn.LSTM(3, False, layers=3, bidirectional=True), SEQUENCES),
    (nn.SpectralConv1d(3, 4), SEQUENCES),
    (nn.SpectralConv2d(3, (3, 4)), IMAGES),
    (nn.SpectralConv2d(5, 2), IMAGES),
    *((nn.Attention(2, causal), SEQUENCES) for causal in (True, False)),
    (nn.Attention(1, causal=True, bias=False), SEQUENCES),
    *((Cross(nn.Attention(2, causal)), SEQUENCES) for causal in (True, False)),
]


# Those without parameters stand behind one that has some.
POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d((3, 2), stride=(2, 1), padding=1),
    nn.MaxPool2d(2, 1, dilation=(3, 1)),
    nn.AveragePool2d((2, 3)),
    nn.AveragePool2d(3, stride=2, padding=1),
    nn.Upsample((3, 2)),
    nn.Upsample((2, 3), "bilinear"),
    nn.GlobalAveragePool(),
    nn.GlobalMaxPool(),
    nn.Flatten(),
    nn.Reshape((6, 7, 5)),
]
POOLS_OF_VOLUMES = [
    nn.MaxPool3d((2, 3, 1), 1, dilation=(2, 1, 1)),
    nn.MaxPool3d(2, padding=1),
    nn.AveragePool3d(3, 1, 1),
    nn.Upsample(2),
    nn.Upsample(2, "trilinear"),
]
POOLS_ALONG = [
    nn.MaxPool1d(2),
    nn.MaxPool1d(3, 1, 1),
    nn.AveragePool1d(2),
    nn.AveragePool1d(3, 2, 1),
    nn.Upsample(4, "linear"),
    nn.Upsample(3),
    nn.FourierFeatures([[0.1, 0.2, 0.3, 0.4, 0.0], [0.5, -0.1, 0.2, 0.0, 1.0]]),
]


def kind_of(value):
    return "" if isinstance(value, np.ndarray) else value.kind


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch may copy the inputs
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("layer", "x"), LAYERS, ids=kind_of)
def test_layers(layer, x, training):
    compare(layer, x, training)


@pytest.mark.parametrize("pool", POOLS, ids=kind_of)
def test_pooling_of_images(pool):
    compare(nn.Sequential(nn.Conv2d(5, 3, padding=1), pool), IMAGES)
    compare(nn.Sequential(nn.Conv2d(5, 3, "relu", padding=1), pool), IMAGES)


@pytest.mark.parametrize("pool", [*POOLS_OF_VOLUMES, nn.GlobalMaxPool(), nn.GlobalAveragePool()], ids=kind_of)
def test_pooling_of_volumes(pool):
    compare(nn.Sequential(nn.Conv3d(5, 3, "tanh", padding=1), pool), VOLUMES)


@pytest.mark.parametrize("pool", [*POOLS_ALONG, nn.GlobalMaxPool(), nn.GlobalAveragePool()], ids=kind_of)
def test_pooling_of_sequences(pool):
    compare(nn.Sequential(nn.Dense(5), pool), SEQUENCES)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Residual((nn.Dense(6, "tanh"), nn.Dense(4)), activation="sigmoid"), ROWS),
        (nn.Residual((nn.Dense(6), nn.BatchNorm()), (nn.Dense(6, "gelu"),), "relu"), ROWS),
        (nn.Residual((nn.Attention(2), nn.LayerNorm())), SEQUENCES),
        (nn.Residual((nn.Residual((nn.Conv2d(4, 3, padding="same"),)), nn.BatchNorm(0.5)), activation="elu"), IMAGES),
        (nn.Recompute((nn.Dense(6, "tanh"), nn.BatchNorm(), nn.Recompute((nn.Dense(3),)))), ROWS),
    ],
    ids=kind_of,
)
def test_layers_of_layers(layer, x, training):
    compare(layer, x, training)


def test_every_layer_is_compared():
    compared = {type(layer) for layer, _ in LAYERS} | {type(pool) for pool in (*POOLS, *POOLS_OF_VOLUMES, *POOLS_ALONG)}
    # Activations are compared in dense layers; which numbers dropout draws is each library's own.
    random = {nn.Dropout, *nn.AUGMENTATION_LAYERS}
    in_networks = {nn.Activation, nn.Residual, nn.Recompute, nn.Shared, *MERGERS}
    assert set(nn.LAYERS.values()) - compared == in_networks | random


def random_images(rng):
    """Draw some layers for images, each with random settings."""

    def pick(*options):
        return options[rng.integers(len(options))]

    name = pick("relu", "tanh", "gelu", "silu", "elu")
    padded = nn.Conv2d(4, 3, name, padding="same", dilation=pick(1, 2), groups=pick(1, 2, 4))
    return pick(
        nn.Conv2d(pick(4, 8), pick(1, 2, (2, 3)), name, stride=pick(1, (1, 2)), padding=1, groups=pick(1, 2)),
        nn.Residual((padded, nn.BatchNorm(pick(0.9, 0.5))), (nn.Conv2d(4, 1),), pick("relu", "linear")),
        nn.Sequential(padded, nn.MaxPool2d(2, stride=pick(1, 2))),
        nn.Sequential(nn.ConvTranspose2d(4, 2, name, stride=pick(1, 2)), nn.AveragePool2d(2)),
        nn.Sequential(nn.Activation(name), nn.GroupNorm(pick(1, 2, 4))),
        nn.Sequential(nn.BatchNorm(), nn.Activation(name), nn.AveragePool2d(3, 1, 1)),
        nn.Sequential(nn.SeparableConv2d(4, pick(2, (1, 3)), name, padding=1, multiplier=pick(1, 2)), nn.RMSNorm()),
        nn.Sequential(nn.MaxPool2d(2, 1, dilation=pick(1, 2)), nn.PReLU(pick(True, False))),
        nn.Sequential(
            nn.Conv2d(4, 3, padding=1, stride=2), nn.PReLU(), nn.Upsample(pick(2, (1, 2)), pick("nearest", "bilinear"))
        ),
        nn.Sequential(
            nn.Conv2d(4, 2, stride=2),
            nn.ConvTranspose2d(4, 3, name, 2, 1, groups=pick(1, 2), output_padding=pick(0, 1)),
        ),
    )


def random_sequences(rng):
    """Draw some layers for sequences, each with random settings."""

    def pick(*options):
        return options[rng.integers(len(options))]

    return pick(
        nn.Conv1d(4, pick(1, 2, 3), pick("relu", "tanh"), padding="same", dilation=pick(1, 2), groups=pick(1, 2)),
        nn.Residual((nn.LayerNorm(), nn.Attention(pick(1, 2, 4), bool(pick(0, 1))))),
        nn.Residual((nn.LayerNorm(), nn.Dense(7, "gelu"), nn.Dense(4))),
        nn.GRU(4),
        nn.LSTM(4),
        nn.GRU(2, layers=2, bidirectional=True),
        nn.Residual((nn.SpectralConv1d(4, pick(2, 4)),), (nn.Dense(4),), "gelu"),
        nn.Sequential(nn.Position(), nn.BatchNorm(0.8)),
        nn.Recompute((nn.MaxPool1d(2, 1, 1), nn.Dense(4, "sigmoid"))),
        nn.Residual((nn.Conv1d(4, pick(2, 3), "tanh", padding="causal", dilation=pick(1, 2)), nn.RMSNorm())),
        nn.Sequential(nn.ConvTranspose1d(4, 2, stride=2), nn.PReLU(), nn.AveragePool1d(2)),
        nn.Sequential(nn.Upsample(2, pick("nearest", "linear")), nn.Conv1d(4, 2, "elu", stride=2)),
    )


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_of_images(seed, training):
    rng = np.random.default_rng(seed)
    layers = [random_images(rng) for _ in range(3)]
    last_ones = [nn.GlobalAveragePool() if seed % 2 else nn.Flatten(), nn.Dense(5, "tanh"), nn.Dense(3)]
    compare(nn.Sequential(*layers, *last_ones), IMAGES, training)


MERGERS = (nn.Add, nn.Subtract, nn.Multiply, nn.Average, nn.Concatenate)


def random_graph(rng):
    """Draw layers for images of which each takes the outputs of one or several earlier ones."""
    taken, layers = ["inputs"], []

    def append(name, layer, *sources):
        layers.append(nn.Named(layer, name, sources))
        taken.append(name)

    for number in range(4):
        sources = [str(name) for name in rng.choice(taken, 2)]
        append(f"conv{number}", nn.Conv2d(4, 3, "tanh", padding="same"), sources[0])
        append(f"merged{number}", MERGERS[rng.integers(len(MERGERS))](), f"conv{number}", sources[1])
        append(f"narrow{number}", nn.Conv2d(4, 1), f"merged{number}")
        taken.remove(f"merged{number}")
    append("again", nn.Shared("conv0"), taken[-1])
    append("mean", nn.GlobalAveragePool(), "again")
    append("gates", nn.Dense(4, "sigmoid"), "mean")
    append("per_channel", nn.Reshape((1, 1, 4)), "gates")
    append("scaled", nn.Multiply(), "narrow3", "per_channel")
    used = {source for layer in layers for source in layer.takes}
    append("all", nn.Concatenate(), *(name for name in taken if name not in used), "inputs")
    append("end", nn.BatchNorm(), "all")
    append("rows", nn.GlobalAveragePool(), "end")
    return nn.Graph(*layers, nn.Dense(3))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_of_named_layers(seed, training):
    compare(random_graph(np.random.default_rng(seed)), IMAGES, training)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_of_sequences(seed, training):
    rng = np.random.default_rng(seed)
    layers = [random_sequences(rng) for _ in range(3)]
    compare(nn.Sequential(nn.Embedding(5, 4), *layers, nn.GRU(3, sequences=False), nn.Dense(3)), NUMBERS, training)
