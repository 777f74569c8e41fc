"""A deep autoencoder with tied weights on images of digits, by K-FAC and by Adam (Martens and Grosse 2015).

The decoder has the transposed weights of the encoder, so that each matrix serves twice. K-FAC takes a few large steps
and needs neither a learning rate nor a schedule; Adam takes many small ones, over twice as many epochs:
    dbp run -n 2 -- examples/tied.py
"""

import argparse
from itertools import pairwise

import numpy as np

import dbp
from dbp.autodiff import sigmoid
from dbp.data import HDF5Dataset
from dbp.optim import KFAC, Adam, Cosine
from dbp.parallel import world

WIDTHS = 64, 128, 64, 32, 8


def autoencoder(scope, x):
    """Return images (examples, 64) as logits, from 8 numbers for each."""
    last, down = len(WIDTHS) - 2, []
    for layer, (wide, narrow) in enumerate(pairwise(WIDTHS)):
        down.append(scope.parameter(f"weight_{layer}", (wide, narrow), "glorot_uniform"))
        x = x @ down[layer] + scope.parameter(f"encoder_bias_{layer}", (narrow,), "zeros")
        x = x if layer == last else np.tanh(x)  # the 8 numbers are not bounded
    for layer in range(last, -1, -1):
        x = x @ down[layer].T + scope.parameter(f"decoder_bias_{layer}", (WIDTHS[layer],), "zeros")
        x = np.tanh(x) if layer else x
    return x


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100, help="of K-FAC")
options = parser.parse_args()

train, test = (
    HDF5Dataset(f"dbp:digits-{part}").read(slice(None)).inputs.reshape(-1, 64) / 16 for part in ("train", "test")
)
methods = {
    "Adam": {"optimizer": Adam(3e-3), "schedule": Cosine(), "epochs": 2 * options.epochs, "batch_size": 64},
    "K-FAC": {"optimizer": KFAC(), "epochs": options.epochs, "batch_size": len(train) // 2},
}
trained = {}
for name, settings in methods.items():
    trained[name] = dbp.fit(
        **settings,
        model=autoencoder,
        loss="binary_cross_entropy",
        data=dbp.Data(train=(train, train), test=(test, test)),  # the targets are the inputs
        shards=4,
    )
for name, model in trained.items():
    restored = sigmoid(model.predict(test))  # on all ranks together
    if world().rank == 0:
        error = np.mean((restored - test) ** 2)
        print(f"{name}, {model.epoch} epochs, {model.steps} steps: mean squared error of test images {error:.4f}")
