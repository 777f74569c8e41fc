"""The cases that dbp and its peers train, described without any framework."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

RANKS = 2
CLASSES = 10
TOKENS = 64  # of a vocabulary
LARGE_LAYERS = 4  # of a large case, between layers as wide
Activation = Literal["linear", "relu", "gelu"]


@dataclass(frozen=True)
class Dense:
    """A dense layer, of the last axis."""

    units: int
    activation: Activation = "relu"


@dataclass(frozen=True)
class Conv:
    """A convolution of images, or of sequences if it has one axis.

    Args:
        filters: channels of its outputs.
        activation: of its outputs.
        size: of the window along each axis.
        stride: steps of the window.
        padding: zeros on every side.
        groups: the channels are split into so many groups, each with filters of its own.
        bias: whether it has one.
        axes: along which the window moves.
    """

    filters: int
    activation: Activation = "relu"
    size: int = 3
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = True
    axes: int = 2


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalization of each channel of images, by the moments of a process's part of the mini-batch."""


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalization of the last axis."""


@dataclass(frozen=True)
class ReLU:
    """The larger of each number and zero."""


@dataclass(frozen=True)
class Pool:
    """The largest of every 2 x 2 values, or of every 2 with one axis."""

    axes: int = 2


@dataclass(frozen=True)
class GlobalAverage:
    """The mean of each channel over all positions."""


@dataclass(frozen=True)
class Flatten:
    """All numbers of an example in one axis."""


@dataclass(frozen=True)
class Embedding:
    """A vector for each token."""

    tokens: int
    units: int


@dataclass(frozen=True)
class Position:
    """The addition of a learned vector to each position."""


@dataclass(frozen=True)
class Attention:
    """Causal multi-head self-attention, with four matrices and their biases."""

    heads: int


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer that returns its state at every position."""

    kind: Literal["lstm", "gru"]
    units: int


@dataclass(frozen=True)
class Residual:
    """The activated sum of layers and of a shortcut, which is the identity where it has no layers."""

    layers: Network
    shortcut: Network = ()
    activation: Activation = "linear"


Layer = (
    Dense
    | Conv
    | BatchNorm
    | LayerNorm
    | ReLU
    | Pool
    | GlobalAverage
    | Flatten
    | Embedding
    | Position
    | Attention
    | Recurrent
    | Residual
)
Network = tuple[Layer, ...]


# --- networks -------------------------------------------------------------------------------------------


def mlp(*widths: int) -> Network:
    """Return dense layers of some widths, with ReLU after all but the last."""
    return *(Dense(width) for width in widths[:-1]), Dense(widths[-1], "linear")


def cnn(classes: int) -> Network:
    """Return two convolutions, pooling and two dense layers."""
    return Conv(32), Conv(64), Pool(), Flatten(), *mlp(128, classes)


def vgg(classes: int) -> Network:
    """Return two pairs of convolutions with pooling, and two dense layers (Simonyan and Zisserman 2014)."""
    pairs = [(Conv(filters, padding=1), Conv(filters, padding=1), Pool()) for filters in (64, 128)]
    return *pairs[0], *pairs[1], Flatten(), *mlp(256, classes)


