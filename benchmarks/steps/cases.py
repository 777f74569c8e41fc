"""The cases that dbp and its peers train, described without any framework."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

RANKS = 2
CLASSES = 10
LARGE_LAYERS = 4  # of a large case, between layers as wide


class Layer(NamedTuple):
    """A layer of a network.

    Args:
        kind: dense, conv (3 x 3), pool (the largest of 2 x 2) or flatten.
        size: outputs of a dense layer, filters of a convolution.
        relu: whether ReLU follows.
        padding: zeros on every side of a convolution's images.
    """

    kind: str
    size: int = 0
    relu: bool = True
    padding: int = 0


POOL, FLATTEN = Layer("pool"), Layer("flatten")


def _mlp(*widths: int) -> tuple[Layer, ...]:
    """Return dense layers of some widths, with ReLU after all but the last."""
    return (*(Layer("dense", width) for width in widths[:-1]), Layer("dense", widths[-1], relu=False))


def _vgg_block(filters: int) -> tuple[Layer, ...]:
    return Layer("conv", filters, padding=1), Layer("conv", filters, padding=1), POOL


@dataclass(frozen=True)
class Case:
    """A network and its training.

    Args:
        shape: of an example; that of an image is (height, width, channels).
        network: its layers.
        batch: examples of a rank in a step.
        steps: timed in one repetition.
        adam: Adam with learning rate 0.001; else SGD with learning rate 0.01 and momentum 0.9.
        autoencoder: the squared difference to the inputs is the loss; else cross-entropy.
    """

    shape: tuple[int, ...]
    network: tuple[Layer, ...]
    batch: int
    steps: int
    adam: bool = False
    autoencoder: bool = False

    @property
    def images(self) -> bool:
        """Return True if the examples are images."""
        return len(self.shape) == 3


def large_case(parameters: int) -> Case:
    """Return a case of dense layers with about a number of parameters, and examples much smaller than that."""
    width = round(math.sqrt(parameters / LARGE_LAYERS))
    return Case((64,), _mlp(*[width] * (LARGE_LAYERS + 1), CLASSES), batch=256, steps=5, adam=True)


CNN = (Layer("conv", 32), Layer("conv", 64), POOL, FLATTEN, *_mlp(128, CLASSES))
VGG = (*_vgg_block(64), *_vgg_block(128), FLATTEN, *_mlp(256, CLASSES))

CASES = {
    "mlp-small": Case((64,), _mlp(64, CLASSES), 32, 100),
    "mlp": Case((784,), _mlp(512, 512, CLASSES), 128, 60),
    "mlp-adam": Case((784,), _mlp(1024, 1024, CLASSES), 128, 40, adam=True),
    "autoencoder-adam": Case((784,), _mlp(256, 64, 256, 784), 128, 60, adam=True, autoencoder=True),
    "cnn": Case((28, 28, 1), CNN, 64, 15),
    "vgg": Case((32, 32, 3), VGG, 32, 8),
}
