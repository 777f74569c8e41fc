"""The deep autoencoder of images of curves by the Hessian-free method or K-FAC, from random weights (Martens 2010).

The images are made as Hinton and Salakhutdinov 2006 describe them: each shows a curve through three random points, so
that six numbers tell all about it, and the network has to find such six numbers. A cost of 40.6 is the least there
is, as ink between 0 and 1 is uncertain. docs/optimizers.md shows how far which method gets.
    dbp run -n 2 -- examples/curves.py
    dbp run -n 2 -- examples/curves.py --method kfac
    dbp run -n 2 -- examples/curves.py --method adam
"""

import argparse
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import dbp
from dbp.autodiff import sigmoid, sum_
from dbp.metrics import Metric
from dbp.nn import BinaryCrossEntropy, Dense
from dbp.optim import KFAC, SGD, Adam, Newton
from dbp.parallel import world
from dbp.random import generator

SIDE, SAMPLES, BRUSH = 28, 60, 0.8  # pixels; points at which a curve is sampled; width of the brush in pixels
WIDTHS = 400, 200, 100, 50, 25


def curves(count, part):
    """Return images (count, 784) of curves through three random points each, with ink from 0 to 1."""
    points = SIDE * generator(0, f"curves to {part}").uniform(0.15, 0.85, (count, 3, 1, 2)).astype(np.float32)
    return np.concatenate([drawn(points[i : i + 500]) for i in range(0, count, 500)])


def drawn(points):
    """Return images of parabolas through three points at t = 0, 1/2 and 1, drawn by a round brush."""
    first, middle, last = points.transpose(1, 0, 2, 3)
    t = np.linspace(0, 1, SAMPLES, dtype=np.float32)[:, None]
    bend = 2 * (first - 2 * middle + last)
    slope = last - first - bend
    length = np.linalg.norm(slope + 2 * t * bend, axis=-1, keepdims=True) / SAMPLES  # of the curve around each sample
    x, y = np.moveaxis(first + t * slope + t**2 * bend, -1, 0)[..., None] - np.arange(SIDE, dtype=np.float32) - 0.5
    across, down = np.exp(-0.5 * (x / BRUSH) ** 2), np.exp(-0.5 * (y / BRUSH) ** 2)
    ink = (down * length).transpose(0, 2, 1) @ across / (np.sqrt(2 * np.pi) * BRUSH)
    return np.minimum(1, ink).reshape(-1, SIDE * SIDE).astype(np.float32)


@dataclass(frozen=True)
class Ink(BinaryCrossEntropy):
    """The cross-entropy of all pixels of an image together."""

    kind: ClassVar[str] = "ink"

    def __call__(self, outputs, targets):
        """Return one loss for each image."""
        return sum_(super().__call__(outputs, targets), axis=1)

    def loss_shape(self, output_shape):  # noqa: ARG002
        """Return the shape of the losses of one image: a single loss."""
        return ()


def squared_errors(outputs, targets, weights):
    """Return the sum of the squared errors of some images, and that of their weights."""
    return [np.sum(weights * np.sum((sigmoid(outputs) - targets) ** 2, axis=1)), np.sum(weights)]


def model():
    """Return the layers of the autoencoder, with sparse random weights."""
    hidden = [Dense(width, "sigmoid", "sparse") for width in WIDTHS]
    return [*hidden, Dense(6, initializer="sparse"), *hidden[::-1], Dense(SIDE * SIDE, initializer="sparse")]


SQUARED_ERROR = Metric("squared_error", squared_errors, lambda sums: sums[0] / sums[1], larger_is_better=False)

METHODS = {  # with the number of images in a mini-batch
    "newton": (Newton(preconditioner="kronecker", iterations=4), 5000),
    "kfac": (KFAC(1e-5, part=0.25, factor_part=0.125, average=0.95), 2000),
    "adam": (Adam(1e-3), 200),
    "sgd": (SGD(1e-2, momentum=0.95), 200),
}


def main():
    """Train as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=METHODS, default="newton")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--out", help="folder for checkpoints and the history")
    options = parser.parse_args()

    optimizer, batch_size = METHODS[options.method]
    train, test = curves(options.examples, "train"), curves(options.examples // 2, "test")
    trained = dbp.fit(
        model=model(),
        loss=Ink(),
        metrics=[SQUARED_ERROR],
        data=dbp.Data(train=(train, train), test=(test, test)),  # the targets are the inputs
        optimizer=optimizer,
        epochs=options.epochs,
        batch_size=min(batch_size, options.examples),
        shards=4,
        out=options.out,
    )
    if world().rank == 0:
        print(f"squared error of a test image: {trained.test['squared_error']:.3f}")


if __name__ == "__main__":
    main()