def _normalized(filters: int, size: int = 3, stride: int = 1, groups: int = 1) -> Network:
    """Return a convolution without bias, and batch normalization."""
    return Conv(filters, "linear", size, stride, size // 2, groups, bias=False), BatchNorm()


def strided(classes: int) -> Network:
    """Return three convolutions with batch normalization, of which the stride makes images smaller."""
    layers = *_normalized(32), ReLU(), *_normalized(64, stride=2), ReLU(), *_normalized(128, stride=2), ReLU()
    return *layers, GlobalAverage(), *mlp(classes)


def resnet(classes: int) -> Network:
    """Return three residual blocks, of which two halve the images (He et al. 2015)."""

    def block(filters: int, stride: int) -> Residual:
        inner = *_normalized(filters, stride=stride), ReLU(), *_normalized(filters)
        return Residual(inner, _normalized(filters, 1, stride) if stride > 1 else (), "relu")

    return *_normalized(32), ReLU(), block(32, 1), block(64, 2), block(128, 2), GlobalAverage(), *mlp(classes)


def mobile(classes: int) -> Network:
    """Return three pairs of depth-wise and 1 x 1 convolutions, with batch normalization (Howard et al. 2017)."""

    def pair(channels: int, filters: int, stride: int) -> Network:
        return *_normalized(channels, 3, stride, channels), ReLU(), *_normalized(filters, 1), ReLU()

    layers = *_normalized(32), ReLU(), *pair(32, 64, 1), *pair(64, 128, 2), *pair(128, 128, 1)
    return *layers, GlobalAverage(), *mlp(classes)


def transformer(tokens: int, units: int = 192, heads: int = 6, blocks: int = 3) -> Network:
    """Return blocks of causal attention and two dense layers, each on normalized inputs (Radford et al. 2019)."""
    attention = Residual((LayerNorm(), Attention(heads)))
    dense = Residual((LayerNorm(), Dense(4 * units, "gelu"), Dense(units, "linear")))
    return Embedding(tokens, units), Position(), *[attention, dense] * blocks, LayerNorm(), *mlp(tokens)


def recurrent(kind: Literal["lstm", "gru"], tokens: int) -> Network:
    """Return an embedding, a recurrent layer, and the scores of the next token."""
    return Embedding(tokens, 128), Recurrent(kind, 256), *mlp(tokens)


def sequences(classes: int) -> Network:
    """Return two convolutions of sequences with long windows, each with pooling."""
    pairs = [(Conv(filters, size=9, padding=4, axes=1), Pool(axes=1)) for filters in (64, 128)]
    return *pairs[0], *pairs[1], GlobalAverage(), *mlp(classes)


# --- cases ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network and its training.

    Args:
        shape: of an example; that of an image is (height, width, channels), of a sequence (length, channels), of
            tokens (length,).
        network: its layers.
        batch: examples of a rank in a step.
        steps: timed in one repetition.
        adam: Adam with learning rate 0.001; else SGD with learning rate 0.01 and momentum 0.9.
        autoencoder: the squared difference to the inputs is the loss; else cross-entropy.
        language: inputs are tokens, and so are the targets, one at each position; else inputs are numbers, and the
            target of an example is a class.
    """

    shape: tuple[int, ...]
    network: Network
    batch: int
    steps: int
    adam: bool = False
    autoencoder: bool = False
    language: bool = False

    @property
    def images(self) -> bool:
        """Return True if the examples are images."""
        return len(self.shape) == 3


def large_case(parameters: int) -> Case:
    """Return a case of dense layers with about a number of parameters, and examples much smaller than that."""
    width = round(math.sqrt(parameters / LARGE_LAYERS))
    return Case((64,), mlp(*[width] * (LARGE_LAYERS + 1), CLASSES), batch=256, steps=5, adam=True)


IMAGE = (32, 32, 3)
CASES = {
    "mlp-small": Case((64,), mlp(64, CLASSES), 32, 100),
    "mlp": Case((784,), mlp(512, 512, CLASSES), 128, 60),
    "mlp-adam": Case((784,), mlp(1024, 1024, CLASSES), 128, 40, adam=True),
    "autoencoder-adam": Case((784,), mlp(256, 64, 256, 784), 128, 60, adam=True, autoencoder=True),
    "cnn": Case((28, 28, 1), cnn(CLASSES), 64, 15),
    "vgg": Case(IMAGE, vgg(CLASSES), 32, 8),
    "bnnet": Case(IMAGE, strided(CLASSES), 32, 12, adam=True),
    "resnet": Case(IMAGE, resnet(CLASSES), 32, 5, adam=True),
    "mobile": Case(IMAGE, mobile(CLASSES), 32, 5, adam=True),
    "transformer": Case((128,), transformer(TOKENS), 8, 5, adam=True, language=True),
    "lstm": Case((64,), recurrent("lstm", TOKENS), 16, 8, adam=True, language=True),
    "gru": Case((64,), recurrent("gru", TOKENS), 16, 8, adam=True, language=True),
    "conv1d": Case((512, 4), sequences(CLASSES), 32, 8, adam=True),
}
