"""A U-Net that finds the disks in made images, pixel by pixel, among rectangles and noise (Ronneberger et al. 2015).

On the way down are convolutions and pooling, on the way up transposed convolutions, each beside what the way down had
at that size. The measure is the intersection over union of disks found and disks drawn, in images not seen before:
    dbp run -n 2 -- examples/unet.py
"""

import argparse

import numpy as np

import dbp
from dbp.nn import Concatenate, Conv2d, ConvTranspose2d, Graph, MaxPool2d, Named
from dbp.parallel import world
from dbp.random import generator

SIDE, SHAPES, NOISE = 32, 2, 0.1  # pixels along each edge; disks and rectangles in an image; deviation of the noise


def convolution(filters):
    """Return a layer that keeps the size of an image."""
    return Conv2d(filters, 3, padding="same", activation="relu")


network = Graph(
    convolution(8),
    Named(convolution(8), "fine"),
    MaxPool2d(2),
    convolution(16),
    Named(convolution(16), "middle"),
    MaxPool2d(2),
    convolution(32),
    convolution(32),
    Named(ConvTranspose2d(16, 2, stride=2), "up_to_middle"),
    Named(Concatenate(), from_=("middle", "up_to_middle")),
    convolution(16),
    convolution(16),
    Named(ConvTranspose2d(8, 2, stride=2), "up_to_fine"),
    Named(Concatenate(), from_=("fine", "up_to_fine")),
    convolution(8),
    convolution(8),
    Conv2d(1, 1),
)


def images(count, part):
    """Return images (count, SIDE, SIDE, 1) and, of the same shape, 1 where a disk is and 0 elsewhere."""
    rng = generator(0, f"images to {part}")
    pixels, disks = rng.normal(0, NOISE, (count, SIDE, SIDE)), np.zeros((count, SIDE, SIDE), bool)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for is_disk in [False, True] * SHAPES:
        row, column = rng.uniform(5, SIDE - 5, (2, count, 1, 1))
        height, width = rng.uniform(3, 6, (2, count, 1, 1))
        down, across = rows - row, columns - column
        inside = down**2 + across**2 < height**2 if is_disk else (abs(down) < height) & (abs(across) < width)
        disks = disks | inside if is_disk else disks
        pixels += inside * rng.uniform(0.5, 1.5, (count, 1, 1))
    return pixels[..., None].astype(np.float32), disks[..., None].astype(np.float32)


parser = argparse.ArgumentParser()
parser.add_argument("--images", type=int, default=1000)
parser.add_argument("--epochs", type=int, default=15)
options = parser.parse_args()

test = images(200, "test")
trained = dbp.fit(
    model=network,
    loss="binary_cross_entropy",
    data=dbp.Data(train=images(options.images, "train"), test=test),
    optimizer=dbp.optim.Adam(learning_rate=3e-3),
    schedule="cosine",
    epochs=options.epochs,
    batch_size=20,
    shards=2,
)
found, disks = trained.predict(test[0]) > 0, test[1] > 0  # the model returns logits
if world().rank == 0:
    print(f"intersection over union: {np.sum(found & disks) / np.sum(found | disks):.3f}")
